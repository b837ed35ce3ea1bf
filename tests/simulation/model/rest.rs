//! Time: nothing happens before it is due, and when the relay rests, nothing due is left.

use std::time::Duration;

use apptuner_relay::relay::Tick;
use apptuner_relay::relay::internals::limits::UNREAD_RETRY;

use super::conn::{Conn, Phase};
use super::sessions::due;
use super::{Check, Model, expect};
use crate::wire::Wire;

/// How long an ended connection may wait: for the answer to a close frame, for the end of the stream, and again as long
/// for what was read meanwhile.
const GOODBYE: Duration = Duration::from_secs(12);
/// The same for a connection that was late, silent or took nothing, whatever it sends meanwhile.
const CUT_GOODBYE: Duration = Duration::from_secs(31);
/// Bytes read, and bytes written, of one connection per turn. The last call may exceed the allowance.
const TURN_READ_MAX: usize = 512 * 1024;
const TURN_WRITTEN_MAX: usize = 2 * 1024 * 1024;

impl Model {
    /// Whether a client may leave now with this code, without a reason in what it sent.
    pub(super) fn justify_leaving(&mut self, wire: usize, code: u16) -> Check {
        let lacks_room = self.may_lack_room();
        let conn = &mut self.conns[wire];
        match code {
            1006 => {
                conn.is_failed |= conn.has_failed;
                // Without memory it is not read to its end.
                let is_ended_unread = conn.has_ended_stream && lacks_room;
                conn.is_input_over |= is_ended_unread;
                let is_lost = conn.is_failed || conn.is_input_over;
                expect(is_lost, || format!("wire {wire} is lost without a failure"))
            }
            1001 => self.justify_timeout(wire),
            1013 => {
                let since = conn.heard_at;
                let is_late = lacks_room && self.now.tick >= since.after(self.settings.stall_timeout);
                expect(is_late, || format!("wire {wire} left with 1013 and was read at {since:?}"))
            }
            _ => {
                let is_refused = conn.take_refused(code);
                expect(is_refused, || format!("wire {wire} left with {code} for no reason"))
            }
        }
    }

    fn justify_timeout(&self, wire: usize) -> Check {
        let now = self.now.tick;
        let settings = &self.settings;
        let conn = &self.conns[wire];
        // Bytes that had arrived by the deadline must have been read.
        let is_over = |deadline: Tick| now >= deadline && !conn.is_unread(deadline);
        let asked = conn.pinged_at.map(|at| at.after(settings.ping_interval)).unwrap_or_default();
        let is_silent = is_over(conn.heard_at.after(settings.ping_interval * 2).max(asked));
        // It may have been held until this turn.
        let may_be_held = self.may_be_held(wire) || conn.was_held || self.leaving.contains(&(wire, true));
        let is_stalled = conn
            .stall_deadline(settings)
            .is_some_and(|deadline| is_over(deadline) || (may_be_held && deadline <= now));
        let is_late = conn.unfinished.is_some_and(|(since, moved_at)| {
            is_over(since.after(settings.message_timeout)) || is_over(moved_at.after(settings.stall_timeout))
        });
        let is_held = self.is_held(wire);
        expect(is_stalled || (!is_held && (is_silent || is_late)), || {
            format!(
                "wire {wire} cut off too early: heard at {:?}, pinged at {:?}, blocked since {:?}, taken at {:?}, \
                 unfinished {:?}, held {is_held}, unread since {:?}",
                conn.heard_at,
                conn.pinged_at,
                conn.blocked_since,
                conn.last_take,
                conn.unfinished,
                conn.unread_since
            )
        })
    }

    /// After each turn: everything due was logged, and no connection had more than its share.
    pub fn end_turn(&mut self) -> Check {
        self.accept_retry = self.accept_retry.filter(|&deadline| self.now.tick < deadline);
        if let Some(awaited) = self.awaited.front() {
            return Err(format!("{awaited:?} did not happen"));
        }
        if let Some(wire) = self.issuing {
            return Err(format!("wire {wire} was not issued a session"));
        }
        self.expect_released()?;
        self.expect_left()?;
        self.expect_given_up_in_turn()?;
        self.interrupted = None;
        for (wire, conn) in self.conns.iter_mut().enumerate() {
            conn.note_congestion();
            let told_due = conn.told_due;
            expect(told_due == [0; 2], || format!("wire {wire} is not told {told_due:?}"))?;
            let (read, written) =
                (std::mem::take(&mut conn.turn_read), std::mem::take(&mut conn.turn_written));
            expect(read <= TURN_READ_MAX && written <= TURN_WRITTEN_MAX, || {
                format!("wire {wire} had {read} bytes read and {written} written in one turn")
            })?;
        }
        self.note_held_and_unread();
        self.expect_drained_in_time()
    }

    /// Notes which clients may be held, and which sessions may have unread bytes.
    fn note_held_and_unread(&mut self) {
        let is_held: Vec<bool> = (0..self.conns.len()).map(|wire| self.may_be_held(wire)).collect();
        for (conn, _) in self.conns.iter_mut().zip(&is_held).filter(|(_, is_held)| **is_held) {
            conn.held_at = Some(self.now.tick);
        }
        let is_unread: Vec<bool> = (self.conns.iter().zip(is_held))
            .map(|(conn, is_held)| is_held || conn.is_readable || conn.unread_since.is_some())
            .collect();
        for session in self.sessions.values_mut() {
            let mut clients = [session.desktop, session.mobile].into_iter().flatten();
            if clients.any(|wire| is_unread[wire]) {
                session.unread_at = Some(self.now.tick);
            }
        }
    }

    /// Notes what is unread after the relay's turn, whose events have not been [applied](Self::apply).
    pub fn note_unread(&mut self, wire: usize, since: Option<Tick>) {
        self.conns[wire].unread_since = since;
    }

