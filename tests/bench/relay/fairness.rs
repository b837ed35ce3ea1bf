//! Other clients must not delay a pair beside a flood and a bundle, or a client that waits for a reply.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::bundles::Bundles;
use crate::cost::Flood;
use crate::frame::{PING, TEXT, write_frame};
use crate::net::{Clients, Ignore, Net, Receive, Received};
use crate::pressure::comparison;
use crate::probe::{Latencies, SlowReader, Watched};
use crate::process::Span;
use crate::table::Figure;
use crate::{Result, Trial};

const FLOODED_SESSION: usize = 1;
const BUNDLE_SESSION: usize = 2;

/// One session that floods, and one that sends bundles to a slow phone.
struct Others {
    flood: Flood,
    bundles: Bundles,
}

impl Receive for Others {
    fn receive(&mut self, clients: &mut Clients, from: usize, received: Received<'_>) -> Result<()> {
        if from / 2 == FLOODED_SESSION {
            self.flood.receive(clients, from, received)
        } else {
            self.bundles.receive(clients, from, received)
        }
    }
}

/// The latency of a pair while others are busy, compared with its latency alone.
pub(crate) fn fairness(trial: &Trial) -> Result<Vec<Figure>> {
    const FLOOD_BYTES: usize = 1024;
    const FLOOD_WINDOW: u64 = 64;
    const BUNDLE_BYTES: usize = 50_000_000;
    const BUNDLES: usize = 3;
    const PHONE_BYTES_PER_SECOND: f64 = 4e6;
    let server = trial.start(&[])?;
    let mut net = Net::with_pairs(&server, 2)?;
    net.open_pairs(1, Some(SlowReader::RECEIVE_BUFFER))?;
    let mut watched = Watched::new(Ignore);
    let quiet = watched.watch(&mut net, trial.time, |_, _| Ok(false))?;

    let mut bundles = Bundles::new(BUNDLE_BYTES, BUNDLE_SESSION + 1);
    // More than can arrive in time. Preparing one later would count as latency.
    for _ in 0..BUNDLES {
        bundles.send(&mut net.clients, BUNDLE_SESSION);
    }
    let flood = Flood::start(&mut net, FLOODED_SESSION, 1, FLOOD_BYTES, FLOOD_WINDOW);
    let mut watched = watched.with(Others { flood, bundles });
    let mut phone = SlowReader::start(&mut net, 2 * BUNDLE_SESSION + 1, PHONE_BYTES_PER_SECOND);
    let span = Span::start(&server)?;
    let busy = watched.watch(&mut net, 2 * trial.time, |net, watched| {
        phone.read(net, watched)?;
        Ok(false)
    })?;
    let spent = trial.note(span.stop()?);
    let flooded = watched.others.flood.received_in_all as f64;
    let mut figures = Vec::from(comparison(&quiet, &busy));
    figures.push(Figure::new("messages of the flood per second", 0, spent.rate(flooded)));
    figures.push(Figure::new("CPU in use, %", 0, spent.cpu_percent()));
    Ok(figures)
}

/// Requests one page after the other from the operator's listener.
struct Scraper {
    address: SocketAddr,
    target: &'static str,
    stream: Option<TcpStream>,
    pages: usize,
}

