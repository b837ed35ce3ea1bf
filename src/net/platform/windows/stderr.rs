//! The log on standard error.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts log lines that could not be written.
#[derive(Debug, Default)]
pub struct Dropped {
    /// Since the start. The metrics show it, too.
    pub total: Arc<AtomicU64>,
    /// Part of `total` that the log has reported.
    reported: AtomicU64,
}

impl Dropped {
    /// The number of dropped lines that the log has not reported yet.
    pub fn unreported(&self) -> u64 {
        self.total.load(Ordering::Relaxed).saturating_sub(self.reported.load(Ordering::Relaxed))
    }
}

/// Writes log lines to standard error. A line that cannot be written is dropped and counted.
#[derive(Debug)]
pub struct LogOutput {
    dropped: Arc<Dropped>,
}

impl LogOutput {
    /// An output that counts dropped lines in `dropped`.
    pub const fn new(dropped: Arc<Dropped>) -> Self {
        Self { dropped }
    }
}

impl Write for LogOutput {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        if io::stderr().write_all(record).is_ok() {
            self.dropped.reported.store(self.dropped.total.load(Ordering::Relaxed), Ordering::Relaxed);
        } else {
            self.dropped.total.fetch_add(1, Ordering::Relaxed);
        }
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the last text of the process: why it ends.
pub fn write_last(text: &str) {
    // An error cannot be reported anywhere.
    let _ = io::stderr().write_all(text.as_bytes());
}
