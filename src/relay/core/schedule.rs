//! What the relay looks at next: connections to serve, connections to flush, timers.

use std::io::{Read, Write};

use super::relay::{Relay, Timer};
use crate::relay::access::host_limits::HostKey;
use crate::relay::ids::ConnectionId;
use crate::relay::sessions::SessionKey;
use crate::relay::tables::wheel::{Alarm, TimerKey};
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
        let Some(slot) = self.slots.get(id) else { return };
        if let Some((deadline, _)) = slot.connection.due(&self.settings, self.now.tick) {
            let armed = slot.timer;
            if armed.is_some_and(|alarm| alarm.at <= deadline) {
                return;
            }
            let timer = self.rearm(armed, deadline, Timer::Connection(id));
            if let Some(slot) = self.slots.get_mut(id) {
                slot.timer = timer;
            }
        }
    }

    /// Sets the timer of a session to its end.
    pub(super) fn arm_session(&mut self, key: SessionKey) {
        let armed = self.sessions.get(key).and_then(|session| session.timer);
        if let Some((deadline, _)) = self.sessions.due(key) {
            let timer = self.rearm(armed, deadline, Timer::Session(key));
            if let Some(session) = self.sessions.get_mut(key) {
                session.timer = timer;
            }
        }
    }

    pub(super) fn arm_host(&mut self, key: HostKey) {
        let Some(deadline) = self.gate.hosts.due(key) else { return };
        let armed = self.gate.hosts.timer_mut(key).and_then(|timer| *timer);
        let armed = self.rearm(armed, deadline, Timer::Host(key));
        if let Some(timer) = self.gate.hosts.timer_mut(key) {
            *timer = armed;
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

    /// Sets a timer. Keeps a timer that fires at or before `deadline`: if it fires too early, it is set again. So a
    /// message does not have to move the timers that it puts off.
    pub(super) fn rearm(&mut self, armed: Option<Alarm>, deadline: Tick, timer: Timer) -> Option<Alarm> {
        if let Some(alarm) = armed {
            if alarm.at <= deadline {
                return armed;
            }
            self.wheel.cancel(alarm.key);
        }
        self.schedule(deadline, timer).map(|key| Alarm { at: deadline, key })
    }

    pub(super) fn schedule(&mut self, deadline: Tick, timer: Timer) -> Option<TimerKey> {
        let key = self.wheel.schedule(deadline, timer).ok();
        debug_assert!(key.is_some(), "the wheel has room for every connection and session");
        key
    }
}
