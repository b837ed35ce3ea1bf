//! The phases of one connection within TLS.

/// What the bytes on the socket are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TlsPhase {
    /// A PROXY protocol header. It is passed to the core as it is.
    ProxyHeader,
    /// A PROXY protocol header was due and did not come. All bytes are passed to the core, which refuses them.
    PassThrough,
    /// No byte of TLS was received yet.
    Start,
    /// The handshake is not complete.
    Handshake,
    /// TLS records.
    Open,
    /// Not TLS, or a failed handshake. The answer to the client is in `unsent`. The core is given one byte that it must
    /// refuse; as after any refusal it then waits until the client has read the answer. What the core writes is
    /// dropped.
    Refused { is_byte_given: bool },
    /// The client broke the protocol after the handshake. Nothing more is read or written.
    Failed,
}
