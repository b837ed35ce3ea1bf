//! What the relay asks of the outside world.

use crate::relay::ids::ConnectionId;

/// One thing for the host to do, in the order given; see [`Relay::poll_effect`](crate::relay::Relay::poll_effect).
#[derive(Debug, PartialEq, Eq)]
pub enum Effect<S> {
    /// Send the end of the stream and keep reading: nothing more will be written to it.
    ///
    /// The stream is at [`Relay::stream`](crate::relay::Relay::stream).
    ShutdownWrite(ConnectionId),
    /// The connection has ended: stop watching its stream and drop it.
    Close {
        /// Who it was; the identifier now names nobody.
        id: ConnectionId,
        /// The stream that was accepted.
        stream: S,
    },
}
