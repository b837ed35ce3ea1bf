//! Waits for events, passes them to the [`Relay`] and performs its effects.
//!
//! One turn: wait until the next deadline, or not at all if work is left over; read the clock
//! once; tell the relay what is ready; let it work; accept last, so that new connections cannot
//! starve clients; perform the relay's effects.

mod bind;
mod operator;
#[cfg(feature = "cli")]
mod program;
mod report;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use log::{debug, info, warn};
use mio::{Events, Poll, Waker};

use super::access_files::AccessFiles;
use super::descriptors::DESCRIPTORS_RESERVED;
use super::listener::{Accepted, Listener, ListeningSocket};
use super::platform::{self, INTEREST, ProcessSignals, SignalsTaken, Supervisor};
use super::stream::{Stream, Streams};
use super::token::{self, Source};
use crate::admin::Process;
use crate::clock::Clock;
use crate::config::ListenAddress;
use crate::relay::time::format_duration;
use crate::relay::{ConnectionId, Effect, Now, Readiness, Relay, Shutdown};

pub use bind::BindError;
use operator::Operator;

/// Events that one turn takes from the kernel.
const EVENTS_PER_TURN: usize = 256;
/// Connections accepted per turn and listener. Many new connections at once must not delay clients.
const ACCEPTS_PER_TURN: usize = 64;
/// Log target for the start and stop of the process. The default filter shows it at `info`, unlike sessions.
const PROCESS: &str = "apptuner_relay::process";

/// A relay on sockets: TCP or Unix-domain.
///
/// [`run`](Self::run) serves until it is stopped. A host with a loop of its own calls
/// [`turn`](Self::turn) instead: whenever the server's descriptor is readable, and at the latest when
/// [`next_wait`](Self::next_wait) is over. On Unix a `Server` is an `AsFd` for that descriptor; the example stands
/// there.
#[derive(Debug)]
pub struct Server {
    pub(super) poll: Poll,
    events: Events,
    relay: Relay<Stream>,
    access_files: AccessFiles,
    streams: Streams,
    listeners: Vec<Listener>,
    operator: Option<Operator>,
    clock: Clock,
    /// When the server was bound.
    started_unix_millis: u64,
    /// Measuring a turn reads the clock a second time, so it is done only if the metrics can be read.
    are_turns_measured: bool,
    signals: Option<ProcessSignals>,
    are_signals_ready: bool,
    supervisor: Supervisor,
    /// Counted by the log's writer.
    log_lines_dropped: Option<Arc<AtomicU64>>,
    stop: StopHandle,
    shutdown_grace: Duration,
    /// How many connections of clients the limit on open files allows.
    connections_open_max: usize,
    /// How many of the requests in `stop` the loop has acted on.
    stops_seen: usize,
    stopped: Option<Stopped>,
}

/// Stops a [`Server`] from other code, also from another thread.
#[derive(Clone, Debug)]
pub struct StopHandle {
    stops: Arc<AtomicUsize>,
    waker: Arc<Waker>,
}

impl StopHandle {
    /// Asks the server to stop: cleanly the first time, at once the second time.
    ///
    /// # Errors
    /// The loop could not be woken. The request still counts, and the next turn acts on it.
    pub fn stop(&self) -> io::Result<()> {
        // Count first: the turn that the waker starts must see the request.
        self.stops.fetch_add(1, Ordering::Release);
        self.waker.wake()
    }
}

/// How a server stopped. Hosts match on both variants, so a new one would be a breaking change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Every client was sent a close frame, after its queued messages as far as the grace period allowed.
    Cleanly,
    /// It was asked twice. The remaining connections were cut.
    AtOnce,
}

/// The result of a turn. Hosts match on every variant, so a new one would be a breaking change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The server goes on.
    Running,
    /// The server has stopped; further turns do nothing.
    Stopped(Stopped),
}

impl Server {
    /// A handle that stops the server from other code, also from another thread.
    #[must_use]
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Reads the files again that the configuration names, and logs the result for each. Connected clients stay
    /// connected. If a file cannot be used, its last good content stays in force.
    pub fn reload(&mut self) {
        self.reload_files();
    }

