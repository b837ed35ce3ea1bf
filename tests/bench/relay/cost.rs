//! The cost of a message: `ping-pong`, where each message waits for the one before, and `flood`, where they queue.

use crate::frame::{Template, number};
use crate::net::{Clients, Net, Receive, Received};
use crate::process::{Server, Span};
use crate::table::Figure;
use crate::{Result, Trial};

const PING_PONG_BYTES: usize = 128;

/// Messages that go back and forth, one in each session.
pub(crate) struct PingPong {
    template: Template,
    /// How often the message of each session has come back to its desktop.
    returns: Vec<u64>,
    /// Messages received by desktops and mobiles together.
    pub(crate) received: u64,
}

impl PingPong {
    /// Begins in the first `sessions` sessions.
    pub(crate) fn start(net: &mut Net, sessions: usize) -> Self {
        let ping_pong =
            Self { template: Template::new(PING_PONG_BYTES), returns: vec![0; sessions], received: 0 };
        for session in 0..sessions {
            net.clients.send(2 * session, |out| ping_pong.template.write(number(session, 0), out));
        }
        ping_pong
    }
}

impl Receive for PingPong {
    fn receive(&mut self, clients: &mut Clients, from: usize, received: Received<'_>) -> Result<()> {
        let session = from / 2;
        if let Received::Message(message) = received
            && let Some(returns) = self.returns.get_mut(session)
        {
            self.template.check(number(session, *returns), message)?;
            self.received += 1;
            *returns += u64::from(from.is_multiple_of(2));
            clients.send(from, |out| self.template.write(number(session, *returns), out));
        }
        Ok(())
    }
}

pub(crate) fn ping_pong(trial: &Trial, sessions: usize) -> Result<Vec<Figure>> {
    let server = trial.start(&[])?;
    let mut net = Net::with_pairs(&server, sessions)?;
    let mut ping_pong = PingPong::start(&mut net, sessions);
    measure(trial, &server, &mut net, &mut ping_pong, |ping_pong| ping_pong.received)
}

/// Messages in one direction, `window` at a time.
pub(crate) struct Flood {
    template: Template,
    /// The session of the first entry of `received`.
    first_session: usize,
    received: Vec<u64>,
    pub(crate) received_in_all: u64,
    /// Messages sent but not received, in each session.
    window: u64,
}

impl Flood {
    /// Begins in `sessions` sessions from `first_session` on.
    pub(crate) fn start(
        net: &mut Net,
        first_session: usize,
        sessions: usize,
        bytes: usize,
        window: u64,
    ) -> Self {
        let received = vec![0; sessions];
        let flood =
            Self { template: Template::new(bytes), first_session, received, received_in_all: 0, window };
        for session in first_session..first_session + sessions {
            net.clients.send(2 * session, |out| {
                for count in 0..window {
                    flood.template.write(number(session, count), out);
                }
            });
        }
        flood
    }
}

impl Receive for Flood {
    fn receive(&mut self, clients: &mut Clients, from: usize, received: Received<'_>) -> Result<()> {
        let session = from / 2;
        if let Received::Message(message) = received
            && let Some(received) =
                session.checked_sub(self.first_session).and_then(|at| self.received.get_mut(at))
        {
            self.template.check(number(session, *received), message)?;
            let next = *received + self.window;
            *received += 1;
            self.received_in_all += 1;
            // Sender and receiver are in this process, so the sender needs no acknowledgement.
            clients.send(2 * session, |out| self.template.write(number(session, next), out));
        }
        Ok(())
    }
}

pub(crate) fn flood(trial: &Trial, sessions: usize, bytes: usize, window: u64) -> Result<Vec<Figure>> {
    let server = trial.start(&[])?;
    let mut net = Net::with_pairs(&server, sessions)?;
    let mut flood = Flood::start(&mut net, 0, sessions, bytes, window);
    measure(trial, &server, &mut net, &mut flood, |flood| flood.received_in_all)
}

/// Warms up, then counts messages and processor time.
fn measure<R: Receive>(
    trial: &Trial,
    server: &Server,
    net: &mut Net,
    receiver: &mut R,
    count: impl Fn(&R) -> u64,
) -> Result<Vec<Figure>> {
    net.run_for(trial.warm_up(), receiver)?;
    let before = count(receiver);
    let span = Span::start(server)?;
    net.run_for(trial.time, receiver)?;
    let spent = trial.note(span.stop()?);
    let messages = (count(receiver) - before) as f64;
    if messages < 1.0 {
        return Err("no message came".into());
    }
    Ok(vec![
        Figure::new("CPU, µs per message", 3, spent.cpu_micros_per(messages)),
        Figure::new("messages per second", 0, spent.rate(messages)),
        Figure::new("CPU in use, %", 0, spent.cpu_percent()),
    ])
}
