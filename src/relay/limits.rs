//! Every bound of the relay that is not a setting, with its unit and its reason.

use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Largest request head, in bytes, including the final empty line. Browsers with many cookies send less than 8 KiB.
pub const HEAD_BYTES_MAX: usize = 16 * KIB;
/// Most header fields in a request head.
pub const HEAD_FIELDS_MAX: usize = 100;

/// Size of the loop's one receive buffer, and so the most that one read takes. Some 500 console logs fit into it, and
/// it fits into the L2 cache.
pub const RECEIVE_BUFFER_BYTES: usize = 64 * KIB;
/// Most bytes that one read takes from a client between two messages while no chunk is free.
pub const SHORT_READ_BYTES: usize = 4 * KIB;
/// If more than this is missing of a frame, its rest is read directly into the memory of the message rather than
/// through the receive buffer.
pub const DIRECT_READ_BYTES_MIN: usize = 16 * KIB;
/// Read buffer of the loop's tungstenite context. Tungstenite zeroes this much for each control frame.
pub const TUNGSTENITE_READ_BUFFER_BYTES: usize = KIB;
/// Most bytes read from one connection per turn, so that a client that floods the relay does not delay the others.
pub const READ_BYTES_PER_TURN: usize = RECEIVE_BUFFER_BYTES;
/// Most bytes written to one socket per turn, for the same reason.
pub const WRITE_BYTES_PER_TURN: usize = RECEIVE_BUFFER_BYTES;
/// Most timers fired per turn. The rest fire in the next turn, which follows without a wait.
pub const TIMERS_PER_TURN: usize = 1024;
/// Most connections served per turn. The rest are served in the next turn, after its timers. So what a client sends
/// is still in the cache when it is written, and few buffers are in use at once.
pub const CONNECTIONS_PER_TURN: usize = 128;

/// If a session is due but one of its clients cannot be read now, the session is checked again after this time.
pub const UNREAD_RETRY: Duration = Duration::from_secs(1);

/// Longest WebSocket frame header of a client, in bytes: two bytes, a 64-bit length and a mask.
pub const FRAME_HEADER_BYTES_MAX: usize = 14;
/// Longest payload of a control frame, in bytes (RFC 6455, section 5.5).
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;
/// Longest reason of a close frame, in bytes: the payload of a control frame without the two bytes of the code.
pub const CLOSE_REASON_BYTES_MAX: usize = CONTROL_PAYLOAD_BYTES_MAX - 2;

/// Largest small message, in bytes. A small message is copied into a buffer that it shares with others; a larger one
/// gets memory of its own.
pub const SMALL_MESSAGE_BYTES_MAX: usize = 16 * KIB;
/// Size of a chunk, the unit of memory for messages in transit. One read fills one chunk; one write takes several.
pub const CHUNK_BYTES: usize = RECEIVE_BUFFER_BYTES;
/// Chunks in one allocation (33 MiB). glibc maps an allocation of more than 32 MiB separately in every case, and so
/// returns it to the system as soon as it is freed.
pub const REGION_CHUNKS: usize = 528;
/// Most unused chunks (2 MiB) that stay allocated while no message uses any.
pub const SPARE_CHUNKS_MAX: usize = 32;
/// Longest message, in bytes, that stays in memory until all its receivers have it. A client that reconnects in the
/// middle of it gets it again from its start.
pub const KEPT_BYTES_MAX: usize = HIGH_WATER_BYTES;
/// If a read brings at least this many bytes of a message, the receive buffer itself becomes a part of the message;
/// less is copied.
pub const SWAP_BYTES_MIN: usize = CHUNK_BYTES / 2;
/// The budget divided by this number is for pieces of messages in transit while no chunk is free.
pub const PIECES_SHARE: usize = 16;
/// Most bytes that one read takes of such a message.
pub const PIECE_BYTES_MAX: usize = 16 * KIB;
/// A client in the middle of a message is not read while less than this is free of the budget.
pub const LEAST_FREE_BYTES: usize = 4 * KIB;
/// The budget divided by this number is reserved for small messages.
pub const SMALL_SHARE: usize = 8;
/// No client is read between two messages while less than this is free for small messages: one of them, and what a
/// short read may bring after it.
pub const SMALL_ROOM_BYTES_MIN: usize = SMALL_MESSAGE_BYTES_MAX + 2 * SHORT_READ_BYTES;
/// Most bytes of replies for each byte read. The worst case is an empty text message: a frame of 6 bytes is answered
/// with an error message of some 130.
pub const REPLIES_PER_BYTE_MAX: usize = 24;
/// A read takes at least this many bytes, however little memory is left. A read that brings less counts as this many
/// against [`READ_BYTES_PER_TURN`].
pub const LEAST_READ_BYTES: usize = 256;
/// The smallest budget. The part that is reserved for small messages is then two reads.
pub const BUFFERED_BYTES_MIN: usize = MIB;

