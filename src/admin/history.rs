//! The last quarter of an hour, in samples of a few seconds.

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

/// What each number of a [`Sample`] is. Those of latency and lag are bounds that so many of a hundred did not
/// exceed, in microseconds, or 0 where nothing was measured.
const COLUMNS: [&str; 22] = [
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
    "lag_p50",
    "lag_p99",
    "lag_max",
    "undelivered",
    "errors",
    "refused",
];

/// Columns whose 0 says that nothing was measured.
const MEASURED: std::ops::Range<usize> = 13..19;

// As the columns have them.
const _: () =
    assert!(matches!(SessionState::ALL, [SessionState::Empty, SessionState::Waiting, SessionState::Paired]));

type Sample = [u64; COLUMNS.len()];

/// Samples, the oldest first. The same memory, some 34 KB, however long it goes on.
#[derive(Debug)]
pub(super) struct History {
    samples: VecDeque<Sample>,
    /// When the last one was taken, and the counters then.
    sampled_at: Tick,
    before: Counters,
}

impl History {
    pub(super) fn new(now: Tick) -> Self {
        Self { samples: VecDeque::with_capacity(SAMPLES_MAX), sampled_at: now, before: Counters::default() }
    }

    pub(super) fn next_sample(&self) -> Tick {
        self.sampled_at.after(INTERVAL)
    }

    /// Takes a sample if it is time. One that is late stands for all the time since the one before.
    pub(super) fn note<S: Read + Write>(&mut self, now: Now, relay: &Relay<S>) {
        if now.tick < self.next_sample() {
            return;
        }
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        let counters = *relay.counters();
        self.samples.push_back(sample(now, now.tick.since(self.sampled_at), relay, &self.before));
        self.before = counters;
        self.sampled_at = now.tick;
    }

    /// The samples taken later than `since`, as JSON, with what a page has to know besides.
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
    let latency = counters.relay_micros.since(&before.relay_micros);
    let lag = counters.turn_micros.since(&before.turn_micros);
    let percentile = |micros: &Micros, percent| micros.percentile(percent).unwrap_or(0);
    let grown = |now: &[u64], before: &[u64]| now.iter().sum::<u64>() - before.iter().sum::<u64>();
    [
        now.unix_millis,
        u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
        desktops,
        mobiles,
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
