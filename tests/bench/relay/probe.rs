//! Clients with a special task: a pair whose latency is watched, a phone that reads slowly, a desktop that sends
//! slowly.

use std::time::{Duration, Instant};

use crate::Result;
use crate::frame::{Template, number};
use crate::net::{Clients, Net, Receive, Received};

/// The interval of the watched pair's messages.
const INTERVAL: Duration = Duration::from_millis(2);
const MESSAGE_BYTES: usize = 128;

/// Sends a message from the first session's desktop to its mobile and back, every two milliseconds, but only one at a
/// time.
pub(crate) struct Probe {
    template: Template,
    count: u64,
    sent: Option<Instant>,
    due: Instant,
    latencies: Vec<Duration>,
}

impl Probe {
    pub(crate) fn new() -> Self {
        let template = Template::new(MESSAGE_BYTES);
        Self { template, count: 0, sent: None, due: Instant::now(), latencies: Vec::new() }
    }

    fn send_if_due(&mut self, clients: &mut Clients) {
        let now = Instant::now();
        if self.sent.is_none() && now >= self.due {
            self.sent = Some(now);
            self.due = now + INTERVAL;
            clients.send(0, |out| self.template.write(number(0, self.count), out));
        }
    }

    /// A late answer counts once for itself and once for each message that was not sent because of it.
    fn record(&mut self, latency: Duration) {
        let mut rest = Some(latency);
        while let Some(latency) = rest {
            self.latencies.push(latency);
            rest = latency.checked_sub(INTERVAL);
        }
    }

    /// The latencies since the last call, including that of an answer that has not arrived yet.
    fn take(&mut self) -> Latencies {
        if let Some(sent) = self.sent {
            self.record(sent.elapsed());
        }
        Latencies::new(std::mem::take(&mut self.latencies))
    }
}

/// Latencies in ascending order.
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn new(mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        Self(latencies)
    }

    /// The latency in milliseconds that `percent` of all do not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let last = self.0.len().saturating_sub(1);
        let latency = self.0.get(last * percent / 100);
        latency.map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    }
}

/// The watched pair, which is the first session, and all other clients.
pub(crate) struct Watched<R> {
    probe: Probe,
    pub(crate) others: R,
}

impl<R: Receive> Receive for Watched<R> {
    fn receive(&mut self, clients: &mut Clients, from: usize, received: Received<'_>) -> Result<()> {
        let Received::Message(message) = received else {
            return self.others.receive(clients, from, received);
        };
        if from >= 2 {
            return self.others.receive(clients, from, received);
        }
        let Probe { template, count, .. } = &self.probe;
        template.check(number(0, *count), message)?;
        if from == 1 {
            clients.send(1, |out| template.write(number(0, *count), out));
        } else if let Some(sent) = self.probe.sent.take() {
            self.probe.count += 1;
            self.probe.record(sent.elapsed());
        }
        Ok(())
    }
}

impl<R: Receive> Watched<R> {
    pub(crate) fn new(others: R) -> Self {
        Self { probe: Probe::new(), others }
    }

    /// Replaces the other clients.
    pub(crate) fn with<Q>(self, others: Q) -> Watched<Q> {
        Watched { probe: self.probe, others }
    }

    /// Watches the pair for `time` while `drive` serves the others. `drive` returns whether they have more to do.
    pub(crate) fn watch(
        &mut self,
        net: &mut Net,
        time: Duration,
        mut drive: impl FnMut(&mut Net, &mut Self) -> Result<bool>,
    ) -> Result<Latencies> {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            self.probe.send_if_due(&mut net.clients);
            let is_busy = drive(net, self)?;
            net.turn(if is_busy { Duration::ZERO } else { Duration::from_millis(1) }, self)?;
        }
        Ok(self.probe.take())
    }
}

/// A client that reads at a constant rate.
pub(crate) struct SlowReader {
    client: usize,
    bytes_per_second: f64,
    start: Instant,
    /// Bytes read or skipped: it does not catch up.
    taken: f64,
}

impl SlowReader {
    /// The receive buffer that the kernel is asked for. The kernel doubles it.
    pub(crate) const RECEIVE_BUFFER: usize = 64 * 1024;
    /// Bytes that are worth a read.
    const STEP: f64 = 4096.0;
    /// Bytes that it may lag behind.
    const BEHIND_MAX: f64 = 65_536.0;

    pub(crate) fn start(net: &mut Net, client: usize, bytes_per_second: f64) -> Self {
        net.clients.hold(client);
        Self { client, bytes_per_second, start: Instant::now(), taken: 0.0 }
    }

    /// Call every few milliseconds. Returns the number of bytes read.
    pub(crate) fn read(&mut self, net: &mut Net, receiver: &mut impl Receive) -> Result<usize> {
        let offered = self.start.elapsed().as_secs_f64() * self.bytes_per_second;
        let due = offered - self.taken;
        if due < Self::STEP {
            return Ok(0);
        }
        let count = net.read(self.client, due as usize, receiver)?;
        self.taken = (self.taken + count as f64).max(offered - Self::BEHIND_MAX);
        Ok(count)
    }
}

/// A client that sends at a constant rate or at full speed.
pub(crate) struct SlowSender {
    client: usize,
    bytes_per_second: f64,
    start: Instant,
    output: Vec<u8>,
    sent: usize,
}

impl SlowSender {
    pub(crate) fn start(client: usize, output: Vec<u8>, bytes_per_second: f64) -> Self {
        Self { client, bytes_per_second, start: Instant::now(), output, sent: 0 }
    }

    /// Call every few milliseconds.
    pub(crate) fn send(&mut self, clients: &mut Clients) {
        let due = (self.start.elapsed().as_secs_f64() * self.bytes_per_second) as usize;
        let end = due.min(self.output.len());
        if end > self.sent {
            clients.send(self.client, |out| out.extend_from_slice(&self.output[self.sent..end]));
            self.sent = end;
        }
    }
}
