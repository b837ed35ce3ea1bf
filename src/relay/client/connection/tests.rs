//! Streams that hold the bytes of a write until they are flushed, as TLS streams do.

use super::*;
use crate::relay::tests::stream::Wire;
use crate::relay::wire::frame::Opcode;

/// An open connection whose stream holds everything that was written.
fn with_unflushed_stream(pool: &mut Pool, now: Tick) -> Connection<Wire> {
    let mut connection = Connection::new(Wire { kept: Some(Vec::new()), ..Wire::with_room(0) }, now);
    connection.open(&Settings::default());
    connection.outbox_mut(pool).push_small(pool, Opcode::Text, b"1");
    assert_eq!(connection.flush(pool, usize::MAX, now), FlushEnd::Idle);
    connection
}

#[test]
fn bytes_in_the_stream_are_flushed_once_the_socket_is_writable() {
    let (mut pool, now) = (Pool::default(), Tick::default());
    let mut connection = with_unflushed_stream(&mut pool, now);
    assert!(!connection.wants_write(), "the socket refuses bytes");
    connection.stream.room = usize::MAX;
    connection.flush(&mut pool, usize::MAX, now);
    assert_eq!(connection.stream.received(), b"", "no event reported that the socket is writable");
    connection.note(Readiness::WRITABLE);
    assert!(connection.wants_write());
    connection.flush(&mut pool, usize::MAX, now);
    assert_eq!(connection.stream.kept, Some(Vec::new()), "the stream holds nothing");
    assert!(!connection.wants_write());
}

#[test]
fn client_that_does_not_take_the_bytes_in_its_stream_is_stalled() {
    let settings = Settings::default();
    let (mut pool, now) = (Pool::default(), Tick::default());
    let mut connection = with_unflushed_stream(&mut pool, now.after(settings.stall_timeout));
    let stalled = now.after(settings.stall_timeout).after(settings.stall_timeout);
    // The client goes on sending, so that it is not silent.
    connection.received_at = stalled;
    assert_eq!(connection.due(&settings, stalled), Some((stalled, Due::Stall)));
}

#[test]
fn connection_is_not_removed_before_its_stream_is_flushed() {
    let (mut pool, now) = (Pool::default(), Tick::default());
    let mut connection = with_unflushed_stream(&mut pool, now);
    connection.end_after_input(&mut pool, now);
    assert_eq!(connection.flush(&mut pool, usize::MAX, now), FlushEnd::Idle);
    connection.stream.room = usize::MAX;
    connection.note(Readiness::WRITABLE);
    assert_eq!(connection.flush(&mut pool, usize::MAX, now), FlushEnd::Gone);
}
