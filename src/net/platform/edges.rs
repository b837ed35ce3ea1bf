//! What the system tells of a socket, and how far it has to be read before it tells again.

use std::io::{self, IoSliceMut, Read};

use mio::event::Event;

use crate::relay::Readiness;

/// Whether mio waits with epoll or kqueue, which tell of bytes each time that some arrive. Everywhere else it makes
/// edges of levels: what was told once is told again only after a call that would have blocked.
pub(super) const ARE_EDGES_TRUE: bool = cfg!(any(
    target_os = "android",
    target_os = "dragonfly",
    target_os = "freebsd",
    target_os = "ios",
    target_os = "linux",
    target_os = "macos",
    target_os = "netbsd",
    target_os = "openbsd",
)) && !cfg!(mio_unsupported_force_poll_poll);

/// Whether `EV_EOF` stands for a writing side that is closed: also where we have shut it down ourselves.
const IS_OWN_SHUTDOWN_TOLD: bool = cfg!(any(
    target_os = "dragonfly",
    target_os = "freebsd",
    target_os = "ios",
    target_os = "macos",
    target_os = "netbsd",
    target_os = "openbsd",
));

/// What an event tells of a stream.
pub(in crate::net) fn readiness_of(event: &Event) -> Readiness {
    Readiness {
        is_readable: event.is_readable(),
        is_writable: event.is_writable(),
        is_read_closed: event.is_read_closed(),
        is_failed: is_failed(event.is_error(), event.is_write_closed(), IS_OWN_SHUTDOWN_TOLD),
        is_urgent: event.is_priority(),
    }
}

/// A client that reads its last answer is not to be cut off because we have said that nothing follows. kqueue gives
/// the error of a stream that has failed beside `EV_EOF`.
const fn is_failed(is_error: bool, is_write_closed: bool, is_own_shutdown_told: bool) -> bool {
    is_error || (is_write_closed && !is_own_shutdown_told)
}

/// Reads so far that an event tells of whatever comes next, if the buffer has room for that.
pub(in crate::net) fn read(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    if ARE_EDGES_TRUE { stream.read(buffer) } else { read_until_blocked(stream, buffer) }
}

/// As [`read`], into several buffers.
pub(in crate::net) fn read_vectored(
    stream: &mut impl Read,
    buffers: &mut [IoSliceMut<'_>],
) -> io::Result<usize> {
    if ARE_EDGES_TRUE {
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

/// Reads until the buffer is full or the stream would block. Where its end or a failure lies behind what has come,
/// the events of these tell of it: they are not used up by events of bytes.
fn read_until_blocked(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if filled == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Gives one piece a read, or an error.
    struct Pieces(VecDeque<Result<&'static [u8], io::ErrorKind>>);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let piece = self.0.pop_front().expect("no read behind one that would block")?;
            let (now, later) = piece.split_at(piece.len().min(buffer.len()));
            buffer[..now.len()].copy_from_slice(now);
            if !later.is_empty() {
                self.0.push_front(Ok(later));
            }
            Ok(now.len())
        }
    }

    #[test]
    fn where_edges_are_made_of_levels_a_stream_is_read_until_it_blocks_or_the_buffer_is_full() {
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
    fn our_own_end_of_the_stream_is_no_failure_where_the_system_tells_of_it() {
        // Of epoll: an error; both sides are gone. Of kqueue: we have shut it down; it was reset.
        for (is_error, is_write_closed, is_own_shutdown_told, expected) in [
            (false, false, false, false),
            (true, true, false, true),
            (false, true, false, true),
            (false, true, true, false),
            (true, true, true, true),
            (true, false, true, true),
        ] {
            assert_eq!(is_failed(is_error, is_write_closed, is_own_shutdown_told), expected);
        }
    }
}
