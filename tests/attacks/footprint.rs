//! Measures what an attack costs the relay: memory, processor time, descriptors.

use std::fs;

use rustix::process::{Resource, getrlimit};

use crate::harness::Relay;
use crate::processor::processor_ticks;

const KIB: u64 = 1024;
pub(crate) const MIB: u64 = 1024 * KIB;

/// A relay that logs only its start and stop, so that logging is not part of an attack's cost, and that sends no
/// pings, even if the attack takes long.
pub(crate) fn quiet_relay(flags: &[&str]) -> Relay {
    Relay::start_with(&[&["--ping-interval", "1h"], flags].concat(), &[("RUST_LOG", "")])
}

/// The number of connections that the limit on open files allows, up to `wanted`. Other tests run at the same time.
pub(crate) fn connections_allowed(wanted: usize) -> usize {
    apptuner_relay::raise_file_limit().unwrap();
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let count = wanted.min(usize::try_from(limit).unwrap_or(usize::MAX) / 4);
    if count < wanted {
        eprintln!("only {count} connections of {wanted}: the limit on open files is {limit}");
    }
    count
}

/// The relay's use of resources when an attack began.
pub(crate) struct Footprint<'a> {
    relay: &'a Relay,
    processor_ticks: u64,
    memory_peak_bytes: u64,
}

impl<'a> Footprint<'a> {
    pub(crate) fn of(relay: &'a Relay) -> Self {
        Self { relay, processor_ticks: processor_ticks(relay), memory_peak_bytes: memory_peak_bytes(relay) }
    }

    /// Processor time since then, in hundredths of a second.
    pub(crate) fn processor_ticks(&self) -> u64 {
        processor_ticks(self.relay) - self.processor_ticks
    }

    /// Requires that the relay's memory peak has grown by at most `bytes`.
    #[track_caller]
    pub(crate) fn assert_memory_grew_at_most(&self, bytes: u64) {
        let grown = memory_peak_bytes(self.relay) - self.memory_peak_bytes;
        eprintln!("memory: {} KiB of {} KiB", grown / KIB, bytes / KIB);
        assert!(grown <= bytes, "{} KiB more, of {} KiB allowed", grown / KIB, bytes / KIB);
    }

    /// Requires that the relay has used at most `seconds` of processor time.
    #[track_caller]
    pub(crate) fn assert_took_at_most(&self, seconds: u64) {
        let ticks = self.processor_ticks();
        eprintln!("processor: {ticks} of {}", seconds * 100);
        assert!(ticks <= seconds * 100, "{ticks} hundredths of a second, of {seconds} s allowed");
    }
}

/// The peak of its resident memory: `VmHWM` of `proc_pid_status(5)`.
fn memory_peak_bytes(relay: &Relay) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", relay.process_id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * KIB
}

/// The number of open files of the relay.
pub(crate) fn descriptors(relay: &Relay) -> usize {
    descriptors_below(relay, usize::MAX)
}

/// The number of descriptors below `limit`. Inherited ones may be above a limit that was set later.
pub(crate) fn descriptors_below(relay: &Relay, limit: usize) -> usize {
    let files = fs::read_dir(format!("/proc/{}/fd", relay.process_id())).unwrap();
    let number = |file: std::io::Result<fs::DirEntry>| file.unwrap().file_name().to_str().unwrap().parse();
    files.map(|file| number(file).unwrap()).filter(|number: &usize| *number < limit).count()
}