/// Size of the fragments that a larger message leaves in. A reply can go out between two fragments: at 10 Mbit/s one
/// fragment takes a tenth of a second.
pub const FRAGMENT_BYTES_MAX: usize = 128 * KIB;
/// A client is not read while more than this waits for its peer, or for the client itself.
pub const HIGH_WATER_BYTES: usize = MIB;
/// A paused client is read again once at most this much waits.
pub const LOW_WATER_BYTES: usize = HIGH_WATER_BYTES / 2;
/// A client that has ended its stream is read to that end in spite of the high-water mark, so that nothing that it
/// sent is lost; but not while more than this waits for its peer.
pub const OVERFULL_BYTES: usize = 8 * HIGH_WATER_BYTES;

/// Most notices about a peer that may wait for a client; a client that leaves more unread is closed. The water marks
/// do not limit notices, because other connections cause them.
pub const NOTICES_WAITING_MAX: usize = 1000;

/// A client is asked at once to confirm what it was sent if that is more than this.
pub const CONFIRM_BYTES: usize = 128 * KIB;
/// Otherwise it is asked this long after the first message. The contract allows 250 ms, and the timer may be late.
pub const CONFIRM_DELAY: Duration = Duration::from_millis(200);
/// Most bytes that are kept for one client that is away, unless it is a single message.
pub const KEPT_PER_CLIENT_BYTES_MAX: usize = 16 * MIB;
/// Of a buffer that was written, at most this many bytes are copied to be kept; a buffer with more is kept as it is.
pub const KEPT_COPY_BYTES_MAX: usize = 16 * KIB;

/// Largest buffer of small messages that wait. As they leave, memory comes back in parts of this size.
pub const RUN_BYTES_MAX: usize = 64 * KIB;
/// Most memory in spare buffers between two turns: the small messages of one turn.
pub const SPARE_BUFFERS_BYTES_MAX: usize = 512 * KIB;
/// Once this much waits for a client, it is written before more is read from its peer, while the bytes are still in
/// the cache.
pub const EARLY_FLUSH_BYTES: usize = 32 * KIB;
/// Capacity of the queue of a spare outbox, in entries. An outbox with a larger queue is freed rather than kept.
pub const QUEUE_CAPACITY_KEPT: usize = 64;
/// Most spare outboxes between two turns.
pub const SPARE_OUTBOXES_MAX: usize = 128;
/// Most slices in one vectored write: a header and a payload for each of 32 fragments.
pub const WRITE_SLICES_MAX: usize = 64;

/// Unsent bytes in the kernel's send buffer from which on the socket is not writable (`TCP_NOTSENT_LOWAT`). Further
/// bytes stay in the outbox, where replies can overtake them.
pub const NOT_SENT_LOW_WATER_BYTES: u32 = 128 * 1024;

/// How long a client may take to answer a close frame before the relay ends its own side of the stream.
pub const CLOSE_ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the client may then send nothing before its socket is dropped.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the whole close may take while the client goes on sending. A client in the middle of its largest message
/// can still read why it was closed, even behind a proxy.
pub const LINGER_TIME_MAX: Duration = Duration::from_secs(5 * 60);
/// How long the whole close may take if the client was ended because its message stood still or was late. Only bytes
/// of that message would have been progress.
pub const LATE_LINGER_TIME_MAX: Duration = Duration::from_secs(30);
/// Most bytes that are read and discarded during the close.
pub const LINGER_BYTES_MAX: usize = 256 * MIB;

/// Longest time between the closes of two sessions in a shutdown. So a few sessions are closed at once; and 100 per
/// second are no burden for the relay to which the clients reconnect.
pub const DRAIN_INTERVAL_MAX: Duration = Duration::from_millis(10);
/// Percentage of the shutdown grace over which the closes are spread. In the rest of it, the clients closed last
/// receive what waits for them, and answer.
pub const DRAIN_SPREAD_PERCENT: u32 = 75;