    /// As [`reload`](Self::reload). Returns whether the configuration names any file.
    fn reload_files(&mut self) -> bool {
        self.supervisor.reloading();
        let has_certificate = self.reload_certificate();
        let has_api_keys = self.reload_api_keys();
        let has_address_rules = self.reload_address_rules();
        let has_files = has_certificate || has_api_keys || has_address_rules;
        if !has_files {
            info!(target: PROCESS, "Nothing to reload");
        }
        self.supervisor.ready();
        has_files
    }

    /// Reads the certificate and its key for new connections. Returns whether the configuration names them.
    fn reload_certificate(&mut self) -> bool {
        match self.streams.reload() {
            Ok(false) => return false,
            Ok(true) => info!(target: PROCESS, "Certificate reloaded"),
            Err(error) => warn!(target: PROCESS, "Certificate not reloaded: {error}"),
        }
        true
    }

    /// Returns whether the configuration names a file of API keys.
    fn reload_api_keys(&mut self) -> bool {
        let Some(read) = self.access_files.read_api_keys() else { return false };
        match read {
            Ok(keys) => {
                self.relay.set_api_keys(keys);
                info!(target: PROCESS, "API keys reloaded");
            }
            Err(error) => warn!(target: PROCESS, "API keys not reloaded: {error}"),
        }
        true
    }

    /// Returns whether the configuration names a file of address rules.
    fn reload_address_rules(&mut self) -> bool {
        let Some(read) = self.access_files.read_address_rules() else { return false };
        match read {
            Ok(rules) => {
                self.relay.set_address_rules(&rules);
                info!(target: PROCESS, "Address rules reloaded");
            }
            Err(error) => warn!(target: PROCESS, "Address rules not reloaded: {error}"),
        }
        true
    }

    /// Serves until the server is stopped.
    ///
    /// # Errors
    /// The system's wait for events failed. The server cannot go on.
    pub fn run(&mut self) -> io::Result<Stopped> {
        let scheme = self.streams.scheme();
        for Listener { socket: ListeningSocket { address, .. }, .. } in &self.listeners {
            let delimiter = delimiter(address);
            info!(target: PROCESS, "Listening on {scheme}{delimiter}{address}");
        }
        if let Some(address) = self.admin_address() {
            let delimiter = delimiter(&address);
            info!(target: PROCESS, "Answering the operator on http{delimiter}{address}");
        }
        self.supervisor.ready();
        loop {
            if let Turn::Stopped(stopped) = self.turn(None)? {
                return Ok(stopped);
            }
        }
    }

