//! The processor time of a relay, as counted by the kernel.

use std::thread;
use std::time::Duration;

use crate::harness::Relay;

/// Time to come to rest before the measurement.
const SETTLING: Duration = Duration::from_millis(300);
const WATCHED: Duration = Duration::from_millis(700);
/// Processor time allowed during the measurement, in hundredths of a second. A busy loop takes about 70.
const RESTING_TICKS_MAX: u64 = 25;

/// Requires that the relay uses almost no processor time from now on.
pub(crate) fn assert_rests(relay: &Relay) {
    thread::sleep(SETTLING);
    let before = processor_ticks(relay);
    thread::sleep(WATCHED);
    let used = processor_ticks(relay) - before;
    assert!(used <= RESTING_TICKS_MAX, "{used} hundredths of a second in {WATCHED:?}");
}

/// User and system time so far, in hundredths of a second (`proc_pid_stat(5)`, fields 14 and 15).
pub(crate) fn processor_ticks(relay: &Relay) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", relay.process_id())).unwrap();
    let (_, behind_name) = stat.rsplit_once(')').unwrap();
    let fields: Vec<_> = behind_name.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
