//! Messages of many megabytes: one on its own (`bulk`), and twenty to slow phones (`slow-bundles`).

use std::time::Duration;

use crate::frame::{Template, number};
use crate::net::{Clients, Ignore, Net, Receive, Received};
use crate::probe::SlowReader;
use crate::process::Span;
use crate::table::Figure;
use crate::{Result, Trial};

const MEGABYTE: usize = 1_000_000;
const MIB: usize = 1024 * 1024;

/// Large messages from desktops to mobiles.
pub(crate) struct Bundles {
    template: Template,
    bytes: usize,
    /// By session, how many were sent and how many have arrived.
    sent: Vec<u64>,
    arrived: Vec<u64>,
}

impl Bundles {
    pub(crate) fn new(bytes: usize, sessions: usize) -> Self {
        Self { template: Template::new(bytes), bytes, sent: vec![0; sessions], arrived: vec![0; sessions] }
    }

    pub(crate) fn send(&mut self, clients: &mut Clients, session: usize) {
        clients.send(2 * session, |out| self.template.write(number(session, self.sent[session]), out));
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

/// One message of 50 MB, as fast as it goes.
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
    // Buffers may be given back a moment later.
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

/// Twenty messages of 20 MiB at once, to phones that take 2 MB/s each, through a memory budget of 64 MiB.
pub(crate) fn slow_bundles(trial: &Trial) -> Result<Vec<Figure>> {
    const SESSIONS: usize = 20;
    const BYTES: usize = 20 * MIB;
    const BYTES_PER_SECOND: f64 = 2e6;
    const TIME_MAX: Duration = Duration::from_secs(240);
    let server = trial.start(&["--max-buffered", "64MiB", "--max-message-size", "32MiB"])?;
    let mut net = Net::new(&server)?;
    net.open_pairs(SESSIONS, Some(SlowReader::RECEIVE_BUFFER))?;
    let mut bundles = Bundles::new(BYTES, SESSIONS);
    let before = server.resident_bytes()?;
    let mut phones = Vec::new();
    for session in 0..SESSIONS {
        bundles.send(&mut net.clients, session);
        phones.push(SlowReader::start(&mut net, 2 * session + 1, BYTES_PER_SECOND));
    }
    let span = Span::start(&server)?;
    let mut first_arrived = None;
    while bundles.arrived_in_all() < SESSIONS as u64 {
        net.turn(Duration::from_millis(2), &mut bundles)?;
        for phone in &mut phones {
            phone.read(&mut net, &mut bundles)?;
        }
        if first_arrived.is_none() && bundles.arrived_in_all() > 0 {
            first_arrived = Some(span.elapsed());
        }
        if span.elapsed() > TIME_MAX {
            return Err(format!("{} of {SESSIONS} have arrived in time", bundles.arrived_in_all()).into());
        }
    }
    let spent = trial.note(span.stop()?);
    net.run_for(Duration::from_secs(1), &mut Ignore)?;
    let megabytes = (BYTES * SESSIONS) as f64 / MEGABYTE as f64;
    Ok(vec![
        Figure::mib("peak RSS, MiB", server.peak_bytes()?),
        Figure::mib("RSS before, MiB", before),
        Figure::mib("RSS afterwards minus before, MiB", server.resident_bytes()? - before),
        Figure::new("first arrived after, s", 1, first_arrived.unwrap_or_default().as_secs_f64()),
        Figure::new("last arrived after, s", 1, spent.wall.as_secs_f64()),
        Figure::new("CPU, µs per MB", 1, spent.cpu_micros_per(megabytes)),
    ])
}
