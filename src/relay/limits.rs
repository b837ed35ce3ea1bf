//! Every bound of the relay, with its unit and its reason.

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
/// Bytes read at once from a client between two messages while chunks are short.
pub const SHORT_READ_BYTES: usize = 4 * KIB;
/// The rest of a large frame is read straight into its place, rather than through the receive buffer, as
/// long as it is more than this.
pub const DIRECT_READ_BYTES_MIN: usize = 16 * KIB;
/// Read buffer of the loop's tungstenite context; it zeroes that much for each control frame.
pub const TUNGSTENITE_READ_BUFFER_BYTES: usize = KIB;
/// Bytes taken from one connection per turn, so that a flood waits its turn like everybody else.
pub const READ_BYTES_PER_TURN: usize = RECEIVE_BUFFER_BYTES;
/// Bytes handed to one socket per turn, for the same reason.
pub const WRITE_BYTES_PER_TURN: usize = RECEIVE_BUFFER_BYTES;
/// Timers fired per turn; the rest fire in the next one, which follows without a wait.
pub const TIMERS_PER_TURN: usize = 1024;
/// Connections served per turn; the rest are served in the next one, after their timers. What they queue is
/// written while it is still in the cache, and no more buffers are in use at once.
pub const CONNECTIONS_PER_TURN: usize = 128;

/// How long a session that is due, and one of whose clients cannot be read for now, is left alone before it is looked
/// at again.
pub const UNREAD_RETRY: Duration = Duration::from_secs(1);

/// Longest WebSocket frame header that a client sends: two bytes, a 64-bit length and a mask.
pub const FRAME_HEADER_BYTES_MAX: usize = 14;
/// Payload of a control frame (RFC 6455, section 5.5).
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;
/// Reason of a close frame: a control frame's payload less the code.
pub const CLOSE_REASON_BYTES_MAX: usize = CONTROL_PAYLOAD_BYTES_MAX - 2;

/// Up to this many bytes a message is copied into a buffer shared with its neighbours; a larger
/// one is received into memory of its own, for which there must be room in the budget.
pub const SMALL_MESSAGE_BYTES_MAX: usize = 16 * KIB;
/// Memory of messages in transit comes in chunks of this size: a read fills one, a write gathers several.
pub const CHUNK_BYTES: usize = RECEIVE_BUFFER_BYTES;
/// Chunks are cut from allocations of so many, 33 MiB: glibc maps what is over 32 MiB by itself, always, and gives it
/// back to the system as soon as it is freed.
pub const REGION_CHUNKS: usize = 528;
/// Chunks kept for the next message when none is in use: 2 MiB.
pub const SPARE_CHUNKS_MAX: usize = 32;
/// A message of up to this many bytes stays in memory until all its receivers have it, so that a client that connects
/// again in the middle of it gets it from its start.
pub const KEPT_BYTES_MAX: usize = HIGH_WATER_BYTES;
/// So much of the receive buffer becomes a part of a message with the buffer itself, rather than as a copy.
pub const SWAP_BYTES_MIN: usize = CHUNK_BYTES / 2;
/// One part in so many of the budget is for pieces of messages in transit while there are no chunks.
pub const PIECES_SHARE: usize = 16;
/// Bytes of such a message read at once.
pub const PIECE_BYTES_MAX: usize = 16 * KIB;
/// A client in the middle of a message is not read while less of the budget than this is free.
pub const LEAST_FREE_BYTES: usize = 4 * KIB;
/// One part in so many of the budget is kept for messages that are not large.
pub const SMALL_SHARE: usize = 8;
/// Nobody is read between two messages while small ones have less room than this: one of them, and what a
/// short read may bring behind it.
pub const SMALL_ROOM_BYTES_MIN: usize = SMALL_MESSAGE_BYTES_MAX + 2 * SHORT_READ_BYTES;
/// What a read may bring in replies for each of its bytes: an error message of 130 for an empty text of six.
pub const REPLIES_PER_BYTE_MAX: usize = 24;
/// However little room is left, so much is read at once; and however little a read brings, it counts as so much of
/// what is [taken in a turn](READ_BYTES_PER_TURN).
pub const LEAST_READ_BYTES: usize = 256;
/// The smallest budget: its [share](SMALL_SHARE) for small messages is two reads.
pub const BUFFERED_BYTES_MIN: usize = MIB;

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
/// Once so much waits for a client it is flushed before more is read from its peer, while the bytes are
/// still in the cache.
pub const EARLY_FLUSH_BYTES: usize = 32 * KIB;
/// Places in the queue of a spare outbox: what held more is given back.
pub const QUEUE_CAPACITY_KEPT: usize = 64;
/// Spare outboxes kept between turns.
pub const SPARE_OUTBOXES_MAX: usize = 128;
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
/// How long it may take in all where it was ended because a message of its stood still or was late: only bytes of that
/// message would have been progress.
pub const LATE_LINGER_TIME_MAX: Duration = Duration::from_secs(30);
/// Bytes thrown away from it meanwhile, at most.
pub const LINGER_BYTES_MAX: usize = 256 * MIB;

