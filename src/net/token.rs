//! mio's `Token` stands for a connection, a listener or one of the loop's own sources.

use mio::Token;

use crate::admin;
use crate::config;
use crate::relay::ConnectionId;
use crate::relay::limits::REFUSALS_MAX;

/// The low half of a token is the slot, the high half the generation. An event is only a hint, so a generation that
/// repeats after an overflow does no harm.
const SLOT_BITS: u32 = usize::BITS / 2;
const SLOT_MASK: usize = usize::MAX >> SLOT_BITS;

/// Number of listeners that have tokens: the clients', and as many for the operator.
const LISTENERS_MAX: usize = 2 * config::LISTENERS_MAX;
/// The first slot that is not for clients' connections. From here on: the operator's connections, listeners, signals,
/// the waker.
const RESERVED: usize = SLOT_MASK - 2 - LISTENERS_MAX - admin::CONNECTIONS_MAX;
/// The first slot for listeners.
const LISTENERS: usize = RESERVED + admin::CONNECTIONS_MAX;
/// The waker, by which other threads and signal handlers wake the loop.
pub(super) const WAKER: Token = Token(SLOT_MASK);
/// The pipe of the process's signals.
pub(super) const SIGNALS: Token = Token(SLOT_MASK - 1);

/// Number of served connections that have tokens. [`REFUSALS_MAX`] more slots are for refused connections.
pub(super) const CONNECTIONS_MAX: usize = RESERVED - REFUSALS_MAX;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Connection {
        slot: u32,
        generation: u32,
    },
    /// An operator's connection, by its key.
    Operator(usize),
    Listener(usize),
    Signals,
    Waker,
}

#[expect(clippy::cast_possible_truncation, reason = "both halves are masked to fit")]
pub(super) fn source_of(token: Token) -> Source {
    match token {
        WAKER => Source::Waker,
        SIGNALS => Source::Signals,
        // Highest ranges first: each check includes all ranges above it.
        Token(bits) if bits & SLOT_MASK >= LISTENERS => Source::Listener((bits & SLOT_MASK) - LISTENERS),
        Token(bits) if bits & SLOT_MASK >= RESERVED => Source::Operator((bits & SLOT_MASK) - RESERVED),
        Token(bits) => {
            Source::Connection { slot: (bits & SLOT_MASK) as u32, generation: (bits >> SLOT_BITS) as u32 }
        }
    }
}

pub(super) fn of_connection(id: ConnectionId) -> Token {
    Token((id.slot as usize & SLOT_MASK) | ((id.generation as usize) << SLOT_BITS))
}

pub(super) fn of_operator(key: usize) -> Token {
    Token(RESERVED + key)
}

pub(super) fn of_listener(index: usize) -> Token {
    Token(LISTENERS + index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_gives_back_its_source() {
        for (slot, generation) in
            [(0, 0), (1, 0), (0, 1), (u32::try_from(RESERVED - 1).unwrap(), ConnectionId::GENERATION_MAX)]
        {
            let token = of_connection(ConnectionId { slot, generation });
            assert_eq!(source_of(token), Source::Connection { slot, generation });
        }
        for index in [0, 1, LISTENERS_MAX - 1] {
            assert_eq!(source_of(of_listener(index)), Source::Listener(index));
        }
        for key in [0, admin::CONNECTIONS_MAX - 1] {
            assert_eq!(source_of(of_operator(key)), Source::Operator(key));
        }
        assert_eq!(source_of(WAKER), Source::Waker);
        assert_eq!(source_of(SIGNALS), Source::Signals);
    }
}
