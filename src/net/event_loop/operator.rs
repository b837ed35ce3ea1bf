//! The operator's part of the loop: its listeners and its connections.

use std::io;

use log::{debug, warn};
use mio::Registry;

use crate::admin::{Admin, AdminEffect, Process};
use crate::config;
use crate::net::listener::{Accepted, Listener, ListeningSocket};
use crate::net::platform::INTEREST;
use crate::net::stream::Stream;
use crate::net::token;
use crate::relay::access::secret::Secret;
use crate::relay::{Now, Readiness, Relay, Settings, Tick};

/// Connections accepted per turn and listener. Few, because clients come first.
const ACCEPTS_PER_TURN: usize = 2;

/// Serves the operator, last in each turn.
#[derive(Debug)]
pub(super) struct Operator {
    admin: Admin<Stream>,
    listeners: Vec<Listener>,
}

impl Operator {
    pub(super) fn new(
        sockets: Vec<ListeningSocket>,
        token: Option<&Secret>,
        settings: Settings,
        seed: [u64; 2],
        now: Now,
        registry: &Registry,
    ) -> io::Result<Self> {
        // The indices below are for the clients' listeners; see `token`.
        let watch = |(index, socket)| Listener::new(socket, config::LISTENERS_MAX + index, registry);
        let listeners = sockets.into_iter().enumerate().map(watch).collect::<Result<_, _>>()?;
        Ok(Self { admin: Admin::new(token, settings, seed, now), listeners })
    }

    pub(super) fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// Notes that a connection may be waiting at the listener of this index, if it is the operator's.
    pub(super) fn note_listener(&mut self, index: usize) {
        if let Some(listener) = self.listeners.iter_mut().find(|listener| listener.index == index) {
            listener.is_ready = true;
        }
    }

    pub(super) fn handle_readiness(&mut self, key: usize, readiness: Readiness) {
        self.admin.handle_readiness(key, readiness);
    }

    /// When the operator needs the next turn, if nothing becomes ready before.
    pub(super) fn next_deadline(&self) -> Tick {
        let is_awaited = self.listeners.iter().any(|listener| listener.is_ready);
        // While accepting is paused, `Admin::next_deadline` includes the end of the pause.
        if is_awaited && self.admin.can_accept() { Tick(0) } else { self.admin.next_deadline() }
    }

    /// Accepts, lets [`Admin`] work and performs its effects. `process` is called only if an answer needs it.
    pub(super) fn turn(
        &mut self,
        now: Now,
        relay: &Relay<Stream>,
        process: impl Fn() -> Process,
        registry: &Registry,
    ) {
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPTS_PER_TURN {
                self.accept_one(index, now, registry);
            }
        }
        self.admin.handle_turn(now, relay, process);
        while let Some(effect) = self.admin.poll_effect() {
            match effect {
                AdminEffect::ShutdownWrite(key) => {
                    // An error means that the stream has failed, and an event reports that.
                    let _ = self.admin.stream(key).map(Stream::shutdown_write);
                }
                AdminEffect::Close(stream) => stream.finish(),
            }
        }
    }

    fn accept_one(&mut self, index: usize, now: Now, registry: &Registry) {
        let listener = self.listeners.get_mut(index).filter(|listener| listener.is_ready);
        let Some(listener) = listener.filter(|_| self.admin.can_accept()) else { return };
        match listener.accept() {
            Accepted::Stream(socket, _) => {
                // The operator's listener has no TLS, even if the clients' listeners do.
                let key = self.admin.handle_accept(Stream::Plain(socket), now);
                let Some(stream) = self.admin.stream(key) else { return };
                if let Err(error) = registry.register(stream, token::of_operator(key), INTEREST) {
                    warn!("An operator's connection cannot be watched: {error}");
                    self.admin.handle_readiness(key, Readiness { is_failed: true, ..Readiness::default() });
                }
            }
            Accepted::NoneWaiting => {}
            Accepted::Lost(error) => debug!("Accepting an operator failed: {error}"),
            Accepted::Exhausted(error) => {
                debug!("Accepting operators paused: {error}");
                self.admin.handle_accept_exhausted(now.tick);
            }
        }
    }
}
