//! Where a connection is in its life, and what there is to do for it.

use std::time::Duration;

use crate::relay::http::HeadReader;
use crate::relay::time::Tick;

/// Where a connection is in its life; see the module's table. What an open one does not need is kept apart, for
/// most are open.
#[derive(Debug)]
pub enum Phase {
    /// Reading the request head; what has come of it.
    Head(HeadReader),
    /// A WebSocket in both directions.
    Open,
    /// The relay's close frame is on its way, the client's is awaited.
    Closing(Box<Linger>),
    /// Only what waits is still written; nothing that comes is looked at.
    Ending(Box<Ending>),
}

/// How long the relay still waits for a client that it has done with.
#[derive(Debug)]
pub struct Linger {
    pub(super) deadline: Tick,
    /// The deadline never moves beyond this.
    pub(super) latest_deadline: Tick,
    pub(super) discarded_bytes: usize,
}

impl Linger {
    pub(super) fn until(deadline: Tick, now: Tick, linger_max: Duration) -> Self {
        Self { deadline, latest_deadline: deadline.max(now.after(linger_max)), discarded_bytes: 0 }
    }

    /// Whether bytes that come may still move the deadline.
    pub(super) fn may_move(&self) -> bool {
        self.deadline < self.latest_deadline
    }
}

/// How far a connection has ended.
#[derive(Debug)]
pub struct Ending {
    pub(super) linger: Linger,
    /// The client has said that it will send nothing more.
    pub(super) is_input_over: bool,
    /// The relay has ended its side of the stream.
    pub(super) is_shut: bool,
    /// It is gone after the next write, whether or not everything was taken.
    pub(super) is_cut: bool,
}

/// What became due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The request head is not complete in time.
    Head,
    /// Nothing came for a ping interval: the client is asked for a sign of life.
    Ping,
    /// Nothing at all came for two ping intervals.
    Silence,
    /// The client took no byte for the stall timeout while something waited for it.
    Stall,
    /// A message stood still for the stall timeout, or was not whole within the message timeout.
    Message,
    /// For the stall timeout there was no memory for what the client sends.
    Starved,
    /// The rate limits allow reading again.
    Pace,
    /// The client, closed, does not answer.
    CloseAnswer,
    /// The client, closed, does not take what waits for it, or does not end its stream.
    End,
}

impl Due {
    /// Whether it ends the client, or what the client still has to say.
    #[must_use]
    pub const fn is_verdict(self) -> bool {
        match self {
            Self::Head
            | Self::Silence
            | Self::Stall
            | Self::Message
            | Self::Starved
            | Self::CloseAnswer
            | Self::End => true,
            Self::Ping | Self::Pace => false,
        }
    }
}

/// What one read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadEnd {
    /// So many bytes.
    Bytes(usize),
    /// Nothing for now.
    Blocked,
    /// The client will send nothing more.
    Ended,
    /// The stream has failed.
    Failed,
}

/// What may lie behind a read that did not fill its buffer, without an event that tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterShortRead {
    Nothing,
    /// More to read, behind urgent data, until a read finds nothing.
    More,
    /// The end of the stream.
    End,
}

/// What is left to do after a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushEnd {
    /// Nothing, until something else happens.
    Idle,
    /// The rest of what waits, next turn.
    More,
    /// Tell the client that nothing more comes, and wait for its end of the stream.
    Shut,
    /// Give the stream back.
    Gone,
}
