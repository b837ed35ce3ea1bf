//! What the host tells the relay about a stream.

/// Readiness of a stream, as an edge-triggered poll reports it: a hint, possibly late or spurious.
///
/// The relay keeps what it was told until a read or write shows otherwise, so each event need be
/// told only once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent bits of one event")]
pub struct Readiness {
    /// There is something to read, if only the end of the stream.
    pub is_readable: bool,
    /// The stream takes bytes again.
    pub is_writable: bool,
    /// The other side will send no more; what it sent before can still be read.
    pub is_read_closed: bool,
    /// The stream has failed: it was reset, or can no longer be written to.
    pub is_failed: bool,
    /// There was urgent data in the stream: a read may end where that was, with more to read behind it.
    pub is_urgent: bool,
}

impl Readiness {
    /// Something to read.
    pub const READABLE: Self = Self { is_readable: true, ..Self::NOTHING };
    /// Room to write.
    pub const WRITABLE: Self = Self { is_writable: true, ..Self::NOTHING };
    const NOTHING: Self = Self {
        is_readable: false,
        is_writable: false,
        is_read_closed: false,
        is_failed: false,
        is_urgent: false,
    };
}
