//! The shutdown: which session is closed when, and what happens to all other connections.
//!
//! A client whose connection is closed usually reconnects at once, to the relay that replaces this one. Sessions are
//! closed one after another, so that not all clients reconnect in the same moment. A session works as before until
//! its turn, but no client can join it.
//!
//! | connection or session | what happens to it |
//! | --- | --- |
//! | a request in progress, a new connection | it is refused with 503 |
//! | a session without clients, or whose last client leaves | it ends at once |
//! | a session with clients | both are closed when its time comes, after everything that waits for them |
//! | a client that is closing or ending already | it goes on as before |
//! | a connection that is still there after the grace | it is dropped |

use std::io::{Read, Write};
use std::time::Duration;

use super::drain_plan::{DrainPlan, Shutdown};
use super::record::End;
use super::relay::{Relay, Timer};
use crate::relay::client::connection::Phase;
use crate::relay::counts::end_reason::EndReason;
use crate::relay::http::{AnswerForm, Refusal};
use crate::relay::ids::ClientType;
use crate::relay::sessions::{Session, SessionKey};
use crate::relay::time::Tick;
use crate::relay::wire::close_reason::CloseReason;

impl<S: Read + Write> Relay<S> {
    /// Begins a shutdown: requests are refused, empty sessions end, and the times of the others are fixed.
    pub(super) fn begin_drain(&mut self, grace: Duration) -> Shutdown {
        for id in self.slots.ids() {
            if self.slots.get(id).is_some_and(|slot| matches!(slot.connection.phase, Phase::Head(_))) {
                self.refuse(id, Refusal::ConnectionLimit, AnswerForm::default());
            }
        }
        let is_empty = |key: &SessionKey| self.sessions.get(*key).is_none_or(Session::is_empty);
        let (empty, sessions): (Vec<_>, Vec<_>) = self.sessions.keys().partition(is_empty);
        for key in empty {
            self.end_session(key);
        }
        let drain = DrainPlan::new(sessions, grace, self.now.tick);
        let sessions = drain.sessions.len();
        let shutdown = Shutdown { sessions, spread: drain.delay(sessions.saturating_sub(1)) };
        let deadline = drain.deadline;
        self.drain = Some(drain);
        self.schedule_next_close();
        self.schedule(deadline, Timer::Shutdown);
        shutdown
    }

    /// Closes the sessions that are due, and sets the timer for the next one.
    pub(super) fn close_due_sessions(&mut self) {
        while let Some(drain) = &mut self.drain
            && let Some(key) = drain.next_due(self.now.tick)
        {
            let deadline = drain.deadline;
            self.close_for_shutdown(key, deadline);
        }
        self.schedule_next_close();
    }

    fn schedule_next_close(&mut self) {
        let next = self.drain.as_mut().and_then(|drain| drain.next_due_at(&self.sessions));
        if let Some(next) = next {
            self.schedule(next, Timer::Drain);
        }
    }

    /// Closes both clients of a session at once. Each gets what waits for it, and then a close frame.
    fn close_for_shutdown(&mut self, key: SessionKey, deadline: Tick) {
        // A client may have left it before, as the last one.
        if !self.sessions.contains(key) {
            return;
        }
        // Nothing can be sent again after the shutdown, so what is written counts as delivered. Its sender is found in
        // the session, which must still be there.
        let clients = self.sessions.get(key).map(|session| ClientType::ALL.map(|side| session.client(side)));
        clients.into_iter().flatten().flatten().for_each(|id| self.stop_keeping(id));
        let Some(session) = self.end_session(key) else { return };
        for id in self.cut_unfinished_in(&session) {
            let messages = self.take_messages(id).discard(&mut self.pool);
            debug_assert_eq!(messages, 0, "the message that was cut short was the last one of its sender");
        }
        for client_type in [ClientType::Desktop, ClientType::Mobile] {
            let Some(id) = session.client(client_type) else { continue };
            if let Some(slot) = self.slots.get_mut(id) {
                slot.leave();
            }
            let end = End { reason: EndReason::ShuttingDown, code: 1001, undelivered: 0, kept: 0 };
            self.note_end_with_session(id, client_type, session.id.as_str(), end);
            self.close(id, &CloseReason::ShuttingDown, deadline);
        }
    }

    /// Drops every connection, because the grace is over.
    pub(super) fn drop_everyone(&mut self) {
        // Sessions are left only if the process was stopped while they became due.
        self.close_due_sessions();
        for id in self.slots.ids() {
            self.remove(id);
        }
    }

    /// Checks that every session is still to be closed. Walks them: for tests and debug builds.
    #[cfg(debug_assertions)]
    pub(super) fn check_drain(&self) {
        let Some(drain) = &self.drain else { return };
        let rest = drain.sessions.iter().skip(drain.passed);
        let left = rest.filter(|key| self.sessions.contains(**key)).count();
        assert_eq!(left, self.sessions.len(), "each session is yet to be closed");
    }
}
