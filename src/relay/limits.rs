//! Every bound and default of the relay, with its unit and its reason.

use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Largest request head, in bytes, the final empty line included. Browsers with many cookies stay below 8 KiB.
pub const HEAD_BYTES_MAX: usize = 16 * KIB;
/// Most header fields in a request head.
pub const HEAD_FIELDS_MAX: usize = 100;

/// Bytes read from the network at once: the loop's one receive buffer. Large enough for some
/// 500 console logs in one system call, small enough to stay in the L2 cache.
pub const RECEIVE_BUFFER_BYTES: usize = 64 * KIB;
/// Bytes of a large frame read at once. Its memory is touched no further than this ahead of what
/// has arrived.
pub const READ_STEP_BYTES: usize = 4 * RECEIVE_BUFFER_BYTES;
/// Read buffer of the loop's tungstenite context; it zeroes that much for each small frame.
pub const TUNGSTENITE_READ_BUFFER_BYTES: usize = KIB;
/// Bytes taken from one connection per turn, so that a flood waits its turn like everybody else.
pub const READ_BYTES_PER_TURN: usize = 4 * RECEIVE_BUFFER_BYTES;
/// Bytes handed to one socket per turn, for the same reason.
pub const WRITE_BYTES_PER_TURN: usize = MIB;
/// Timers fired per turn; the rest fire in the next one, which follows without a wait.
pub const TIMERS_PER_TURN: usize = 1024;
/// Connections served per turn; the rest are served in the next one, after their timers.
pub const CONNECTIONS_PER_TURN: usize = 1024;

/// Longest WebSocket frame header that a client sends: two bytes, a 64-bit length and a mask.
pub const FRAME_HEADER_BYTES_MAX: usize = 14;
/// Payload of a control frame (RFC 6455, section 5.5).
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;
/// Reason of a close frame: a control frame's payload less the code.
pub const CLOSE_REASON_BYTES_MAX: usize = CONTROL_PAYLOAD_BYTES_MAX - 2;

/// Up to this many bytes a message is copied into a buffer shared with its neighbours; a larger
/// one is received into memory of its own and never copied again.
pub const SMALL_MESSAGE_BYTES_MAX: usize = 16 * KIB;
/// A larger message leaves in fragments of this size, so that a reply can go out in between: at
/// 10 Mbit/s one fragment takes a tenth of a second.
pub const FRAGMENT_BYTES_MAX: usize = 128 * KIB;
/// A client's reading pauses while more than this waits for its peer, or for itself.
pub const HIGH_WATER_BYTES: usize = MIB;
/// A paused client is read again once no more than this waits.
pub const LOW_WATER_BYTES: usize = HIGH_WATER_BYTES / 2;
/// A client that has ended its stream is read to that end in spite of the high-water mark, so that
/// nothing it sent is lost, unless more than this waits for its peer.
pub const OVERFULL_BYTES: usize = 8 * HIGH_WATER_BYTES;

/// Notices of its peer's coming and going that may wait for a client. Neither water mark stops them, for it is
/// other connections that cause them; a client that leaves more of them unread is closed.
pub const NOTICES_WAITING_MAX: usize = 1000;

/// Small messages that wait stand in buffers of at most this size, so that memory comes back in
/// pieces as they leave.
pub const RUN_BYTES_MAX: usize = 64 * KIB;
/// Memory kept in spare buffers between turns: one turn's small messages.
pub const SPARE_BUFFERS_BYTES_MAX: usize = 512 * KIB;
/// Spare outboxes kept between turns.
pub const SPARE_OUTBOXES_MAX: usize = 256;
/// Pieces of memory given to one vectored write: a header and a payload for each of 32 fragments.
pub const WRITE_SLICES_MAX: usize = 64;

/// Unsent bytes the kernel may hold for a client before it counts as not writable
/// (`TCP_NOTSENT_LOWAT`): what waits beyond it stays in the outbox, where replies can overtake it.
pub const NOT_SENT_LOW_WATER_BYTES: u32 = 128 * 1024;

/// How long a client may take to answer a close frame that it was sent, before the relay ends its
/// side of the stream all the same.
pub const CLOSE_ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long it may then stand still before its socket is dropped.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take in all: a client still in the middle of its largest message gets to read why
/// it was closed, even behind a proxy, if only it goes on sending.
pub const LINGER_TIME_MAX: Duration = Duration::from_secs(5 * 60);
/// Bytes thrown away from it meanwhile, at most.
pub const LINGER_BYTES_MAX: usize = 256 * MIB;

/// Connections beyond the limit that are kept just long enough to be told so.
pub const REFUSALS_MAX: usize = 64;
/// Sessions kept at once for every connection allowed: those of clients that left lately.
pub const SESSIONS_PER_CONNECTION: usize = 4;
/// Fewest sessions kept at once, whatever the connection limit.
pub const SESSIONS_MIN: usize = 4096;
/// How long accepting pauses when the process is out of descriptors and none comes free.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// What a client refused for lack of room is told to wait: `Retry-After`, in seconds.
pub const RETRY_AFTER_SECONDS: u32 = 5;

/// Characters of anything a client sent that a log line shows.
pub const LOGGED_CHARS_MAX: usize = 64;

const _: () = assert!(LOW_WATER_BYTES < HIGH_WATER_BYTES);
const _: () = assert!(SMALL_MESSAGE_BYTES_MAX + FRAME_HEADER_BYTES_MAX <= RECEIVE_BUFFER_BYTES);
const _: () = assert!(HEAD_BYTES_MAX <= RECEIVE_BUFFER_BYTES);
const _: () = assert!(SMALL_MESSAGE_BYTES_MAX < 0xFFFF && SMALL_MESSAGE_BYTES_MAX + 4 <= RUN_BYTES_MAX);
const _: () = assert!(FRAGMENT_BYTES_MAX > 0xFFFF);
const _: () = assert!(CONTROL_PAYLOAD_BYTES_MAX < 126);

/// What an operator may set of the pure engine. [`Default`] gives the contract's defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Connections served at once; one more is answered with 503. `None` sets no limit, or leaves
    /// it to the host to derive one.
    pub max_connections: Option<usize>,
    /// Largest application message, in bytes; a larger one ends its connection with 1009.
    pub max_message_size: usize,
    /// A session without an application message or a join for this long ends.
    pub session_timeout: Duration,
    /// A session both of whose clients have been gone for this long is forgotten.
    pub reconnect_window: Duration,
    /// An otherwise silent client is pinged after this long, and ended after twice as long.
    pub ping_interval: Duration,
    /// A request head must be complete this long after the connection was accepted.
    pub handshake_timeout: Duration,
    /// A client that takes no byte for this long while something waits for it is cut off, and so
    /// is one that stands still for this long in the middle of a message.
    pub stall_timeout: Duration,
    /// A message must have arrived whole this long after its first byte.
    pub message_timeout: Duration,
    /// Application messages per second that one client may send; `None` sets no limit.
    pub max_message_rate: Option<u32>,
    /// Bytes per second that one client may send; `None` sets no limit.
    pub max_byte_rate: Option<u64>,
    /// Answer a message whose top-level `type` is `ping` rather than forward it.
    pub answer_pings: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_connections: None,
            max_message_size: 64 * MIB,
            session_timeout: Duration::from_secs(30 * 60),
            reconnect_window: Duration::from_secs(5 * 60),
            ping_interval: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(60),
            message_timeout: Duration::from_secs(5 * 60),
            max_message_rate: None,
            max_byte_rate: None,
            answer_pings: false,
        }
    }
}
