//! The echo server that the Autobahn|Testsuite tests; see `run` beside it.
//!
//! Prints its address, and serves any number of clients until the process is killed.
#![expect(clippy::disallowed_methods, reason = "it has no other clock")]
#![allow(clippy::print_stdout, reason = "its address is what the caller waits for")]

use std::io;
use std::net::Shutdown;
use std::time::Instant;

use apptuner_relay::relay::internals::connection::{Connection, FlushEnd, Phase};
use apptuner_relay::relay::internals::limits::CLOSE_ANSWER_TIMEOUT;
use apptuner_relay::relay::{Readiness, Tick};
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use slab::Slab;

use echo::Echo;

#[path = "../conformance/echo.rs"]
mod echo;

const LISTENER: Token = Token(usize::MAX);

fn main() -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("ws://{}/desktop/autobahn", listener.local_addr()?);

    let mut server = Server {
        start: Instant::now(),
        echo: Echo::default(),
        connections: Slab::new(),
        closing: Vec::new(),
    };
    let mut events = Events::with_capacity(64);
    loop {
        poll.poll(&mut events, (!server.closing.is_empty()).then_some(CLOSE_ANSWER_TIMEOUT))?;
        for event in &events {
            if event.token() == LISTENER {
                server.accept(&listener, poll.registry())?;
            } else {
                server.note(event);
            }
        }
        server.end_overdue();
    }
}

struct Server {
    start: Instant,
    echo: Echo,
    connections: Slab<Connection<TcpStream>>,
    /// Connections that have not answered a close, and since when. The answer may be missing because the client was
    /// inside a frame when it sent it.
    closing: Vec<(usize, Tick)>,
}

impl Server {
    /// Milliseconds since the start.
    fn now(&self) -> Tick {
        Tick(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn accept(&mut self, listener: &TcpListener, registry: &Registry) -> io::Result<()> {
        let now = self.now();
        loop {
            match listener.accept() {
                Ok((mut stream, _)) => {
                    let slot = self.connections.vacant_entry();
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    registry.register(&mut stream, Token(slot.key()), interest)?;
                    slot.insert(Connection::new(stream, now));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// An event may be meant for an earlier connection in the same slot. For the new one it is only a hint.
    fn note(&mut self, event: &Event) {
        let slot = event.token().0;
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.note(Readiness {
            is_readable: event.is_readable(),
            is_writable: event.is_writable(),
            is_read_closed: event.is_read_closed(),
            is_failed: event.is_error() || event.is_write_closed(),
            is_urgent: event.is_priority(),
        });
        self.serve(slot);
    }

    fn serve(&mut self, slot: usize) {
        let now = self.now();
        let Some(connection) = self.connections.get_mut(slot) else { return };
        match self.echo.serve(connection, now) {
            FlushEnd::Idle | FlushEnd::More => {
                let is_closing = matches!(connection.phase, Phase::Closing(_));
                if is_closing && !self.closing.iter().any(|&(closing, _)| closing == slot) {
                    self.closing.push((slot, now));
                }
            }
            FlushEnd::Shut => {
                // An error means that the stream has failed, and an event reports that.
                let _ = connection.stream.shutdown(Shutdown::Write);
            }
            FlushEnd::Gone => drop(self.connections.remove(slot)),
        }
    }

    /// Ends connections that do not answer a close in time.
    fn end_overdue(&mut self) {
        let now = self.now();
        let overdue = self.closing.extract_if(.., |&mut (_, since)| now >= since.after(CLOSE_ANSWER_TIMEOUT));
        for (slot, _) in overdue.collect::<Vec<_>>() {
            if let Some(connection) = self.connections.get_mut(slot)
                && let Phase::Closing(_) = connection.phase
            {
                connection.end(&mut self.echo.pool, now);
                self.serve(slot);
            }
        }
    }
}
