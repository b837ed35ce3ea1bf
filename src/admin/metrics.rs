//! The metrics in the text format of Prometheus, version 0.0.4.

use std::fmt::{self, Display, Write as _};
use std::io::{Read, Write};

use super::process::Process;
use crate::relay::{
    ClientError, ClientType, EndReason, Histogram, RefusalReason, Relay, Service, SessionState,
};

/// How many units of the counter make one unit of the metric.
const WHOLE: u64 = 1;
const MILLIS: u64 = 1_000;
const MICROS: u64 = 1_000_000;
/// The prefix of every metric that is not about the process.
const PREFIX: &str = "apptuner_relay_";
/// The direction of the messages of each client type, in the order of [`ClientType::ALL`].
const DIRECTIONS: [&str; 2] = ["to_mobile", "to_desktop"];

/// All metrics of a relay, in Prometheus's text format 0.0.4. For hosts with their own sockets;
/// [`Server::metrics`](crate::Server::metrics) adds those of the process.
///
/// ```
/// use apptuner_relay::relay::{Now, Relay, Settings};
///
/// let relay = Relay::<std::io::Cursor<Vec<u8>>>::new(Settings::default(), [1, 2], Now::default());
/// let text = apptuner_relay::metrics(&relay);
/// assert!(text.contains("\napptuner_relay_sessions{state=\"paired\"} 0\n"), "{text}");
/// ```
#[must_use]
pub fn metrics<S: Read + Write>(relay: &Relay<S>) -> String {
    let mut out = Exposition::default();
    write_relay(&mut out, relay);
    out.text
}

/// As [`metrics`], with the metrics of the process. `started` is when it began, in Unix time in milliseconds.
pub(crate) fn exposition<S: Read + Write>(relay: &Relay<S>, process: &Process, started: u64) -> String {
    let mut out = Exposition::default();
    write_relay(&mut out, relay);
    write_process(&mut out, process, started);
    out.text
}

fn write_relay<S: Read + Write>(out: &mut Exposition, relay: &Relay<S>) {
    write_state(out, relay);
    write_connections(out, relay);
    write_messages(out, relay);
}