impl Scraper {
    fn step(&mut self) -> Result<()> {
        let Some(stream) = &mut self.stream else {
            let mut stream = TcpStream::connect(self.address)?;
            write!(stream, "GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", self.target)?;
            stream.set_nonblocking(true)?;
            self.stream = Some(stream);
            return Ok(());
        };
        let mut buffer = [0; 16_384];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => {
                    self.pages += 1;
                    self.stream = None;
                    return Ok(());
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The latency of a pair while eight operators ask constantly and eight more do not read, compared with its latency
/// alone.
pub(crate) fn operator(trial: &Trial) -> Result<Vec<Figure>> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let server = trial.start(&["--admin", &address.to_string()])?;
    let mut net = Net::with_pairs(&server, 1)?;
    let mut watched = Watched::new(Ignore);
    let quiet = watched.watch(&mut net, trial.time, |_, _| Ok(false))?;
    let targets = ["/metrics", "/sessions", "/history", "/"].into_iter().cycle().take(8);
    let mut scrapers: Vec<_> =
        targets.map(|target| Scraper { address, target, stream: None, pages: 0 }).collect();
    let _silent: Vec<_> = (0..8).map(|_| TcpStream::connect(address)).collect::<std::io::Result<_>>()?;
    let span = Span::start(&server)?;
    let mut turn = 0;
    let busy = watched.watch(&mut net, 2 * trial.time, |_, _| {
        // One at a time, because this process also measures.
        turn = (turn + 1) % scrapers.len();
        scrapers[turn].step()?;
        Ok(false)
    })?;
    let spent = trial.note(span.stop()?);
    let pages: usize = scrapers.iter().map(|scraper| scraper.pages).sum();
    let mut figures = Vec::from(comparison(&quiet, &busy));
    figures.push(Figure::new("pages per second", 0, spent.rate(pages as f64)));
    Ok(figures)
}

/// Pings in transit, and the latencies of earlier ones.
struct Pinger {
    client: usize,
    sent: VecDeque<Instant>,
    latencies: Vec<Duration>,
    bundles: Bundles,
    bundles_arrived: usize,
}

impl Receive for Pinger {
    fn receive(&mut self, clients: &mut Clients, from: usize, received: Received<'_>) -> Result<()> {
        let is_pong = match received {
            Received::System(text) => text.starts_with(br#"{"type":"pong""#),
            Received::Pong => true,
            Received::Message(_) => {
                self.bundles_arrived += 1;
                self.bundles.receive(clients, from, received)?;
                false
            }
            Received::Joined | Received::Closed => false,
        };
        if is_pong && from == self.client {
            let sent = self.sent.pop_front().ok_or("a pong without a ping")?;
            self.latencies.push(sent.elapsed());
        }
        Ok(())
    }
}

/// How long a client on a slow line waits for the answer to its ping while 16 MiB are in transit to it.
pub(crate) fn reply_latency(trial: &Trial) -> Result<Vec<Figure>> {
    const MIB: usize = 1024 * 1024;
    let json = pings(trial, MIB / 4, 64, |out| write_frame(TEXT, br#"{"type":"ping"}"#, out))?;
    let control = pings(trial, 16 * MIB, 1, |out| write_frame(PING, b"bench", out))?;
    Ok(vec![
        Figure::new("JSON ping, 64 × 256 KiB before it: worst, ms", 0, json.percentile(100)),
        Figure::new("median, ms", 0, json.percentile(50)),
        Figure::new("WebSocket ping, in 16 MiB: worst, ms", 0, control.percentile(100)),
        Figure::new("median, ms", 0, control.percentile(50)),
    ])
}

/// Pings once a second while `count` messages of `bytes` arrive at 10 Mbit/s.
fn pings(trial: &Trial, bytes: usize, count: usize, write_ping: fn(&mut Vec<u8>)) -> Result<Latencies> {
    const BYTES_PER_SECOND: f64 = 10e6 / 8.0;
    const INTERVAL: Duration = Duration::from_secs(1);
    const TIME_MAX: Duration = Duration::from_secs(60);
    let server = trial.start(&["--answer-pings"])?;
    let mut net = Net::new(&server)?;
    net.open_pairs(1, Some(SlowReader::RECEIVE_BUFFER))?;
    let mut pinger = Pinger {
        client: 1,
        sent: VecDeque::new(),
        latencies: Vec::new(),
        bundles: Bundles::new(bytes, 1),
        bundles_arrived: 0,
    };
    for _ in 0..count {
        pinger.bundles.send(&mut net.clients, 0);
    }
    let mut phone = SlowReader::start(&mut net, pinger.client, BYTES_PER_SECOND);
    let start = Instant::now();
    let mut ping_at = start + INTERVAL;
    while pinger.bundles_arrived < count || !pinger.sent.is_empty() {
        net.turn(Duration::from_millis(2), &mut pinger)?;
        phone.read(&mut net, &mut pinger)?;
        let now = Instant::now();
        if now >= ping_at && pinger.bundles_arrived < count {
            ping_at = now + INTERVAL;
            pinger.sent.push_back(now);
            net.clients.send(pinger.client, write_ping);
        }
        if now > start + TIME_MAX {
            return Err(format!("{} pings have no answer in time", pinger.sent.len()).into());
        }
    }
    Ok(Latencies::new(pinger.latencies))
}
