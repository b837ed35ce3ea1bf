//! Streams that keep what they are given, as those do that encrypt.

use super::*;
use crate::relay::wire::frame::Opcode;

/// Takes whatever is written, and hands it on only while `is_open`.
#[derive(Default)]
struct Keeper {
    is_open: bool,
    kept_bytes: usize,
}

impl Read for Keeper {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Write for Keeper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.kept_bytes += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.kept_bytes > 0 && !self.is_open {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.kept_bytes = 0;
        Ok(())
    }
}

/// An open connection whose stream keeps all that was written.
fn keeping(pool: &mut Pool, now: Tick) -> Connection<Keeper> {
    let mut connection = Connection::new(Keeper::default(), now);
    connection.open(&Settings::default());
    connection.outbox_mut(pool).push_small(pool, Opcode::Text, b"1");
    assert_eq!(connection.flush(pool, usize::MAX, now), FlushEnd::Idle);
    connection
}

#[test]
fn what_the_stream_keeps_is_flushed_once_it_is_writable() {
    let (mut pool, now) = (Pool::default(), Tick::default());
    let mut connection = keeping(&mut pool, now);
    assert!(!connection.wants_write(), "it has to wait");
    connection.stream.is_open = true;
    connection.flush(&mut pool, usize::MAX, now);
    assert!(connection.stream.kept_bytes > 0, "nobody said that it is writable");
    connection.note(Readiness::WRITABLE);
    assert!(connection.wants_write());
    connection.flush(&mut pool, usize::MAX, now);
    assert_eq!(connection.stream.kept_bytes, 0);
    assert!(!connection.wants_write());
}

#[test]
fn client_that_does_not_take_what_its_stream_keeps_is_stalled() {
    let settings = Settings::default();
    let (mut pool, now) = (Pool::default(), Tick::default());
    let mut connection = keeping(&mut pool, now.after(settings.stall_timeout));
    let stalled = now.after(settings.stall_timeout).after(settings.stall_timeout);
    // It goes on sending, so that it is not silent.
    connection.heard_at = stalled;
    assert_eq!(connection.due(&settings, stalled), Some((stalled, Due::Stall)));
}

#[test]
fn stream_is_not_over_before_what_it_keeps_is_gone() {
    let (mut pool, now) = (Pool::default(), Tick::default());
    let mut connection = keeping(&mut pool, now);
    connection.end_after_input(&mut pool, now);
    assert_eq!(connection.flush(&mut pool, usize::MAX, now), FlushEnd::Idle);
    connection.stream.is_open = true;
    connection.note(Readiness::WRITABLE);
    assert_eq!(connection.flush(&mut pool, usize::MAX, now), FlushEnd::Gone);
}
