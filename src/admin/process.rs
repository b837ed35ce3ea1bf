//! What the system knows of the process.

/// Read by the host when somebody asks for metrics; what it cannot tell is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Processor time used, in microseconds.
    pub cpu_micros: Option<u64>,
    /// Memory that is in use, in bytes.
    pub resident_bytes: Option<u64>,
    /// Memory that is mapped, in bytes.
    pub virtual_bytes: Option<u64>,
    /// Open descriptors.
    pub open_fds: Option<u64>,
    /// As many as may be open.
    pub max_fds: Option<u64>,
    /// Lines of the log that could not be written.
    pub log_lines_dropped: Option<u64>,
}
