//! What the relay does when a timer fires.

use std::io::{Read, Write};

use log::info;

use super::record::SESSIONS;
use super::relay::{Relay, Timer};
use super::schedule::rearm;
use crate::relay::access::host_limits::HostKey;
use crate::relay::client::connection::Due;
use crate::relay::client::outbox::Outbox;
use crate::relay::http::{AnswerForm, Refusal};
use crate::relay::ids::{ClientType, ConnectionId};
use crate::relay::limits::UNREAD_RETRY;
use crate::relay::sessions::{Expiry, SessionDue, SessionKey};
use crate::relay::time::format_duration;
use crate::relay::wire::close_reason::CloseReason;
use crate::relay::wire::message::Logged;

impl<S: Read + Write> Relay<S> {
    pub(super) fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Connection(id) => self.fire_connection(id),
            Timer::Session(session) => self.fire_session(session),
            Timer::Host(host) => self.fire_host(host),
            Timer::Accept => self.accept_retry = None,
            Timer::Drain => self.close_due_sessions(),
            Timer::Shutdown => self.drop_everyone(),
        }
    }

    fn fire_connection(&mut self, id: ConnectionId) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        slot.timer = None;
        self.touch(id);
        let Some(slot) = self.slots.get(id) else { return };
        let Some((deadline, due)) = slot.connection.due(&self.settings, self.now.tick) else { return };
        // If it is too early for a verdict, the flush that follows sets the timer anew; it fires in the next turn.
        let is_due = if due.is_verdict() {
            deadline <= self.catch_up.read_until() && !slot.connection.may_input_postpone(due)
        } else {
            deadline <= self.now.tick
        };
        if is_due {
            self.handle_due(id, due);
        }
    }

    fn handle_due(&mut self, id: ConnectionId, due: Due) {
        match due {
            Due::Head => {
                let refusal = self.refusal_outside(id).unwrap_or(Refusal::HeadTimeout);
                self.refuse(id, refusal, AnswerForm::default());
            }
            Due::Ping => self.ping(id),
            Due::Silence => self.cut_unless_it_takes(id, due, CloseReason::Silent),
            Due::Stall => self.cut_unless_it_takes(id, due, CloseReason::TakesNothing),
            Due::Message => self.fail(id, CloseReason::MessageTimeout),
            Due::Starved => self.end_starved(id),
            // The flush that follows queues it to be served.
            Due::Pace => {}
            Due::Ask => self.ask(id),
            Due::NoConfirmation => self.stop_keeping(id),
            Due::CloseAnswer => self.end(id),
            Due::End => self.remove(id),
        }
    }

    /// Cuts a client off, unless its socket takes something when it is tried once more.
    fn cut_unless_it_takes(&mut self, id: ConnectionId, due: Due, reason: CloseReason) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.connection.probe();
        }
        // The rest is written by the flush at the end of the turn, because the timer has touched the connection.
        self.flush(id);
        let Some(slot) = self.slots.get(id) else { return };
        let now = self.now.tick;
        let is_still_due = |(deadline, still)| deadline <= now && still == due;
        if slot.connection.due(&self.settings, now).is_some_and(is_still_due) {
            self.cut(id, reason);
        }
    }

    /// Pings a client. If its socket refuses what waits already, a ping would only wait with it: then taking bytes is
    /// the sign of life.
    fn ping(&mut self, id: ConnectionId) {
        let now = self.now.tick;
        let Some(slot) = self.slots.get_mut(id) else { return };
        let is_blocked = slot.connection.outbox().is_some_and(Outbox::is_blocked);
        slot.connection.note_pinged(!is_blocked, now);
        if !is_blocked {
            slot.connection.ping(&mut self.pool);
            self.touch(id);
        }
    }

    /// Asks a client whether it has what was written.
    fn ask(&mut self, id: ConnectionId) {
        let now = self.now.tick;
        if let Some(slot) = self.slots.get_mut(id) {
            slot.connection.ask(&mut self.pool, now);
            self.touch(id);
        }
    }

    fn fire_session(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.timer = None;
        match self.sessions.due(key) {
            Some((deadline, SessionDue::End(_))) if deadline <= self.now.tick && self.is_unread(key) => {
                let retry = self.now.tick.after(UNREAD_RETRY);
                if let Some(session) = self.sessions.get_mut(key) {
                    rearm(&mut self.wheel, &mut session.timer, retry, Timer::Session(key));
                }
            }
            Some((deadline, due)) if deadline <= self.catch_up.read_until() => match due {
                SessionDue::End(expiry) => self.expire(key, expiry),
                SessionDue::Kept(client_type) => {
                    self.give_up_kept(key, client_type);
                    self.arm_session(key);
                }
            },
            // If it is too early for a verdict, the timer fires again in the next turn.
            Some(_) | None => self.arm_session(key),
        }
    }

    /// Whether the kernel may hold unread data of the session's clients that the relay does not hold back. A message
    /// among it would keep the session.
    fn is_unread(&self, key: SessionKey) -> bool {
        let Some(session) = self.sessions.get(key) else { return false };
        let clients = [ClientType::Desktop, ClientType::Mobile];
        clients.into_iter().filter_map(|client_type| session.client(client_type)).any(|id| {
            let connection = self.slots.get(id).map(|slot| &slot.connection);
            connection.is_some_and(|connection| connection.is_readable() && !connection.is_noted_held())
        })
    }

    fn expire(&mut self, key: SessionKey, expiry: Expiry) {
        let Some(session) = self.end_session(key) else { return };
        let id = Logged(session.id.as_str());
        match expiry {
            Expiry::Inactive => {
                let timeout = format_duration(self.settings.session_timeout);
                info!(target: SESSIONS, "session={id} Session {id} deleted: inactive for {timeout}");
            }
            Expiry::Empty => {
                let window = format_duration(self.settings.reconnect_window);
                info!(target: SESSIONS, "session={id} Session {id} deleted: empty for {window}");
            }
        }
        self.close_session(&session);
    }

    /// Forgets a host if it is time, or sets its timer anew.
    fn fire_host(&mut self, key: HostKey) {
        if let Some(timer) = self.gate.hosts.timer_mut(key) {
            *timer = None;
        }
        match self.gate.hosts.due(key) {
            Some(deadline) if deadline <= self.now.tick => self.forget_host(key),
            Some(_) | None => self.arm_host(key),
        }
    }
}
