//! Messages of many megabytes: a single one (`bulk`), four over slow links (`links`), and twenty to slow phones with
//! little memory (`slow-bundles`).

use std::time::Duration;

use crate::frame::{Template, number};
use crate::net::{Clients, Ignore, Net, Receive, Received};
use crate::probe::{SlowReader, SlowSender};
use crate::process::Span;
use crate::table::Figure;
use crate::{Result, Trial};

const MEGABYTE: usize = 1_000_000;

/// Large messages from desktops to mobiles.
pub(crate) struct Bundles {
    template: Template,
    bytes: usize,
    /// Messages sent in each session.
    sent: Vec<u64>,
    arrived: Vec<u64>,
}

impl Bundles {
    pub(crate) fn new(bytes: usize, sessions: usize) -> Self {
        Self { template: Template::new(bytes), bytes, sent: vec![0; sessions], arrived: vec![0; sessions] }
    }

    pub(crate) fn send(&mut self, clients: &mut Clients, session: usize) {
        clients.send(2 * session, |out| self.write(session, out));
    }

    /// Appends the next frame of a session.
    fn write(&mut self, session: usize, out: &mut Vec<u8>) {
        self.template.write(number(session, self.sent[session]), out);
        self.sent[session] += 1;
    }

    fn arrived_in_all(&self) -> u64 {
        self.arrived.iter().sum()
    }
}

impl Receive for Bundles {
    fn receive(&mut self, _: &mut Clients, from: usize, received: Received<'_>) -> Result<()> {
        if let Received::Message(message) = received {
            let session = from / 2;
            self.template.check(number(session, self.arrived[session]), message)?;
            self.arrived[session] += 1;
        }
        Ok(())
    }
}

/// One message of 50 MB at full speed.
pub(crate) fn bulk(trial: &Trial) -> Result<Vec<Figure>> {
    const TIME_MAX: Duration = Duration::from_secs(30);
    let server = trial.start(&[])?;
    let mut net = Net::with_pairs(&server, 1)?;
    let mut bundles = Bundles::new(50 * MEGABYTE, 1);
    let before = server.resident_bytes()?;
    bundles.send(&mut net.clients, 0);
    let span = Span::start(&server)?;
    while bundles.arrived_in_all() < 1 {
        net.turn(Duration::from_millis(5), &mut bundles)?;
        if span.elapsed() > TIME_MAX {
            return Err("it has not arrived in time".into());
        }
    }
    let spent = trial.note(span.stop()?);
    // Buffers may be freed a little later.
    net.run_for(Duration::from_secs(1), &mut Ignore)?;
    let megabytes = (bundles.bytes / MEGABYTE) as f64;
    Ok(vec![
        Figure::new("CPU, µs per MB", 1, spent.cpu_micros_per(megabytes)),
        Figure::new("MB per second", 0, spent.rate(megabytes)),
        Figure::mib("peak RSS, MiB", server.peak_bytes()?),
        Figure::mib("RSS before, MiB", before),
        Figure::mib("RSS afterwards minus before, MiB", server.resident_bytes()? - before),
    ])
}

/// One message per session at once, over links of these rates, in bytes per second.
struct Links {
    sessions: usize,
    bytes: usize,
    up: f64,
    down: f64,
}

/// Four messages of 10 MB over links of 20 Mbit/s. A relay that receives a message whole before it forwards it needs
/// twice the links' time.
pub(crate) fn links(trial: &Trial) -> Result<Vec<Figure>> {
    let links = Links { sessions: 4, bytes: 10 * MEGABYTE, up: 2.5e6, down: 2.5e6 };
    carry(trial, &[], &links)
}

/// Twenty messages of 20 MB to phones that take 4 MB/s each, with `max_buffered` memory.
pub(crate) fn slow_bundles(trial: &Trial, max_buffered: &str) -> Result<Vec<Figure>> {
    let links = Links { sessions: 20, bytes: 20 * MEGABYTE, up: f64::INFINITY, down: 4e6 };
    carry(trial, &["--max-buffered", max_buffered], &links)
}

fn carry(trial: &Trial, flags: &[&str], links: &Links) -> Result<Vec<Figure>> {
    const TIME_MAX: Duration = Duration::from_secs(60);
    /// For notices that are still in transit.
    const SETTLING: Duration = Duration::from_millis(200);
    let &Links { sessions, bytes, up, down } = links;
    let server = trial.start(flags)?;
    let mut net = Net::new(&server)?;
    net.open_pairs(sessions, Some(SlowReader::RECEIVE_BUFFER))?;
    net.run_for(SETTLING, &mut Ignore)?;
    let mut bundles = Bundles::new(bytes, sessions);
    let before = server.resident_bytes()?;
    let frames: Vec<_> = (0..sessions)
        .map(|session| {
            let mut frame = Vec::new();
            bundles.write(session, &mut frame);
            frame
        })
        .collect();
    let (mut desktops, mut phones) = (Vec::new(), Vec::new());
    for (session, frame) in frames.into_iter().enumerate() {
        desktops.push(SlowSender::start(2 * session, frame, up));
        phones.push(SlowReader::start(&mut net, 2 * session + 1, down));
    }
    let span = Span::start(&server)?;
    // The time until the last phone has its first byte.
    let (mut begun, mut first_byte) = (vec![false; sessions], Duration::ZERO);
    while bundles.arrived_in_all() < sessions as u64 {
        for desktop in &mut desktops {
            desktop.send(&mut net.clients);
        }
        net.turn(Duration::from_millis(2), &mut bundles)?;
        for (phone, begun) in phones.iter_mut().zip(&mut begun) {
            if phone.read(&mut net, &mut bundles)? > 0 && !*begun {
                *begun = true;
                first_byte = span.elapsed();
            }
        }
        if span.elapsed() > TIME_MAX {
            return Err(format!("{} of {sessions} have arrived in time", bundles.arrived_in_all()).into());
        }
    }
    let spent = trial.note(span.stop()?);
    net.run_for(Duration::from_secs(1), &mut Ignore)?;
    let seconds = spent.wall.as_secs_f64();
    let ideal = bytes as f64 / up.min(down);
    Ok(vec![
        Figure::new("last arrived after, s", 2, seconds),
        Figure::new("the same, to what the links allow", 2, seconds / ideal),
        Figure::new("first byte at the last phone, s", 2, first_byte.as_secs_f64()),
        Figure::mib("peak RSS, MiB", server.peak_bytes()?),
        Figure::mib("RSS before, MiB", before),
        Figure::mib("RSS afterwards minus before, MiB", server.resident_bytes()? - before),
        Figure::new("CPU, µs per MB", 1, spent.cpu_micros_per((bytes * sessions) as f64 / MEGABYTE as f64)),
    ])
}
