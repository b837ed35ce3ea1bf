//! How the system reports readiness, and how far a socket must be read before it reports again.

use std::io::{self, IoSliceMut, Read};

use mio::event::Event;

use crate::relay::Readiness;

/// Whether mio uses epoll or kqueue, which report readiness each time bytes arrive. Elsewhere mio imitates edges on top
/// of a level-triggered interface: it reports again only after a call has returned `WouldBlock`.
pub(super) const IS_EDGE_TRIGGERED: bool = cfg!(any(
    target_os = "android",
    target_os = "dragonfly",
    target_os = "freebsd",
    target_os = "ios",
    target_os = "linux",
    target_os = "macos",
    target_os = "netbsd",
    target_os = "openbsd",
)) && !cfg!(mio_unsupported_force_poll_poll);

/// Whether the event of a closed writing direction (kqueue's `EV_EOF`) also follows our own shutdown of it.
const IS_OWN_SHUTDOWN_REPORTED: bool = cfg!(any(
    target_os = "dragonfly",
    target_os = "freebsd",
    target_os = "ios",
    target_os = "macos",
    target_os = "netbsd",
    target_os = "openbsd",
));

/// The readiness of a stream that an event reports.
pub(in crate::net) fn readiness_of(event: &Event) -> Readiness {
    Readiness {
        is_readable: event.is_readable(),
        is_writable: event.is_writable(),
        is_read_closed: event.is_read_closed(),
        is_failed: is_failed(event.is_error(), event.is_write_closed(), IS_OWN_SHUTDOWN_REPORTED),
        is_urgent: event.is_priority(),
    }
}

/// Whether the stream has failed. Our own shutdown must not count: the client may still be reading its last answer.
/// kqueue reports a failure as an error together with `EV_EOF`.
const fn is_failed(is_error: bool, is_write_closed: bool, is_own_shutdown_reported: bool) -> bool {
    is_error || (is_write_closed && !is_own_shutdown_reported)
}

/// Reads. If the buffer is not filled, an event will report what comes next.
pub(in crate::net) fn read(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    if IS_EDGE_TRIGGERED { stream.read(buffer) } else { read_until_blocked(stream, buffer) }
}

/// As [`read`], but into several buffers.
pub(in crate::net) fn read_vectored(
    stream: &mut impl Read,
    buffers: &mut [IoSliceMut<'_>],
) -> io::Result<usize> {
    if IS_EDGE_TRIGGERED {
        return stream.read_vectored(buffers);
    }
    let mut total = 0;
    for buffer in buffers {
        match read_until_blocked(stream, buffer) {
            Ok(count) => {
                total += count;
                if count < buffer.len() {
                    break;
                }
            }
            Err(error) if total == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(total)
}

/// Reads until the buffer is full or the stream would block. An end of the stream, or a failure, behind the last byte
/// is left to its own event, which an event for bytes does not replace.
fn read_until_blocked(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if filled == 0 => return Err(error),
            // The bytes come first. The next read returns the error again, if it lasts.
            Err(_) => break,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Returns one piece, or an error, per read.
    struct Pieces(VecDeque<Result<&'static [u8], io::ErrorKind>>);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let piece = self.0.pop_front().expect("no read follows one that would block")?;
            let (now, later) = piece.split_at(piece.len().min(buffer.len()));
            buffer[..now.len()].copy_from_slice(now);
            if !later.is_empty() {
                self.0.push_front(Ok(later));
            }
            Ok(now.len())
        }
    }

    #[test]
    fn with_imitated_edges_a_stream_is_read_until_it_blocks_or_the_buffer_is_full() {
        use io::ErrorKind::{ConnectionReset, Interrupted, WouldBlock};
        for (pieces, expected, left) in [
            (&[Ok(&b"ab"[..]), Ok(b"cd"), Err(WouldBlock)][..], Ok("abcd"), 0),
            (&[Ok(b"ab"), Err(Interrupted), Ok(b"c"), Err(WouldBlock)], Ok("abc"), 0),
            (&[Ok(b"abcdef"), Ok(b"gh"), Err(WouldBlock)], Ok("abcdef"), 2),
            (&[Ok(b"abcdefgh")], Ok("abcdef"), 1),
            (&[Err(WouldBlock)], Err(WouldBlock), 0),
            (&[Ok(b"")], Ok(""), 0),
            (&[Ok(b"ab"), Ok(b"")], Ok("ab"), 0),
            (&[Ok(b"ab"), Err(ConnectionReset)], Ok("ab"), 0),
            (&[Err(ConnectionReset)], Err(ConnectionReset), 0),
        ] {
            let mut stream = Pieces(pieces.iter().copied().collect());
            let mut buffer = [0; 6];
            let result = read_until_blocked(&mut stream, &mut buffer).map_err(|error| error.kind());
            let text = result.map(|count| std::str::from_utf8(&buffer[..count]).unwrap());
            assert_eq!(text, expected, "{pieces:?}");
            assert_eq!(stream.0.len(), left, "{pieces:?}");
        }
    }

    #[test]
    fn our_own_shutdown_is_not_reported_as_a_failure() {
        // epoll: nothing, an error, both directions closed. kqueue: our own shutdown, a reset.
        for (is_error, is_write_closed, is_own_shutdown_reported, expected) in [
            (false, false, false, false),
            (true, true, false, true),
            (false, true, false, true),
            (false, true, true, false),
            (true, true, true, true),
            (true, false, true, true),
        ] {
            assert_eq!(is_failed(is_error, is_write_closed, is_own_shutdown_reported), expected);
        }
    }
}
