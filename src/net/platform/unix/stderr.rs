//! The log on standard error. Writing never waits for the reader.
//!
//! Otherwise a parent that never reads the pipe, a stopped terminal or a full disk would stop the relay at its next
//! log line. `O_NONBLOCK` is a flag of the open file description, which other programs may share, so it is never set
//! on standard error itself:
//!
//! | standard error | how it is written |
//! | --- | --- |
//! | a socket (systemd's journal, a Node parent) | `send` with `MSG_DONTWAIT`, which applies to one call |
//! | a pipe or terminal that can be opened again | through a description of our own, with `O_NONBLOCK` |
//! | a pipe or terminal that cannot | when `poll` reports it ready, and at most `PIPE_BUF` bytes |
//! | a file or another device | plainly: a write may fail, but does not wait |
//!
//! In the third case the relay can still wait if another program fills the same pipe between the two calls. The case
//! occurs with pipes outside Linux, and if the relay has changed its user since the pipe was made.

use std::io::{self, IsTerminal, Stderr, Write};
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::net::{SendFlags, send};

/// Bytes that a pipe takes without waiting once `poll` reports it ready: `_POSIX_PIPE_BUF`, the minimum on any system.
const PIPE_BUF: usize = 512;
/// The length of one wait for room, and the number of waits, when the process writes its last text.
const LAST_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
const LAST_WAITS_MAX: u32 = 10;
/// The flags for a description of our own.
const REOPENED: OFlags = OFlags::WRONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

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
    #[must_use]
    pub fn unreported(&self) -> u64 {
        self.total.load(Ordering::Relaxed).saturating_sub(self.reported.load(Ordering::Relaxed))
    }
}

/// Writes log lines to standard error. A line that cannot be written at once is dropped and counted. If only the
/// beginning of a line was written, the rest is kept and written before the next line.
#[derive(Debug)]
pub struct LogOutput<F = Stderr> {
    output: Output<F>,
    rest: Vec<u8>,
    dropped: Arc<Dropped>,
}

impl LogOutput {
    /// An output that counts dropped lines in `dropped`.
    #[must_use]
    pub fn new(dropped: Arc<Dropped>) -> Self {
        Self { output: Output::new(io::stderr()), rest: Vec::new(), dropped }
    }
}

impl<F: AsFd> LogOutput<F> {
    /// Writes the rest of the previous line. Returns whether all of it is written.
    fn finish_rest(&mut self) -> bool {
        let taken = self.output.write_some(&self.rest);
        self.rest.drain(..taken);
        self.rest.is_empty()
    }
}

impl<F: AsFd> Write for LogOutput<F> {
    /// Takes a whole record. After dropped lines it begins with the line that reports their number.
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        let taken = if self.finish_rest() { self.output.write_some(record) } else { 0 };
        // A line that was begun must be completed, so it does not count as dropped.
        if taken == 0 {
            self.dropped.total.fetch_add(1, Ordering::Relaxed);
        } else {
            self.rest.extend_from_slice(record.get(taken..).unwrap_or_default());
            self.dropped.reported.store(self.dropped.total.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the last text of the process: why it ends. Waits at most one second.
pub fn write_last(text: &str) {
    Output::new(io::stderr()).write_last(text.as_bytes());
}

/// A descriptor, and how to write to it without waiting.
#[derive(Debug)]
struct Output<F> {
    fd: F,
    method: WriteMethod,
}

/// The rows of the module's table.
#[derive(Debug)]
enum WriteMethod {
    Socket,
    /// A non-blocking description of our own.
    Reopened(OwnedFd),
    Polled,
    Plain,
}

impl<F: AsFd> Output<F> {
    fn new(fd: F) -> Self {
        // The kind does not change while the process runs.
        let kind = fstat(&fd).map(|stat| FileType::from_raw_mode(stat.st_mode));
        let method = match kind {
            Ok(FileType::Socket) => WriteMethod::Socket,
            Ok(FileType::Fifo) => reopen(&fd).map_or(WriteMethod::Polled, WriteMethod::Reopened),
            _ if fd.as_fd().is_terminal() => reopen(&fd).map_or(WriteMethod::Polled, WriteMethod::Reopened),
            _ => WriteMethod::Plain,
        };
        Self { fd, method }
    }

    /// Writes as much as possible without waiting, and returns the number of bytes. Stops at an error, for example on a
    /// full disk.
    fn write_some(&self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            match self.write_once(rest) {
                Ok(0) => break,
                Ok(count) => taken += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        taken
    }

    fn write_once(&self, bytes: &[u8]) -> io::Result<usize> {
        let count = match &self.method {
            WriteMethod::Socket => send(&self.fd, bytes, SendFlags::DONTWAIT)?,
            WriteMethod::Reopened(own) => rustix::io::write(own, bytes)?,
            WriteMethod::Polled if !self.waits_until_ready(&Timespec::default()) => 0,
            WriteMethod::Polled => rustix::io::write(&self.fd, bytes.get(..PIPE_BUF).unwrap_or(bytes))?,
            WriteMethod::Plain => rustix::io::write(&self.fd, bytes)?,
        };
        Ok(count)
    }

    /// Waits until the descriptor takes bytes or fails. Returns false after `timeout`.
    fn waits_until_ready(&self, timeout: &Timespec) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::OUT)];
        poll(&mut fds, Some(timeout)).is_ok_and(|ready| ready > 0)
    }

    fn write_last(&self, mut bytes: &[u8]) {
        for _ in 0..LAST_WAITS_MAX {
            bytes = bytes.get(self.write_some(bytes)..).unwrap_or_default();
            if bytes.is_empty() {
                return;
            }
            self.waits_until_ready(&LAST_WAIT);
        }
    }
}

/// Opens a pipe or terminal once more, if the system allows it.
#[cfg(target_os = "linux")]
fn reopen(fd: &impl AsFd) -> Option<OwnedFd> {
    open(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()), REOPENED, Mode::empty()).ok()
}

