//! The process's use of the system, for the metrics.

use std::fs;

use rustix::param::page_size;
use rustix::time::{ClockId, clock_gettime};

use super::limits::file_limit;
use crate::admin::Process;

/// Reads the current figures. Takes a few microseconds, for any number of open descriptors: where the system cannot
/// count them at once, the caller's `open_fds` is used.
pub(in crate::net) fn read(open_fds: u64) -> Process {
    // User and system time of all threads.
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

/// Bytes of virtual and of resident memory; see proc(5).
fn memory_bytes() -> [Option<u64>; 2] {
    // The first two fields are virtual and resident pages. Only Linux has this file.
    let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = pages.split(' ').map(|pages| pages.parse::<u64>().ok());
    [(); 2].map(|()| Some(pages.next()?? * page_size() as u64))
}

/// The number of open descriptors. Linux 6.2 and later give it as the size of the directory; older versions give 0.
fn listed_fds() -> Option<u64> {
    fs::metadata("/proc/self/fd").ok().map(|directory| directory.len()).filter(|&count| count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn figures_of_the_process_are_plausible() {
        let process = read(7);
        let resident = process.resident_bytes.unwrap();
        assert!((100_000..process.virtual_bytes.unwrap()).contains(&resident), "{resident}");
        assert!(process.cpu_micros.unwrap() > 0);
        assert!(process.open_fds.unwrap() >= 3 && process.open_fds <= process.max_fds);
    }
}
