//! What a host may decide and hear about the clients of a relay.

use std::fmt;
use std::net::IpAddr;

use crate::relay::counts::end_reason::EndReason;
use crate::relay::ids::{ClientType, ConnectionId};

/// Decides which clients may join, and hears of joins and leaves.
///
/// The relay calls it inside a turn, in the order of the events. A hook must not block, and whatever it does counts as
/// a part of the turn. For the relay to be deterministic, the hook must give the same answers to the same calls.
pub trait Hook {
    /// Whether this client may join. The checks of the relay itself have passed: limits, secrets, keys. A client that
    /// is refused gets a 403, which counts as a failed join of its address.
    ///
    /// A client that may join can still be refused, for example because there is no room. [`joined`](Self::joined)
    /// says that it is a member of the session.
    fn may_join(&mut self, client: &Member<'_>) -> bool {
        let _ = client;
        true
    }

    /// A client has joined its session.
    fn joined(&mut self, client: &Member<'_>) {
        let _ = client;
    }

    /// A client has left its session: once for each call of [`joined`](Self::joined). `code` is the close code, 1006
    /// if there was no close frame. A client that was replaced has left before the new one has joined.
    fn left(&mut self, client: &Member<'_>, reason: EndReason, code: u16) {
        let _ = (client, reason, code);
    }
}

/// A client of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member<'a> {
    /// Its connection.
    pub connection: ConnectionId,
    /// Its side of the session.
    pub client_type: ClientType,
    /// Its session.
    pub session_id: &'a str,
    /// Its address, or the one that a trusted proxy named.
    pub address: IpAddr,
    /// The name of its API key, if it brought one. Only [`Hook::may_join`] is told.
    pub key_name: Option<&'a str>,
}

/// The hook of a relay, if it has one.
#[derive(Default)]
pub(crate) struct Hooked(Option<Box<dyn Hook + Send>>);

impl Hooked {
    pub(crate) fn new(hook: Box<dyn Hook + Send>) -> Self {
        Self(Some(hook))
    }

    pub(crate) fn may_join(&mut self, client: &Member<'_>) -> bool {
        self.0.as_mut().is_none_or(|hook| hook.may_join(client))
    }

    pub(crate) fn joined(&mut self, client: &Member<'_>) {
        if let Some(hook) = &mut self.0 {
            hook.joined(client);
        }
    }

    pub(crate) fn left(&mut self, client: &Member<'_>, reason: EndReason, code: u16) {
        if let Some(hook) = &mut self.0 {
            hook.left(client, reason, code);
        }
    }
}

impl fmt::Debug for Hooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Hooked" } else { "Unhooked" })
    }
}
