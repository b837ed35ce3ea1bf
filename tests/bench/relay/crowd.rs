//! Many connections: the cost of an idle one, of others beside many (`growth`), and of coming and going (`churn`).

use std::time::{Duration, Instant};

use crate::bundles::Bundles;
use crate::cost::PingPong;
use crate::frame::{Template, number};
use crate::net::{Clients, Ignore, Net, Receive, Received};
use crate::process::{Server, Span};
use crate::table::Figure;
use crate::{Result, Trial};

/// Time for the memory of many connections to settle.
const SETTLING: Duration = Duration::from_millis(500);
const MESSAGE_BYTES: usize = 128;
const BUNDLE_BYTES: usize = 50_000_000;

/// One message from each client to its peer.
struct Exchange {
    template: Template,
    received: usize,
}

impl Receive for Exchange {
    fn receive(&mut self, _: &mut Clients, from: usize, received: Received<'_>) -> Result<()> {
        if let Received::Message(message) = received {
            self.template.check(number(from / 2, 0), message)?;
            self.received += 1;
        }
        Ok(())
    }
}

fn exchange(net: &mut Net) -> Result<()> {
    const TIME_MAX: Duration = Duration::from_secs(30);
    let mut exchange = Exchange { template: Template::new(MESSAGE_BYTES), received: 0 };
    for id in 0..net.clients.len() {
        net.clients.send(id, |out| exchange.template.write(number(id / 2, 0), out));
    }
    let deadline = Instant::now() + TIME_MAX;
    while exchange.received < net.clients.len() {
        net.turn(Duration::from_millis(5), &mut exchange)?;
        if Instant::now() > deadline {
            return Err(format!("only {} messages have arrived in time", exchange.received).into());
        }
    }
    Ok(())
}

/// Memory of idle connections.
pub(crate) fn idle(trial: &Trial) -> Result<Vec<Figure>> {
    let connections = trial.connections(if trial.is_quick { 2000 } else { 8000 });
    let server = trial.start(&[])?;
    let base = server.resident_bytes()?;
    // The first client causes allocations that are needed only once.
    let mut net = Net::with_pairs(&server, 1)?;
    exchange(&mut net)?;
    let before = server.proportional_bytes()?;
    let span = Span::start(&server)?;
    net.open_pairs(connections / 2, None)?;
    let spent = trial.note(span.stop()?);
    net.run_for(SETTLING, &mut Ignore)?;
    let joined = server.proportional_bytes()?;
    exchange(&mut net)?;
    net.run_for(SETTLING, &mut Ignore)?;
    let exchanged = server.proportional_bytes()?;
    let count = connections as f64;
    Ok(vec![
        Figure::new("PSS, bytes per connection", 0, (joined - before) / count),
        Figure::new("the same after a message each", 0, (exchanged - before) / count),
        Figure::mib("RSS before any, MiB", base),
        Figure::new("CPU, µs per connection accepted", 1, spent.cpu_micros_per(count)),
        Figure::new("connections", 0, count),
    ])
}

/// Memory of the process with `connections` connections, and with a bundle that its phone does not read.
pub(crate) fn memory(trial: &Trial, connections: usize) -> Result<Vec<Figure>> {
    let connections = trial.connections(connections);
    let server = trial.start(&[])?;
    let mut net = Net::with_pairs(&server, connections / 2)?;
    net.run_for(SETTLING, &mut Ignore)?;
    let idle = server.proportional_bytes()?;
    exchange(&mut net)?;
    net.run_for(SETTLING, &mut Ignore)?;
    let exchanged = server.proportional_bytes()?;
    // One more pair.
    net.open_pairs(1, None)?;
    let desktop = connections;
    net.clients.hold(desktop + 1);
    let mut bundles = Bundles::new(BUNDLE_BYTES, connections / 2 + 1);
    bundles.send(&mut net.clients, desktop / 2);
    // Send until the relay takes no more.
    let mut taken = 0;
    while net.clients.taken_bytes(desktop) > taken {
        taken = net.clients.taken_bytes(desktop);
        net.run_for(SETTLING, &mut Ignore)?;
    }
    let (with_bundle, resident) = (server.proportional_bytes()?, server.resident_bytes()?);
    net.drop_from(desktop);
    net.run_for(SETTLING, &mut Ignore)?;
    Ok(vec![
        Figure::mib("idle, PSS in MiB", idle),
        Figure::mib("after a message each, MiB", exchanged),
        Figure::mib("while a bundle of 50 MB waits, MiB", with_bundle),
        Figure::mib("the same as RSS, MiB", resident),
        Figure::mib("after it, MiB", server.proportional_bytes()?),
        Figure::mib("taken of it, kernel included, MiB", taken as f64),
        Figure::new("connections", 0, connections as f64),
    ])
}

const IDLE: [usize; 3] = [100, 1000, 9000];
const ACTIVE_SESSIONS: usize = 64;
/// Sessions that are opened to measure the cost of accepting.
const NEW_SESSIONS: usize = 250;