/// As above. Elsewhere `/dev/fd` gives only a duplicate, which shares its flags, so only terminals, which have a path,
/// can be opened again.
#[cfg(not(target_os = "linux"))]
fn reopen(fd: &impl AsFd) -> Option<OwnedFd> {
    open(rustix::termios::ttyname(fd, Vec::new()).ok()?, REOPENED, Mode::empty()).ok()
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read, pipe};
    use std::os::unix::net::UnixStream;

    use rustix::fs::fcntl_getfl;

    use super::*;

    fn line(number: u64) -> String {
        format!("{number:0>699}\n")
    }

    fn log_output<F: AsFd>(output: Output<F>) -> LogOutput<F> {
        LogOutput { output, rest: Vec::new(), dropped: Arc::default() }
    }

    /// Writes until some lines are dropped, reads, and writes one more line. All lines must be whole, in order, and
    /// either written or counted.
    fn assert_lines_are_written_or_counted<F: AsFd>(output: Output<F>, mut reader: impl Read) {
        let what = format!("{:?}", output.method);
        let mut log = log_output(output);
        let mut lines = 0;
        while log.dropped.unreported() < 3 {
            log.write_all(line(lines).as_bytes()).unwrap();
            lines += 1;
        }
        let dropped = log.dropped.total.load(Ordering::Relaxed);
        assert_eq!((dropped, log.dropped.unreported()), (3, 3), "{what}");
        // The pipe holds at least this much, so the read does not block.
        let mut read = vec![0; line(0).len() * 20];
        reader.read_exact(&mut read).unwrap();
        log.write_all(line(lines).as_bytes()).unwrap();
        assert_eq!(log.dropped.unreported(), 0, "{what}");
        drop(log);
        reader.read_to_end(&mut read).unwrap();
        let kept = (0..lines - 3).chain([lines]);
        let expected: String = kept.map(line).collect();
        assert!(read == expected.as_bytes(), "{what}");
    }

    #[test]
    fn lines_are_written_whole_or_counted_and_no_shared_flag_is_touched() {
        let (reader, writer) = UnixStream::pair().unwrap();
        let keeper = writer.try_clone().unwrap();
        let output = Output::new(OwnedFd::from(writer));
        assert!(matches!(output.method, WriteMethod::Socket));
        assert!(!fcntl_getfl(&keeper).unwrap().contains(OFlags::NONBLOCK));
        drop(keeper);
        assert_lines_are_written_or_counted(output, reader);

        for is_reopened in [cfg!(target_os = "linux"), false] {
            let (reader, writer) = pipe().unwrap();
            let keeper = writer.try_clone().unwrap();
            let mut output = Output::new(OwnedFd::from(writer));
            if is_reopened {
                assert!(matches!(output.method, WriteMethod::Reopened(_)));
            } else {
                output.method = WriteMethod::Polled;
            }
            assert!(!fcntl_getfl(&keeper).unwrap().contains(OFlags::NONBLOCK));
            drop(keeper);
            assert_lines_are_written_or_counted(output, reader);
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn full_disk_drops_and_counts_every_line() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut log = log_output(Output::new(full));
        for number in 1..=3 {
            log.write_all(line(number).as_bytes()).unwrap();
            assert_eq!(log.dropped.unreported(), number);
        }
    }

    fn full_pipe() -> (PipeReader, Output<OwnedFd>) {
        let (reader, writer) = pipe().unwrap();
        let output = Output::new(OwnedFd::from(writer));
        while output.write_some(&[b'x'; 512]) > 0 {}
        (reader, output)
    }

    #[test]
    fn last_text_waits_for_a_reader_but_not_for_long() {
        let (mut reader, output) = full_pipe();
        let late_reader = std::thread::spawn(move || {
            let mut read = String::new();
            reader.read_to_string(&mut read).unwrap();
            read
        });
        output.write_last(b"panicked");
        drop(output);
        assert!(late_reader.join().unwrap().ends_with("panicked"));

        let (_reader, output) = full_pipe();
        output.write_last(b"nobody reads this");
    }
}
