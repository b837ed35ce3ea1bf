//! The figures of the process in the metrics.

/// The figures of the process. The host reads them for each request of metrics. `None` means that the system does not
/// provide the figure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Processor time used, in microseconds.
    pub cpu_micros: Option<u64>,
    /// Resident memory, in bytes.
    pub resident_bytes: Option<u64>,
    /// Virtual memory, in bytes.
    pub virtual_bytes: Option<u64>,
    /// Open descriptors.
    pub open_fds: Option<u64>,
    /// The limit on open descriptors.
    pub max_fds: Option<u64>,
    /// Log lines that could not be written.
    pub log_lines_dropped: Option<u64>,
}