fn write_state<S: Read + Write>(out: &mut Exposition, relay: &Relay<S>) {
    let features = if cfg!(feature = "tls") { "tls" } else { "" };
    let labels = format!(r#"version="{}",features="{features}""#, env!("CARGO_PKG_VERSION"));
    out.family("build_info", "gauge", "Always 1; its labels tell the build.");
    out.sample("build_info", &labels, 1);
    let is = |service| u64::from(relay.service() == service);
    out.gauge("draining", "1 while the relay shuts down.", is(Service::Draining));
    out.gauge("full", "1 while newcomers are told to come back or left waiting.", is(Service::Full));
    let census = relay.census();
    out.family("connections", "gauge", "Connections, by client type; none is in no session.");
    for (client_type, clients) in ClientType::ALL.into_iter().zip(census.clients) {
        out.sample("connections", &format!(r#"client="{}""#, client_type.as_str()), clients);
    }
    let outside = relay.connections() as u64 - census.clients.iter().sum::<u64>();
    out.sample("connections", r#"client="none""#, outside);
    if let Some(limit) = relay.max_connections() {
        out.gauge("connections_limit", "Connections served at once, at most.", limit as u64);
    }
    out.family("sessions", "gauge", "Sessions, by how many clients they have: both, one or none.");
    for (state, sessions) in SessionState::ALL.into_iter().zip(census.sessions) {
        out.sample("sessions", &format!(r#"state="{}""#, state.as_str()), sessions);
    }
    out.gauge(
        "buffered_bytes",
        "Memory of messages that wait or are half received.",
        relay.buffered_bytes() as u64,
    );
    out.gauge("buffered_limit_bytes", "As much as it may be.", relay.max_buffered() as u64);
    out.gauge(
        "clients_starved",
        "Clients that are not read now because that memory is used up.",
        relay.starved_clients() as u64,
    );
    let help =
        "How long the event loop was busy at a time, which is how late it may see what comes meanwhile.";
    out.histogram("event_loop_lag_seconds", help, &relay.counters().turn_micros, MICROS);
}

fn write_connections<S: Read + Write>(out: &mut Exposition, relay: &Relay<S>) {
    let counters = relay.counters();
    let help = "Connections accepted, those refused included.";
    out.counter("connections_opened_total", help, counters.connections_accepted);
    let reasons = EndReason::ALL.map(EndReason::as_str);
    let help = "Connections ended, by what ended them.";
    out.counters("connections_closed_total", help, "reason", &reasons, &counters.connections_ended);
    let clients = ClientType::ALL.map(ClientType::as_str);
    out.counters("joins_total", "Upgrades answered with 101.", "client", &clients, &counters.joins);
    let reasons = RefusalReason::ALL.map(RefusalReason::as_str);
    let help = "Requests answered with an error, by why.";
    out.counters("handshakes_refused_total", help, "reason", &reasons, &counters.requests_refused);
    let help = "How long sessions lasted that have ended.";
    out.histogram("session_duration_seconds", help, &counters.session_seconds, WHOLE);
    let help = "From a ping of the relay to the pong of a client that was silent.";
    out.histogram("ping_round_trip_seconds", help, &counters.ping_millis, MILLIS);
}

fn write_messages<S: Read + Write>(out: &mut Exposition, relay: &Relay<S>) {
    let counters = relay.counters();
    for (name, help, counts) in [
        ("messages_total", "Messages accepted for a peer.", &counters.messages_accepted),
        ("bytes_total", "Their payload bytes.", &counters.bytes_accepted),
        (
            "messages_delivered_total",
            "Those that the peer confirmed, or took whole if it cannot confirm.",
            &counters.messages_delivered,
        ),
        (
            "messages_confirmed_total",
            "Those delivered that the peer confirmed.",
            &counters.messages_confirmed,
        ),
        ("messages_undelivered_total", "Those that will not be delivered.", &counters.messages_undelivered),
        (
            "messages_given_up_total",
            "Those undelivered that had been kept for a peer.",
            &counters.messages_given_up,
        ),
        (
            "messages_redelivered_total",
            "Messages sent again to a peer that had come back.",
            &counters.messages_redelivered,
        ),
        (
            "messages_cut_short_total",
            "Those that were begun and never became whole, or turned out not to be JSON.",
            &counters.messages_cut_short,
        ),
    ] {
        out.counters(name, help, "direction", &DIRECTIONS, counts);
    }
    out.histogram("message_size_bytes", "Payload bytes of each message.", &counters.message_bytes, WHOLE);
    let help = "From the last byte in to the last byte out of each message.";
    out.histogram("message_in_relay_seconds", help, &counters.relay_micros, MICROS);
    let help = "From the last byte in to the confirmation of each message confirmed.";
    out.histogram("delivery_seconds", help, &counters.confirm_millis, MILLIS);
    let help = "Error messages sent to clients, by their code.";
    out.counters("errors_total", help, "code", &ClientError::CODES, &counters.errors_sent);
    let help = "Times a client was not read because its peer, or its rate, held it back.";
    out.counter("reads_paused_total", help, counters.reads_paused);
    let help = "Times a client was not read because the buffered memory was used up.";
    out.counter("reads_starved_total", help, counters.reads_starved);
}

fn write_process(out: &mut Exposition, process: &Process, started: u64) {
    if let Some(lines) = process.log_lines_dropped {
        let help = "Lines of the log dropped because standard error took no more.";
        out.counter("log_lines_dropped_total", help, lines);
    }
    // Names that Prometheus recommends for every program, so they lack the prefix.
    for (name, kind, help, value, per_unit) in [
        ("cpu_seconds_total", "counter", "Processor time used.", process.cpu_micros, MICROS),
        ("start_time_seconds", "gauge", "When the process began, in Unix time.", Some(started), MILLIS),
        ("resident_memory_bytes", "gauge", "Memory in use.", process.resident_bytes, WHOLE),
        ("virtual_memory_bytes", "gauge", "Memory mapped.", process.virtual_bytes, WHOLE),
        ("open_fds", "gauge", "Open file descriptors.", process.open_fds, WHOLE),
        ("max_fds", "gauge", "As many as may be open.", process.max_fds, WHOLE),
    ] {
        if let Some(value) = value {
            let (name, value) = (format!("process_{name}"), Decimal { value, per_unit });
            let _ = write!(out.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
        }
    }
}

/// The text written so far. Results of writing are ignored: writing to a string cannot fail.
#[derive(Default)]
struct Exposition {
    text: String,
}

impl Exposition {
    // These functions are not inlined: that would make the code ten times as large, and they are called rarely.
    #[inline(never)]
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.text, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}\n");
    }

    #[inline(never)]
    fn sample(&mut self, name: &str, labels: &str, value: u64) {
        let _ = writeln!(self.text, "{PREFIX}{name}{{{labels}}} {value}");
    }

    #[inline(never)]
    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "gauge", help);
        let _ = writeln!(self.text, "{PREFIX}{name} {value}");
    }

    #[inline(never)]
    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        let _ = writeln!(self.text, "{PREFIX}{name} {value}");
    }

    /// One counter with a value for each of several kinds. A label names the kind.
    #[inline(never)]
    fn counters(&mut self, name: &str, help: &str, label: &str, kinds: &[&str], counts: &[u64]) {
        self.family(name, "counter", help);
        for (kind, count) in kinds.iter().zip(counts) {
            self.sample(name, &format!(r#"{label}="{kind}""#), *count);
        }
    }

    /// A histogram whose values are in units of which `per_unit` make one unit of the metric.
    fn histogram<const N: usize>(&mut self, name: &str, help: &str, values: &Histogram<N>, per_unit: u64) {
        let buckets: Vec<_> = values.cumulative().collect();
        self.buckets(name, help, &buckets, per_unit);
        // Prometheus requires a last bucket without a bound; it holds all values.
        let (sum, count) = (Decimal { value: values.sum(), per_unit }, values.count());
        self.sample(&format!("{name}_bucket"), r#"le="+Inf""#, count);
        let _ = write!(self.text, "{PREFIX}{name}_sum {sum}\n{PREFIX}{name}_count {count}\n");
    }

    #[inline(never)]
    fn buckets(&mut self, name: &str, help: &str, buckets: &[(u64, u64)], per_unit: u64) {
        self.family(name, "histogram", help);
        for &(value, count) in buckets {
            let bound = Decimal { value, per_unit };
            let _ = writeln!(self.text, "{PREFIX}{name}_bucket{{le=\"{bound}\"}} {count}");
        }
    }
}

/// `value / per_unit` as an exact decimal without zeros at the end. `per_unit` must be a power of ten.
struct Decimal {
    value: u64,
    per_unit: u64,
}

impl Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value, per_unit } = *self;
        write!(f, "{}", value / per_unit)?;
        let (mut rest, mut unit) = (value % per_unit, per_unit);
        if rest > 0 {
            f.write_str(".")?;
        }
        while rest > 0 {
            unit /= 10;
            write!(f, "{}", rest / unit)?;
            rest %= unit;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact_and_have_no_zeros_at_the_end() {
        for (value, per_unit, text) in [
            (0, MICROS, "0"),
            (25, MICROS, "0.000025"),
            (50, MICROS, "0.00005"),
            (2_500_000, MICROS, "2.5"),
            (60_000_000, MICROS, "60"),
            (1_001, MILLIS, "1.001"),
            (64, WHOLE, "64"),
            (u64::MAX, MICROS, "18446744073709.551615"),
        ] {
            assert_eq!(Decimal { value, per_unit }.to_string(), text);
        }
    }
}