    /// Waits for events for at most `timeout`, then serves them. Returns without waiting if work is left over.
    /// One call does a bounded amount of work.
    ///
    /// # Errors
    /// The system's wait for events failed. The server cannot go on.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<Turn> {
        if self.stopped.is_none() {
            let wait = [self.next_wait(), timeout].into_iter().flatten().min();
            match self.poll.poll(&mut self.events, wait) {
                Ok(()) if self.events.iter().count() < EVENTS_PER_TURN => {}
                // The buffer is full, so the kernel may hold more events.
                Ok(()) => self.relay.handle_told_in_part(),
                // A signal ended the wait, perhaps long after its deadline (SIGSTOP), and no event was reported.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => self.relay.handle_told_in_part(),
                Err(error) => return Err(error),
            }
            self.serve();
        }
        Ok(self.stopped.map_or(Turn::Running, Turn::Stopped))
    }

    fn serve(&mut self) {
        let now = self.clock.now();
        self.supervisor.note_turn(now.tick);
        self.note_events();
        // Signals are counted as requests to stop, so they come before `note_stops`.
        self.note_signals();
        self.note_stops(now);
        self.relay.handle_turn(now);
        self.accept(now);
        self.perform_effects();
        // Last, so that answers show the state at the end of the turn.
        if let Some(operator) = &mut self.operator {
            let process = || read_process(&self.relay, self.log_lines_dropped.as_deref());
            operator.turn(now, &self.relay, process, self.poll.registry());
        }
        if self.are_turns_measured {
            self.relay.handle_turn_end(self.clock.micros());
        }
        if self.relay.is_drained() && self.stopped.is_none() {
            info!(target: PROCESS, "Stopped");
            self.stopped = Some(Stopped::Cleanly);
        }
    }

    /// How long the next turn may wait for events: zero if work is left over, `None` (no limit) if no
    /// deadline is set.
    #[must_use]
    pub fn next_wait(&self) -> Option<Duration> {
        if self.relay.has_work() || self.is_accept_due() {
            return Some(Duration::ZERO);
        }
        // The operator has deadlines of its own: the next sample, a pause, a request that is late.
        let of_operator = self.operator.as_ref().map(Operator::next_deadline);
        let next = [self.relay.next_deadline(), of_operator].into_iter().flatten().min();
        let wait = next.map(|deadline| self.clock.until(deadline));
        [wait, self.supervisor.wait_max()].into_iter().flatten().min()
    }

    fn note_events(&mut self) {
        for event in &self.events {
            match token::source_of(event.token()) {
                Source::Connection { slot, generation } => {
                    self.relay
                        .handle_readiness(ConnectionId { slot, generation }, platform::readiness_of(event));
                }
                // An index belongs either to a listener for clients or to one for the operator.
                Source::Listener(index) => {
                    // In a shutdown the public listeners are closed before the operator's.
                    if let Some(listener) = self.listeners.iter_mut().find(|listener| listener.index == index)
                    {
                        listener.is_ready = true;
                    } else if let Some(operator) = &mut self.operator {
                        operator.note_listener(index);
                    }
                }
                Source::Operator(key) => {
                    if let Some(operator) = &mut self.operator {
                        operator.handle_readiness(key, platform::readiness_of(event));
                    }
                }
                // Windows has no signals: a handler wakes the loop instead. `note_stops` checks for requests of a
                // [`StopHandle`] in every turn.
                Source::Signals | Source::Waker => self.are_signals_ready = true,
            }
        }
    }

    fn note_signals(&mut self) {
        if std::mem::take(&mut self.are_signals_ready) {
            let Some(signals) = &mut self.signals else { return };
            let has_terminal = signals.has_terminal();
            // `grace_max` is only set on Windows, which ends the process after a fixed time.
            let SignalsTaken { stops, is_hangup, grace_max } = signals.take(self.poll.registry());
            self.shutdown_grace = grace_max.unwrap_or(Duration::MAX).min(self.shutdown_grace);
            let stops_before = self.stop.stops.fetch_add(stops, Ordering::AcqRel);
            // Closing the terminal after a first request to stop must not count as the second.
            if is_hangup && !self.reload_files() && has_terminal && stops_before + stops == 0 {
                info!(target: PROCESS, "The terminal is gone");
                self.stop.stops.fetch_add(1, Ordering::Release);
            }
        }
    }

    /// Acts on requests to stop that came since the last turn.
    fn note_stops(&mut self, now: Now) {
        let stops = self.stop.stops.load(Ordering::Acquire);
        if stops == self.stops_seen {
            return;
        }
        self.stops_seen = stops;
        let connections = self.relay.connections();
        if stops > 1 {
            info!(target: PROCESS, "connections={connections} Stopped at once");
            self.stopped = Some(Stopped::AtOnce);
        } else {
            self.supervisor.stopping();
            // Balancers then see refused connections and send new clients elsewhere.
            self.listeners.clear();
            if let Some(Shutdown { sessions, spread }) = self.relay.handle_shutdown(self.shutdown_grace, now)
            {
                let spread = format_duration(spread);
                info!(
                    target: PROCESS,
                    "connections={connections} sessions={sessions} Shutting down, sessions one after another over \
                     {spread}"
                );
            }
        }
    }

    /// Whether connections may be waiting that the relay can accept now.
    fn is_accept_due(&self) -> bool {
        self.relay.can_accept() && self.listeners.iter().any(|listener| listener.is_ready)
    }

    fn accept(&mut self, now: Now) {
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPTS_PER_TURN {
                if !self.accept_one(index, now) {
                    break;
                }
            }
        }
        // The turn's share is used up, and more connections wait.
        if self.is_accept_due() {
            self.relay.handle_told_in_part();
        }
    }

    /// Accepts one connection. Returns whether to go on with this listener.
    fn accept_one(&mut self, index: usize, now: Now) -> bool {
        let Some(listener) = self.listeners.get_mut(index).filter(|listener| listener.is_ready) else {
            return false;
        };
        if !self.relay.can_accept() {
            return false;
        }
        // Checked before accept(2) fails: files that are reloaded and the operator need descriptors, too.
        if self.relay.connections() >= self.connections_open_max {
            self.pause_accepting(&"the other descriptors are reserved", now);
            return false;
        }
        match listener.accept() {
            Accepted::Stream(socket, client_addr) => {
                match self.streams.accept(socket, self.relay.expects_proxy_header(client_addr)) {
                    Ok(stream) => {
                        let id = self.relay.handle_accept(stream, client_addr, now);
                        self.register(id);
                    }
                    Err(error) => warn!("address={client_addr} Dropped: {error}"),
                }
                true
            }
            Accepted::NoneWaiting => false,
            Accepted::Exhausted(error) => {
                self.pause_accepting(&error, now);
                false
            }
            // A stranger can cause this, so it is not a warning.
            Accepted::Lost(error) => {
                debug!("Accepting failed: {error}");
                true
            }
        }
    }

    fn pause_accepting(&mut self, reason: &dyn fmt::Display, now: Now) {
        // The relay returns true once per shortage, so that the log is not flooded.
        if self.relay.handle_accept_exhausted(now) {
            warn!("file_limit={} Accepting paused: {reason}", platform::file_limit());
        }
    }

    /// Registers a connection for both directions, once. Interest never changes later; the relay keeps track of what
    /// it wants.
    fn register(&mut self, id: ConnectionId) {
        let Some(stream) = self.relay.stream(id) else { return };
        if let Err(error) = self.poll.registry().register(stream, token::of_connection(id), INTEREST) {
            // Without registration no event would ever come, so the connection must end now.
            warn!("conn={id} Cannot be watched: {error}");
            self.relay.handle_readiness(id, Readiness { is_failed: true, ..Readiness::default() });
        }
    }

    /// Performs what the relay has asked for in this turn.
    fn perform_effects(&mut self) {
        while let Some(effect) = self.relay.poll_effect() {
            match effect {
                Effect::ShutdownWrite(id) => {
                    // Other errors mean that the stream has failed, and an event reports that.
                    let result = self.relay.stream(id).map(Stream::shutdown_write);
                    // TLS may have to send its alert first.
                    if let Some(Err(error)) = result
                        && error.kind() == io::ErrorKind::WouldBlock
                    {
                        self.relay.handle_unflushed(id);
                    }
                }
                // Closing the only descriptor also deregisters it.
                Effect::Close { stream, .. } => stream.finish(),
            }
        }
    }
}

/// The current figures of the process.
fn read_process(relay: &Relay<Stream>, log_lines_dropped: Option<&AtomicU64>) -> Process {
    // An estimate for systems that cannot count open descriptors quickly.
    let open_fds = (relay.connections() + DESCRIPTORS_RESERVED) as u64;
    let log_lines_dropped = log_lines_dropped.map(|lines| lines.load(Ordering::Relaxed));
    Process { log_lines_dropped, ..platform::read_process(open_fds) }
}

/// The text between a URL's scheme and the address: `ws://ADDRESS`, or `ws+unix:/PATH` as the Node package `ws`
/// writes it.
const fn delimiter(address: &ListenAddress) -> &'static str {
    match address {
        ListenAddress::Tcp(_) => "://",
        ListenAddress::Unix(_) => "+",
    }
}