/// Most time from one session's close to the next in a shutdown: a few sessions are closed within a moment, and 100 in
/// a second are no crowd for the relay that they come back to.
pub const DRAIN_INTERVAL_MAX: Duration = Duration::from_millis(10);
/// The share of its grace that a shutdown spreads the closes over, in percent. The rest is for whoever is closed last
/// to take what waits for it and to answer.
pub const DRAIN_SPREAD_PERCENT: u32 = 75;

/// Connections beyond the limit that are kept just long enough to be told so.
pub const REFUSALS_MAX: usize = 64;
/// Sessions kept at once for every connection allowed: those of clients that left lately.
pub const SESSIONS_PER_CONNECTION: usize = 4;
/// Fewest sessions kept at once, whatever the connection limit.
pub const SESSIONS_MIN: usize = 4096;
/// Of all sessions that there may be, one part in so many is the share of empty ones that one host holds: where there
/// is no room, those that hold more lose theirs first. At least three quarters of a full table are empty sessions, so
/// that a single host, or five, never fill it within their shares.
pub const EMPTY_SHARE: usize = 8;
/// Once a place in a session has changed hands so often within [`CONTEST_WINDOW`], newcomers to it are refused: two
/// clients with one ID that connect again at once replace each other ten times in a second.
pub const REPLACEMENTS_MAX: usize = 10;
/// Until nobody has come for so long. It is also their `Retry-After`.
pub const CONTEST_WINDOW: Duration = Duration::from_secs(10);
/// Least time from one warning of such a place to the next.
pub const CONTEST_WARNING_INTERVAL: Duration = Duration::from_secs(60);
/// Places of the table of sessions that one report looks at.
pub const REPORT_PLACES_MAX: usize = 4096;
/// Connections that the tables have memory set aside for: what is never touched costs nothing, and tables that
/// grow in small steps leave holes behind.
pub const TABLE_CAPACITY: usize = 8192;
/// How long accepting pauses when the process is out of descriptors and none comes free.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// What a client refused for lack of room is told to wait: `Retry-After`, in seconds.
pub const RETRY_AFTER_SECONDS: u32 = 5;

/// Shortest secret that a client may bring, in bytes: what is shorter can be guessed.
pub const SECRET_BYTES_MIN: usize = 16;
/// Longest one, in bytes.
pub const SECRET_BYTES_MAX: usize = 256;
/// Longest PROXY protocol header, in bytes, whatever its sender puts behind the addresses.
pub const PROXY_HEADER_BYTES_MAX: usize = 4 * KIB;
/// Hosts remembered that have no connection: the one that was heard of least lately is forgotten for another.
pub const IDLE_HOSTS_MAX: usize = 16 * 1024;
/// How long a host is locked out that fails to join too often; twice as long each time.
pub const LOCK_OUT_MIN: Duration = Duration::from_secs(60);
/// The longest it gets, and how long the lock-out before is remembered after its end.
pub const LOCK_OUT_MAX: Duration = Duration::from_secs(60 * 60);

/// Characters of anything a client sent that a log line shows.
pub const LOGGED_CHARS_MAX: usize = 64;

const _: () = assert!(LOW_WATER_BYTES < HIGH_WATER_BYTES);
const _: () = assert!(SMALL_MESSAGE_BYTES_MAX + FRAME_HEADER_BYTES_MAX <= RECEIVE_BUFFER_BYTES);
const _: () = assert!(HEAD_BYTES_MAX <= RECEIVE_BUFFER_BYTES);
const _: () = assert!(SMALL_MESSAGE_BYTES_MAX < 0xFFFF && SMALL_MESSAGE_BYTES_MAX + 4 <= RUN_BYTES_MAX);
const _: () = assert!(FRAGMENT_BYTES_MAX > 0xFFFF);
const _: () = assert!(REGION_CHUNKS * CHUNK_BYTES > 32 * MIB);
const _: () = assert!(BUFFERED_BYTES_MIN / SMALL_SHARE >= 2 * RECEIVE_BUFFER_BYTES);
const _: () = assert!(BUFFERED_BYTES_MIN / PIECES_SHARE >= 2 * PIECE_BYTES_MAX);
const _: () = assert!(LEAST_READ_BYTES < LEAST_FREE_BYTES);
const _: () = assert!(SHORT_READ_BYTES >= FRAME_HEADER_BYTES_MAX + CONTROL_PAYLOAD_BYTES_MAX);
const _: () = assert!(CONTROL_PAYLOAD_BYTES_MAX < 126);
const _: () = assert!(DRAIN_SPREAD_PERCENT < 100);
