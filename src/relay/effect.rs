//! What the relay asks the host to do.

use crate::relay::ids::ConnectionId;

/// One action for the host. Carry out effects in the order in which
/// [`Relay::poll_effect`](crate::relay::Relay::poll_effect) returns them.
///
/// This enum stays closed (not `#[non_exhaustive]`): a host must handle every variant, so a new one must not compile
/// unnoticed.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect<S> {
    /// Shut down the write side of the stream and keep reading. The relay writes nothing more to it.
    ///
    /// The stream is at [`Relay::stream`](crate::relay::Relay::stream).
    ShutdownWrite(ConnectionId),
    /// The connection has ended. Stop watching its stream and drop it.
    Close {
        /// The connection. No connection has this identifier any more.
        id: ConnectionId,
        /// The stream that the host gave to the relay.
        stream: S,
    },
}
