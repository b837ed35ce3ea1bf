//! The phases of a connection, and what its calls return: what is due, what was read, what to do after a write.

use std::time::Duration;

use crate::relay::http::HeadReader;
use crate::relay::time::Tick;

/// The phase of a connection; see the table of the module. Most connections are open, so the state of the
/// other phases is boxed.
#[derive(Debug)]
pub enum Phase {
    /// Reading the request head. The reader holds what has come of it.
    Head(HeadReader),
    /// An open WebSocket, in both directions.
    Open,
    /// The relay has queued its close frame and waits for the client's.
    Closing(Box<Linger>),
    /// What waits is still written. Input is discarded.
    Ending(Box<Ending>),
}

/// How long a closing or ending connection is kept, and how much it has sent meanwhile.
#[derive(Debug)]
pub struct Linger {
    /// When it is removed. Input moves this, because the client is still active.
    pub(super) deadline: Tick,
    /// `deadline` never moves beyond this.
    pub(super) latest_deadline: Tick,
    /// Bytes that came since the close and were discarded.
    pub(super) discarded_bytes: usize,
}

impl Linger {
    pub(super) fn until(deadline: Tick, now: Tick, linger_max: Duration) -> Self {
        Self { deadline, latest_deadline: deadline.max(now.after(linger_max)), discarded_bytes: 0 }
    }

    /// Whether input may still move the deadline.
    pub(super) fn may_move(&self) -> bool {
        self.deadline < self.latest_deadline
    }
}

/// The state of an ending connection.
#[derive(Debug)]
pub struct Ending {
    pub(super) linger: Linger,
    /// The client will send nothing more: it ended its stream, or its close frame was the last thing to read.
    pub(super) is_input_over: bool,
    /// The relay has shut down its side of the stream, as TCP allows for one direction.
    pub(super) is_shut: bool,
    /// It is removed after the next write, even if that write does not send everything.
    pub(super) is_cut: bool,
}

/// Which timeout of a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The request head was not complete within the handshake timeout.
    Head,
    /// Nothing came for a ping interval: the client is sent a ping.
    Ping,
    /// Nothing came for two ping intervals, not even a pong.
    Silence,
    /// The client took no byte for the stall timeout, although bytes waited for it.
    Stall,
    /// No byte of an unfinished message came for the stall timeout, or the message was not complete within the message
    /// timeout.
    Message,
    /// For the stall timeout there was no memory to read what the client sends.
    Starved,
    /// The rate limits allow reading again.
    Pace,
    /// The client is asked whether it has what was written.
    Ask,
    /// The client has sent something, but for two ping intervals no answer to the ping that asked it.
    NoConfirmation,
    /// The client received the close frame and did not answer it in time.
    CloseAnswer,
    /// The closing or ending client did not take what waits for it, or did not end its stream, in time.
    End,
}

impl Due {
    /// Whether the relay ends the connection, or trusts it less, because of this. Input that the kernel holds already
    /// could postpone such a timeout, so the relay reads before it acts.
    #[must_use]
    pub const fn is_verdict(self) -> bool {
        match self {
            Self::Head
            | Self::Silence
            | Self::Stall
            | Self::Message
            | Self::Starved
            | Self::NoConfirmation
            | Self::CloseAnswer
            | Self::End => true,
            // These keep the client as it is, so they need no proof that nothing is unread.
            Self::Ping | Self::Pace | Self::Ask => false,
        }
    }
}

/// The result of one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadEnd {
    /// This many bytes came, at least one.
    Bytes(usize),
    /// No bytes are there for now.
    Blocked,
    /// The client has ended its stream.
    Ended,
    /// The stream has failed.
    Failed,
}

/// What may still be unread after a read that did not fill its buffer, without a further event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterShortRead {
    Nothing,
    /// Bytes behind urgent data, at which a read stops. Stays until a read finds nothing.
    More,
    /// The end of the stream.
    End,
}

/// What the caller has to do after a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushEnd {
    /// Nothing, until the next event.
    Idle,
    /// Flush again in the next turn: the allowance of this one is used up.
    More,
    /// Shut down the sending side of the stream. The connection then waits until the client ends its side.
    Shut,
    /// Remove the connection: nothing is left to write or read.
    Gone,
}