    /// When the relay rests, no session is overdue, unless bytes of one of its clients may be unread, or were just now.
    pub fn expect_sessions_in_time(&self) -> Check {
        let now = self.now.tick;
        for (id, session) in &self.sessions {
            let (deadline, why) = due(session, &self.settings);
            let is_excused =
                session.unread_at.is_some_and(|at| now <= at.after(UNREAD_RETRY)) && why != "kept";
            expect(now < deadline || is_excused, || {
                format!("session {id} is {why} since {deadline:?} and still there")
            })?;
        }
        Ok(())
    }

    /// When the relay rests: nothing is owed, unread or overdue.
    pub fn rest(&mut self, wire: usize, of: &Wire) -> Check {
        let is_held = self.may_be_held(wire);
        let is_paused = self.may_be_paused(wire);
        let conn = &mut self.conns[wire];
        if conn.phase == Phase::Gone {
            return Ok(());
        }
        // It may have been held until just now.
        if std::mem::replace(&mut conn.was_held, is_held) || is_held {
            conn.held_at = Some(self.now.tick);
        }
        expect(!of.link.is_reset, || format!("wire {wire} is reset and still there"))?;
        // A connection that only waits for memory is not read to its end.
        let is_end_unseen = of.link.is_client_done && !conn.is_input_over && !is_paused;
        expect(!is_end_unseen, || format!("wire {wire} has ended its stream, and is waited for"))?;
        expect(!of.has_room() || of.link.is_write_broken || !conn.is_writable(), || {
            format!("wire {wire} takes bytes and {} things wait for it", conn.waiting())
        })?;
        let is_unread = of.unread() > 0 || (of.link.is_client_done && !conn.is_input_over);
        expect(!is_unread || is_held, || {
            format!("wire {wire} has {} bytes unread in {:?}", of.unread(), conn.phase)
        })?;
        // If it is blocked although nothing is known to be queued, a ping is queued.
        let is_drained = conn.phase == Phase::Ending && conn.waiting() == 0 && conn.blocked_since.is_none();
        expect(!is_drained || of.link.is_relay_done, || format!("wire {wire} has not been ended"))?;
        expect(!is_drained || !conn.is_input_over, || format!("wire {wire} is over and still there"))?;
        let may_be_asked =
            conn.phase == Phase::Open && conn.blocked_since.is_none() && !is_held && !is_unread;
        if may_be_asked && !of.link.is_write_broken {
            let asked = conn.unconfirmed.expect_asked(self.now.tick, conn.progress_at, &self.settings);
            asked.map_err(|why| format!("wire {wire}: {why}"))?;
        }
        let conn = &self.conns[wire];
        self.expect_in_time(wire, conn)
    }

    fn expect_in_time(&self, wire: usize, conn: &Conn) -> Check {
        let now = self.now.tick;
        let settings = &self.settings;
        let heard_at = conn.heard_at.max(conn.held_at.unwrap_or_default());
        let deadline = match conn.phase {
            // A head for which there may be no memory is not read, and is not late.
            Phase::Head if conn.held_at == Some(now) => None,
            Phase::Head => Some((conn.head_deadline(settings), "head")),
            Phase::Open if conn.blocked_since.is_some() => {
                conn.stall_deadline(settings).map(|deadline| (deadline, "stall"))
            }
            Phase::Open => {
                let silent_since = heard_at.max(conn.progress_at);
                let interval = settings.ping_interval;
                let silence = match conn.pinged_at.filter(|&at| at > heard_at) {
                    Some(asked) => silent_since.after(interval * 2).max(asked.after(interval)),
                    None => silent_since.after(interval),
                };
                Some((silence, "silence"))
            }
            Phase::Closing | Phase::Ending => {
                let moved_at = conn.done_at.max(conn.ended_at).max(heard_at).max(conn.last_take);
                let grace = self.drain.map(|drain| drain.deadline).unwrap_or_default();
                let deadline = moved_at.after(GOODBYE).max(grace);
                Some((conn.cut_at.map_or(deadline, |at| deadline.min(at.after(CUT_GOODBYE))), "goodbye"))
            }
            Phase::Gone => None,
        };
        let late = conn.unfinished.filter(|_| conn.phase == Phase::Open && conn.held_at.is_none());
        let late = late.map(|(since, _)| {
            let moved_at = conn.heard_at.after(settings.stall_timeout);
            (since.after(settings.message_timeout).min(moved_at), "message")
        });
        for (deadline, what) in deadline.into_iter().chain(late) {
            expect(now < deadline, || {
                format!("wire {wire}: {what} is due since {deadline:?}, it is {now:?}")
            })?;
        }
        Ok(())
    }

    /// The relay's own counts at rest.
    pub fn check_counts(&self, connections: usize, sessions: usize, hosts: usize, timers: usize) -> Check {
        let live = self.live();
        expect(connections == live, || format!("{connections} connections, {live} expected"))?;
        let expected = self.sessions.len();
        expect(sessions == expected, || format!("{sessions} sessions, {expected} expected"))?;
        let known = self.hosts_known();
        expect(hosts == known, || format!("{hosts} hosts, {known} expected"))?;
        let others = 2 * usize::from(self.drain.is_some()) + usize::from(self.accept_retry.is_some());
        let most = live + expected + known + others;
        expect(timers <= most && timers >= expected, || {
            format!("{timers} timers for {live} + {expected} + {known}")
        })
    }

    /// Messages and bytes queued for an open client, without its replies.
    pub fn backlog(&self, wire: usize) -> Option<(u64, usize)> {
        let conn = &self.conns[wire];
        (conn.phase == Phase::Open).then(|| (conn.messages(), conn.queued_bytes()))
    }
}
