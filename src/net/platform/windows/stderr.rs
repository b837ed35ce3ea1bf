//! Standard error.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many lines could not be written.
#[derive(Debug, Default)]
pub struct Dropped {
    /// Since the start; for the metrics as well.
    pub total: Arc<AtomicU64>,
    /// As many of them as the log itself has told of.
    told: AtomicU64,
}

impl Dropped {
    /// How many of them the log has yet to tell of.
    pub fn untold(&self) -> u64 {
        self.total.load(Ordering::Relaxed).saturating_sub(self.told.load(Ordering::Relaxed))
    }
}

/// Where log lines go. One that cannot be written is dropped and counted.
#[derive(Debug)]
pub struct LogOutput {
    dropped: Arc<Dropped>,
}

impl LogOutput {
    /// Standard error, and what counts the lines that are dropped.
    pub const fn new(dropped: Arc<Dropped>) -> Self {
        Self { dropped }
    }
}

impl Write for LogOutput {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        if io::stderr().write_all(record).is_ok() {
            self.dropped.told.store(self.dropped.total.load(Ordering::Relaxed), Ordering::Relaxed);
        } else {
            self.dropped.total.fetch_add(1, Ordering::Relaxed);
        }
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the last that is ever written: why the process ends.
pub fn write_last(text: &str) {
    // There is nobody left to be told.
    let _ = io::stderr().write_all(text.as_bytes());
}