/// Most refused connections that stay open at once until their answer has been read.
pub const REFUSALS_MAX: usize = 64;
/// Sessions at once for each connection that the limit allows. They include sessions that clients have left.
pub const SESSIONS_PER_CONNECTION: usize = 4;
/// Smallest limit of sessions at once, whatever the limit of connections.
pub const SESSIONS_MIN: usize = 4096;
/// The limit of sessions divided by this number is the number of empty sessions that one host may hold like any
/// other. If the table is full, hosts with more lose theirs first. At least three quarters of a full table are empty
/// sessions, so even five hosts cannot fill it within their shares.
pub const EMPTY_SHARE: usize = 8;
/// Once a place has changed hands this many times within [`CONTEST_WINDOW`], newcomers to it are refused. Two clients
/// with one session ID that reconnect at once replace each other ten times per second.
pub const REPLACEMENTS_MAX: usize = 10;
/// Newcomers to such a place are refused until none has come for this long. It is also their `Retry-After`.
pub const CONTEST_WINDOW: Duration = Duration::from_secs(10);
/// Shortest time between two warnings in the log about one such place.
pub const CONTEST_WARNING_INTERVAL: Duration = Duration::from_secs(60);
/// Most slots of the table of sessions that one report examines.
pub const REPORT_SLOTS_MAX: usize = 4096;
/// Connections for which the tables allocate memory at the start. Untouched memory costs nothing, and tables that
/// grow in small steps fragment the heap.
pub const TABLE_CAPACITY: usize = 8192;
/// How long accepting pauses if the process has no free file descriptor.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// `Retry-After` of a client that is refused because the relay is full, in seconds.
pub const RETRY_AFTER_SECONDS: u32 = 5;

/// Shortest secret, in bytes. A shorter one could be guessed.
pub const SECRET_BYTES_MIN: usize = 16;
/// Longest secret, in bytes.
pub const SECRET_BYTES_MAX: usize = 256;
/// Longest PROXY protocol header, in bytes, including what follows the addresses in it.
pub const PROXY_HEADER_BYTES_MAX: usize = 4 * KIB;
/// Most hosts without a connection that are remembered. Beyond it, the one that has been idle for longest is
/// forgotten.
pub const IDLE_HOSTS_MAX: usize = 16 * 1024;
/// How long a host is locked out the first time that it fails to join too often. Each further time is twice as long.
pub const LOCK_OUT_MIN: Duration = Duration::from_secs(60);
/// The longest lock-out. A lock-out is remembered for this long after its end.
pub const LOCK_OUT_MAX: Duration = Duration::from_secs(60 * 60);

/// Most characters of a client's text that a log line shows.
pub const LOGGED_CHARS_MAX: usize = 64;

// What other modules rely on. A head, and a small message with its header, fit into the receive buffer.
const _: () = assert!(LOW_WATER_BYTES < HIGH_WATER_BYTES);
const _: () = assert!(SMALL_MESSAGE_BYTES_MAX + FRAME_HEADER_BYTES_MAX <= RECEIVE_BUFFER_BYTES);
const _: () = assert!(HEAD_BYTES_MAX <= RECEIVE_BUFFER_BYTES);
// A small message never needs a 64-bit length, and fits into one buffer with its header of 4 bytes.
const _: () = assert!(SMALL_MESSAGE_BYTES_MAX < 0xFFFF && SMALL_MESSAGE_BYTES_MAX + 4 <= RUN_BYTES_MAX);
// The header of a full fragment has a 64-bit length.
const _: () = assert!(FRAGMENT_BYTES_MAX > 0xFFFF);
// See `REGION_CHUNKS`.
const _: () = assert!(REGION_CHUNKS * CHUNK_BYTES > 32 * MIB);
// The smallest budget still lets clients be read.
const _: () = assert!(BUFFERED_BYTES_MIN / SMALL_SHARE >= 2 * RECEIVE_BUFFER_BYTES);
const _: () = assert!(BUFFERED_BYTES_MIN / PIECES_SHARE >= 2 * PIECE_BYTES_MAX);
const _: () = assert!(LEAST_READ_BYTES < LEAST_FREE_BYTES);
// A short read can bring a whole control frame.
const _: () = assert!(SHORT_READ_BYTES >= FRAME_HEADER_BYTES_MAX + CONTROL_PAYLOAD_BYTES_MAX);
const _: () = assert!(CONTROL_PAYLOAD_BYTES_MAX < 126);
const _: () = assert!(DRAIN_SPREAD_PERCENT < 100);
