//! What the relay looks at next: connections to serve, connections to flush, timers.

use std::io::{Read, Write};

use super::relay::{Relay, Timer};
use crate::relay::access::host_limits::HostKey;
use crate::relay::ids::ConnectionId;
use crate::relay::sessions::SessionKey;
use crate::relay::tables::wheel::{Alarm, TimerKey, Wheel};
use crate::relay::time::Tick;

impl<S: Read + Write> Relay<S> {
    /// Queues a connection to be served, if it may have something to read.
    pub(super) fn make_ready(&mut self, id: ConnectionId) {
        if let Some(slot) = self.slots.find_mut(id)
            && slot.connection.is_readable()
            && !slot.is_ready
        {
            slot.is_ready = true;
            self.ready.push_back(id);
        }
    }

    pub(super) fn touch(&mut self, id: ConnectionId) {
        if let Some(slot) = self.slots.find_mut(id)
            && !slot.is_touched
        {
            slot.is_touched = true;
            self.touched.push(id);
        }
    }

    /// Sets the timer of a connection to what is due next.
    pub(super) fn arm(&mut self, id: ConnectionId) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        if let Some((deadline, _)) = slot.connection.due(&self.settings, self.now.tick) {
            rearm(&mut self.wheel, &mut slot.timer, deadline, Timer::Connection(id));
        }
    }

    /// Sets the timer of a session to its end.
    pub(super) fn arm_session(&mut self, key: SessionKey) {
        let deadline = self.sessions.due(key).map(|(deadline, _)| deadline);
        if let Some((deadline, session)) = deadline.zip(self.sessions.get_mut(key)) {
            rearm(&mut self.wheel, &mut session.timer, deadline, Timer::Session(key));
        }
    }

    pub(super) fn arm_host(&mut self, key: HostKey) {
        let deadline = self.gate.hosts.due(key);
        if let Some((deadline, timer)) = deadline.zip(self.gate.hosts.timer_mut(key)) {
            rearm(&mut self.wheel, timer, deadline, Timer::Host(key));
        }
    }

    /// Sets the timer of the host that lost its last connection, and forgets the oldest host if too many are
    /// remembered. Call after every change to the hosts.
    pub(super) fn settle_hosts(&mut self) {
        if let Some(key) = self.gate.hosts.last_idle() {
            self.arm_host(key);
        }
        if let Some(key) = self.gate.hosts.surplus() {
            self.forget_host(key);
        }
    }

    pub(super) fn forget_host(&mut self, key: HostKey) {
        if let Some(timer) = self.gate.hosts.forget(key) {
            self.wheel.cancel(timer);
        }
    }

    pub(super) fn schedule(&mut self, deadline: Tick, timer: Timer) -> Option<TimerKey> {
        schedule(&mut self.wheel, deadline, timer)
    }
}

/// Sets the timer of something to `deadline`. Keeps an alarm at or before that time: if it comes too early, the timer
/// is set again. So a message does not have to move the timers that it puts off.
pub(super) fn rearm(wheel: &mut Wheel<Timer>, armed: &mut Option<Alarm>, deadline: Tick, timer: Timer) {
    if let Some(alarm) = armed {
        if alarm.at <= deadline {
            return;
        }
        wheel.cancel(alarm.key);
    }
    *armed = schedule(wheel, deadline, timer).map(|key| Alarm { at: deadline, key });
}

fn schedule(wheel: &mut Wheel<Timer>, deadline: Tick, timer: Timer) -> Option<TimerKey> {
    let key = wheel.schedule(deadline, timer).ok();
    debug_assert!(key.is_some(), "the wheel has room for every connection and session");
    key
}
