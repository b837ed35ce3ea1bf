//! The processor time that a relay takes, as the kernel counts it.

use std::thread;
use std::time::Duration;

use crate::harness::Relay;

/// Time for what was set in motion to come to rest, and then to be watched.
const SETTLING: Duration = Duration::from_millis(300);
const WATCHED: Duration = Duration::from_millis(700);
/// Hundredths of a second of processor time allowed meanwhile; a busy loop takes some 70.
const RESTING_TICKS_MAX: u64 = 25;

/// Requires that the relay uses hardly any processor time from here on.
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
