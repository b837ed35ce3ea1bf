//! Streams that keep what they are given, as those do that encrypt.

use super::*;
use crate::relay::tests::stream::Wire;
use crate::relay::wire::frame::Opcode;

/// An open connection whose stream keeps all that was written.
fn keeping(pool: &mut Pool, now: Tick) -> Connection<Wire> {
    let mut connection = Connection::new(Wire { kept: Some(Vec::new()), ..Wire::with_room(0) }, now);
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
    connection.stream.room = usize::MAX;
    connection.flush(&mut pool, usize::MAX, now);
    assert_eq!(connection.stream.received(), b"", "nobody said that it is writable");
    connection.note(Readiness::WRITABLE);
    assert!(connection.wants_write());
    connection.flush(&mut pool, usize::MAX, now);
    assert_eq!(connection.stream.kept, Some(Vec::new()), "all is handed on");
    assert!(!connection.wants_write());
}

#[test]
fn client_that_does_not_take_what_its_stream_keeps_is_stalled() {
    let settings = Settings::default();
    let (mut pool, now) = (Pool::default(), Tick::default());
    let mut connection = keeping(&mut pool, now.after(settings.stall_timeout));
    let stalled = now.after(settings.stall_timeout).after(settings.stall_timeout);
    // It goes on sending, so that it is not silent.
    connection.received_at = stalled;
    assert_eq!(connection.due(&settings, stalled), Some((stalled, Due::Stall)));
}

#[test]
fn stream_is_not_over_before_what_it_keeps_is_gone() {
    let (mut pool, now) = (Pool::default(), Tick::default());
    let mut connection = keeping(&mut pool, now);
    connection.end_after_input(&mut pool, now);
    assert_eq!(connection.flush(&mut pool, usize::MAX, now), FlushEnd::Idle);
    connection.stream.room = usize::MAX;
    connection.note(Readiness::WRITABLE);
    assert_eq!(connection.flush(&mut pool, usize::MAX, now), FlushEnd::Gone);
}
