//! What the system tells of this process.

use std::fs;

use rustix::param::page_size;
use rustix::time::{ClockId, clock_gettime};

use super::limits::file_limit;
use crate::admin::Process;

/// Reads it anew. Takes a few microseconds, however many descriptors are open: whoever serves knows `open_fds`,
/// where the system does not tell it at once.
pub(in crate::net) fn read(open_fds: u64) -> Process {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let cpu_micros = u64::try_from(used.tv_sec * 1_000_000 + used.tv_nsec / 1000).ok();
    let [virtual_bytes, resident_bytes] = memory_bytes();
    Process {
        cpu_micros,
        resident_bytes,
        virtual_bytes,
        open_fds: Some(listed_fds().unwrap_or(open_fds)),
        max_fds: Some(file_limit() as u64),
        log_lines_dropped: None,
    }
}

/// Memory mapped and in use; see proc(5).
fn memory_bytes() -> [Option<u64>; 2] {
    let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = pages.split(' ').map(|pages| pages.parse::<u64>().ok());
    [(); 2].map(|()| Some(pages.next()?? * page_size() as u64))
}

/// What Linux 6.2 and later say of the directory of descriptors; older ones say 0.
fn listed_fds() -> Option<u64> {
    fs::metadata("/proc/self/fd").ok().map(|directory| directory.len()).filter(|&count| count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn process_is_told_of_as_the_system_knows_it() {
        let process = read(7);
        let resident = process.resident_bytes.unwrap();
        assert!((100_000..process.virtual_bytes.unwrap()).contains(&resident), "{resident}");
        assert!(process.cpu_micros.unwrap() > 0);
        assert!(process.open_fds.unwrap() >= 3 && process.open_fds <= process.max_fds);
    }
}
