//! Samples of the last 15 minutes, one every 5 seconds, for the status page.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::time::Duration;

use crate::relay::counts::counters::Micros;
use crate::relay::{Counters, Now, Relay, SessionState, Tick};

/// Time between two samples.
const INTERVAL: Duration = Duration::from_secs(5);
/// Samples kept: 15 minutes.
const SAMPLES_MAX: usize = 180;

/// The names of a [`Sample`]'s numbers. `latency_` (time in the relay), `delivery_` (time to the confirmation) and
/// `lag_` are percentiles in microseconds: upper bounds, or 0 if nothing was measured.
const COLUMNS: [&str; 25] = [
    "time",
    "interval_ms",
    "desktops",
    "mobiles",
    "other",
    "sessions_paired",
    "sessions_waiting",
    "sessions_empty",
    "messages_to_mobile",
    "messages_to_desktop",
    "bytes_to_mobile",
    "bytes_to_desktop",
    "buffered_bytes",
    "latency_p50",
    "latency_p90",
    "latency_p99",
    "delivery_p50",
    "delivery_p90",
    "delivery_p99",
    "lag_p50",
    "lag_p99",
    "lag_max",
    "undelivered",
    "errors",
    "refused",
];

/// The columns in which 0 means that nothing was measured.
const MEASURED: std::ops::Range<usize> = 13..22;

// `sample` relies on this order.
const _: () =
    assert!(matches!(SessionState::ALL, [SessionState::Empty, SessionState::Waiting, SessionState::Paired]));

type Sample = [u64; COLUMNS.len()];

/// Samples, the oldest first. Uses a fixed amount of memory, about 37 KB.
#[derive(Debug)]
pub(super) struct History {
    samples: VecDeque<Sample>,
    /// When the last sample was taken.
    sampled_at: Tick,
    /// The counters at that time.
    before: Counters,
}

impl History {
    pub(super) fn new(now: Tick) -> Self {
        Self { samples: VecDeque::with_capacity(SAMPLES_MAX), sampled_at: now, before: Counters::default() }
    }

    pub(super) fn next_sample(&self) -> Tick {
        self.sampled_at.after(INTERVAL)
    }

    /// Takes a sample if one is due. A late sample covers all the time since the previous one.
    pub(super) fn note<S: Read + Write>(&mut self, now: Now, relay: &Relay<S>) {
        if now.tick < self.next_sample() {
            return;
        }
        // Keeps the memory fixed: the deque never grows beyond its first allocation.
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        // Counters only grow; a sample holds the differences.
        let counters = *relay.counters();
        self.samples.push_back(sample(now, now.tick.since(self.sampled_at), relay, &self.before));
        self.before = counters;
        self.sampled_at = now.tick;
    }

    /// The samples taken after `since`, in Unix time in milliseconds, as JSON, with the other values that the status
    /// page shows.
    pub(super) fn since<S: Read + Write>(
        &self,
        since: u64,
        now: Now,
        started: u64,
        relay: &Relay<S>,
    ) -> String {
        let limit = relay.max_connections().map_or("null".to_owned(), |limit| limit.to_string());
        let mut json = format!(
            concat!(
                r#"{{"version":"{}","now":{},"started":{},"state":"{}","interval_seconds":{},"#,
                r#""max_connections":{},"max_buffered_bytes":{},"columns":["{}"],"samples":["#
            ),
            env!("CARGO_PKG_VERSION"),
            now.unix_millis,
            started,
            relay.service().as_str(),
            INTERVAL.as_secs(),
            limit,
            relay.max_buffered(),
            COLUMNS.join(r#"",""#),
        );
        let later = self.samples.iter().filter(|sample| sample.first().is_some_and(|&time| time > since));
        for (index, sample) in later.enumerate() {
            json.push_str(if index == 0 { "[" } else { ",[" });
            for (column, value) in sample.iter().enumerate() {
                let comma = if column == 0 { "" } else { "," };
                // Writing to a string cannot fail.
                let _ = match value {
                    0 if MEASURED.contains(&column) => write!(json, "{comma}null"),
                    value => write!(json, "{comma}{value}"),
                };
            }
            json.push(']');
        }
        json.push_str("]}\n");
        json
    }
}

fn sample<S: Read + Write>(now: Now, interval: Duration, relay: &Relay<S>, before: &Counters) -> Sample {
    let counters = relay.counters();
    let census = relay.census();
    let [desktops, mobiles] = census.clients;
    let [empty, waiting, paired] = census.sessions;
    let [to_mobile, to_desktop] =
        difference(counters.messages_accepted.counts(), before.messages_accepted.counts());
    let [bytes_to_mobile, bytes_to_desktop] =
        difference(counters.bytes_accepted.counts(), before.bytes_accepted.counts());
    // Histograms of only this interval.
    let latency = counters.relay_micros.since(&before.relay_micros);
    let lag = counters.turn_micros.since(&before.turn_micros);
    let percentile = |micros: &Micros, percent| micros.percentile(percent).unwrap_or(0);
    let confirmed = counters.confirm_millis.since(&before.confirm_millis);
    let delivery = |percent| confirmed.percentile(percent).unwrap_or(0) * 1_000;
    let grown = |now: &[u64], before: &[u64]| now.iter().sum::<u64>() - before.iter().sum::<u64>();
    [
        now.unix_millis,
        u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
        desktops,
        mobiles,
        // Connections outside sessions: requests, refusals, and clients that are closing.
        relay.connections() as u64 - desktops - mobiles,
        paired,
        waiting,
        empty,
        to_mobile,
        to_desktop,
        bytes_to_mobile,
        bytes_to_desktop,
        relay.buffered_bytes() as u64,
        percentile(&latency, 50),
        percentile(&latency, 90),
        percentile(&latency, 99),
        delivery(50),
        delivery(90),
        delivery(99),
        percentile(&lag, 50),
        percentile(&lag, 99),
        percentile(&lag, 100),
        grown(&counters.messages_undelivered, &before.messages_undelivered),
        grown(&counters.errors_sent, &before.errors_sent),
        grown(&counters.requests_refused, &before.requests_refused),
    ]
}

fn difference(now: [u64; 2], before: [u64; 2]) -> [u64; 2] {
    let ([first, second], [first_before, second_before]) = (now, before);
    [first - first_before, second - second_before]
}