/// Whether messages and new connections cost more the more connections there are.
pub(crate) fn growth(trial: &Trial) -> Result<Vec<Figure>> {
    let server = trial.start(&[])?;
    let mut net = Net::with_pairs(&server, ACTIVE_SESSIONS)?;
    // The first clients cause allocations that are needed only once.
    accepted(trial, &server, &mut net)?;
    let mut idle = 0;
    let (mut message_micros, mut accept_micros) = (Vec::new(), Vec::new());
    for connections in IDLE {
        let connections = trial.connections(connections);
        net.open_pairs((connections - idle) / 2, None)?;
        idle = connections;
        let mut ping_pong = PingPong::start(&mut net, ACTIVE_SESSIONS);
        net.run_for(trial.warm_up(), &mut ping_pong)?;
        let received = ping_pong.received;
        let span = Span::start(&server)?;
        net.run_for(trial.time, &mut ping_pong)?;
        let spent = trial.note(span.stop()?);
        let messages = (ping_pong.received - received) as f64;
        message_micros.push(spent.cpu_micros_per(messages));
        // Messages that are still in transit are no longer counted.
        net.run_for(Duration::from_millis(50), &mut Ignore)?;
        accept_micros.push(accepted(trial, &server, &mut net)?);
    }
    let [first, .., last] = message_micros.as_slice() else { return Err("no rounds".into()) };
    let [first_accept, .., last_accept] = accept_micros.as_slice() else { return Err("no rounds".into()) };
    let ratios = [last / first, last_accept / first_accept];
    Ok(vec![
        Figure::new("CPU, µs per message beside 100 idle", 3, message_micros[0]),
        Figure::new("beside 1,000", 3, message_micros[1]),
        Figure::new("beside 9,000", 3, message_micros[2]),
        Figure::new("beside 9,000, to beside 100", 2, ratios[0]),
        Figure::new("CPU, µs per connection accepted, 100 idle", 1, accept_micros[0]),
        Figure::new("beside 1,000", 1, accept_micros[1]),
        Figure::new("beside 9,000", 1, accept_micros[2]),
        Figure::new("beside 9,000, to beside 100", 2, ratios[1]),
        Figure::new("connections idle at most", 0, idle as f64),
    ])
}

/// Processor time per new connection, in microseconds. The clients leave afterwards.
fn accepted(trial: &Trial, server: &Server, net: &mut Net) -> Result<f64> {
    let before = net.clients.len();
    let span = Span::start(server)?;
    net.open_pairs(NEW_SESSIONS, None)?;
    let spent = trial.note(span.stop()?);
    net.drop_from(before);
    net.run_for(SETTLING, &mut Ignore)?;
    Ok(spent.cpu_micros_per((2 * NEW_SESSIONS) as f64))
}

/// Sessions whose clients join, exchange a message and leave.
struct Churn {
    template: Template,
    /// Sessions that both clients have left.
    ended: Vec<usize>,
    ended_in_all: u64,
}

impl Receive for Churn {
    fn receive(&mut self, clients: &mut Clients, from: usize, received: Received<'_>) -> Result<()> {
        let session = from / 2;
        let (desktop, mobile) = (2 * session, 2 * session + 1);
        match received {
            Received::Joined if clients.is_joined(desktop) && clients.is_joined(mobile) => {
                clients.send(desktop, |out| self.template.write(number(session, 0), out));
            }
            Received::Message(message) => {
                self.template.check(number(session, 0), message)?;
                clients.close(desktop);
                clients.close(mobile);
            }
            Received::Closed if clients.is_closed(desktop) && clients.is_closed(mobile) => {
                self.ended.push(session);
                self.ended_in_all += 1;
            }
            Received::Joined | Received::Closed | Received::System(_) | Received::Pong => {}
        }
        Ok(())
    }
}

impl Churn {
    /// Begins a new session whenever one has ended, for `time`.
    fn run_for(&mut self, net: &mut Net, time: Duration) -> Result<()> {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            net.turn(Duration::from_millis(5), self)?;
            while let Some(session) = self.ended.pop() {
                net.open(2 * session, None)?;
                net.open(2 * session + 1, None)?;
            }
        }
        Ok(())
    }
}

pub(crate) fn churn(trial: &Trial, sessions: usize) -> Result<Vec<Figure>> {
    let server = trial.start(&[])?;
    let mut net = Net::new(&server)?;
    let mut churn = Churn { template: Template::new(MESSAGE_BYTES), ended: Vec::new(), ended_in_all: 0 };
    for id in 0..2 * sessions {
        net.open(id, None)?;
    }
    churn.run_for(&mut net, trial.warm_up())?;
    let (ended, resident) = (churn.ended_in_all, server.resident_bytes()?);
    let span = Span::start(&server)?;
    churn.run_for(&mut net, trial.time)?;
    let spent = trial.note(span.stop()?);
    let count = (churn.ended_in_all - ended) as f64;
    if count < 1.0 {
        return Err("no session has come to its end".into());
    }
    Ok(vec![
        Figure::new("CPU, µs per session", 1, spent.cpu_micros_per(count)),
        Figure::new("sessions per second", 0, spent.rate(count)),
        Figure::new("CPU in use, %", 0, spent.cpu_percent()),
        Figure::new("RSS growth, bytes per session", 0, (server.resident_bytes()? - resident) / count),
    ])
}
