//! How many sessions and clients there are. The counts are updated with every change, never by scanning.

use super::Session;

/// How many clients a session has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// None: its clients may come back, or it was issued and not joined yet.
    Empty,
    /// One. It waits for its peer.
    Waiting,
    /// Both.
    Paired,
}

impl SessionState {
    /// All states.
    pub const ALL: [Self; 3] = [Self::Empty, Self::Waiting, Self::Paired];

    /// The state as metrics and the operator's pages name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Waiting => "waiting",
            Self::Paired => "paired",
        }
    }
}

/// How many sessions and clients there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Census {
    /// Sessions, in the order of [`SessionState::ALL`].
    pub sessions: [u64; 3],
    /// Clients in sessions, by client type.
    pub clients: [u64; 2],
}

impl Census {
    /// Counts a session and its clients.
    pub(super) fn add(&mut self, session: &Session) {
        self.change(session, u64::wrapping_add);
    }

    /// Undoes [`add`](Self::add). Call it before the session changes, and `add` after.
    pub(super) fn remove(&mut self, session: &Session) {
        // Never below zero: the session was added before, and has not changed since.
        self.change(session, u64::wrapping_sub);
    }

    fn change(&mut self, session: &Session, by: fn(u64, u64) -> u64) {
        let [desktops, mobiles] = &mut self.clients;
        let seats = [(desktops, session.desktop), (mobiles, session.mobile)];
        for (clients, seat) in seats {
            *clients = by(*clients, u64::from(seat.taken().is_some()));
        }
        if let Some(sessions) = self.sessions.get_mut(session.state() as usize) {
            *sessions = by(*sessions, 1);
        }
    }
}
