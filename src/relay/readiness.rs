//! What the host reports about a stream.

/// Readiness of a stream, as an edge-triggered poll reports it. It is a hint: it may be late or wrong.
///
/// The relay remembers each bit until a read or write shows otherwise, so the host reports an event only once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent bits of one event")]
pub struct Readiness {
    /// There is something to read: bytes, or the end of the stream.
    pub is_readable: bool,
    /// The stream takes bytes again.
    pub is_writable: bool,
    /// The other side sends nothing more. Bytes that it sent before can still be read.
    pub is_read_closed: bool,
    /// The stream has failed: it was reset, or cannot be written any more.
    pub is_failed: bool,
    /// TCP urgent data has arrived. One read may then end at the urgent byte although more bytes follow.
    pub is_urgent: bool,
}

impl Readiness {
    /// Readable, nothing else.
    pub const READABLE: Self = Self { is_readable: true, ..Self::NOTHING };
    /// Writable, nothing else.
    pub const WRITABLE: Self = Self { is_writable: true, ..Self::NOTHING };
    const NOTHING: Self = Self {
        is_readable: false,
        is_writable: false,
        is_read_closed: false,
        is_failed: false,
        is_urgent: false,
    };
}
