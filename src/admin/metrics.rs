//! The metrics in the text format of Prometheus, version 0.0.4.

use std::fmt::{Display, Write as _};
use std::io::{Read, Write};

use super::process::Process;
use crate::relay::Relay;
use crate::relay::end_reason::EndReason;
use crate::relay::handshake::RefusalReason;
use crate::relay::histogram::Histogram;
use crate::relay::ids::ClientType;
use crate::relay::message::ClientError;
use crate::relay::report::Service;
use crate::relay::session::State;

/// Begins the name of every metric that is not about the process.
const PREFIX: &str = "apptuner_relay_";
/// Where the messages of each client type go.
const DIRECTIONS: [&str; 2] = ["to_mobile", "to_desktop"];

/// Everything, at this moment.
pub(super) fn exposition<S: Read + Write>(relay: &Relay<S>, process: &Process) -> String {
    let mut out = Exposition::default();
    write_state(&mut out, relay);
    write_connections(&mut out, relay);
    write_messages(&mut out, relay);
    write_process(&mut out, process);
    out.text
}

fn write_state<S: Read + Write>(out: &mut Exposition, relay: &Relay<S>) {
    let features = if cfg!(feature = "tls") { "tls" } else { "" };
    let labels = format!(r#"version="{}",features="{features}""#, env!("CARGO_PKG_VERSION"));
    out.family("build_info", "gauge", "Always 1; its labels tell the build.");
    out.sample("build_info", &labels, 1);
    let is = |service| u8::from(relay.service() == service);
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
        out.gauge("connections_limit", "Connections served at once, at most.", limit);
    }
    out.family("sessions", "gauge", "Sessions, by how many clients they have: both, one or none.");
    for (state, sessions) in State::ALL.into_iter().zip(census.sessions) {
        out.sample("sessions", &format!(r#"state="{}""#, state.as_str()), sessions);
    }
    out.gauge("buffered_bytes", "Memory of messages that wait or are half received.", relay.buffered_bytes());
    out.gauge("buffered_limit_bytes", "As much as it may be.", relay.max_buffered());
    let seconds = &relay.counters().turn_micros;
    let help =
        "How long the event loop was busy at a time, which is how late it may see what comes meanwhile.";
    out.histogram("event_loop_lag_seconds", help, seconds, 1e6);
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
    out.histogram("session_duration_seconds", help, &counters.session_seconds, 1.0);
    let help = "From a ping of the relay to the pong of a client that was silent.";
    out.histogram("ping_round_trip_seconds", help, &counters.ping_millis, 1e3);
}

fn write_messages<S: Read + Write>(out: &mut Exposition, relay: &Relay<S>) {
    let counters = relay.counters();
    for (name, help, counts) in [
        ("messages_total", "Messages accepted for a peer.", &counters.messages_accepted),
        ("bytes_total", "Their payload bytes.", &counters.bytes_accepted),
        (
            "messages_delivered_total",
            "Those that the peer's socket took whole.",
            &counters.messages_delivered,
        ),
        (
            "messages_undelivered_total",
            "Those whose receiver was gone before it had got them.",
            &counters.messages_undelivered,
        ),
    ] {
        out.counters(name, help, "direction", &DIRECTIONS, counts);
    }
    out.histogram("message_size_bytes", "Payload bytes of each message.", &counters.message_bytes, 1.0);
    let help = "From the last byte in to the last byte out of each message delivered.";
    out.histogram("message_in_relay_seconds", help, &counters.relay_micros, 1e6);
    let help = "Error messages sent to clients, by their code.";
    out.counters("errors_total", help, "code", &ClientError::CODES, &counters.errors_sent);
    let help = "Times a client was not read because its peer, or its rate, held it back.";
    out.counter("reads_paused_total", help, counters.reads_paused);
    let help = "Times a large message had to wait for room in the buffered memory.";
    out.counter("room_awaited_total", help, counters.room_awaited);
}

fn write_process(out: &mut Exposition, process: &Process) {
    for (name, kind, help, value) in [
        ("cpu_seconds_total", "counter", "Processor time used, in seconds.", process.cpu_seconds),
        ("start_time_seconds", "gauge", "When the process began, in Unix time.", process.start_seconds),
    ] {
        out.process(name, kind, help, value);
    }
    for (name, help, value) in [
        ("resident_memory_bytes", "Memory in use.", process.resident_bytes),
        ("virtual_memory_bytes", "Memory mapped.", process.virtual_bytes),
        ("open_fds", "Open file descriptors.", process.open_fds),
        ("max_fds", "As many as may be open.", process.max_fds),
    ] {
        out.process(name, "gauge", help, value);
    }
}

/// What is written so far. Writing to a string cannot fail.
#[derive(Default)]
struct Exposition {
    text: String,
}

impl Exposition {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.text, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = writeln!(self.text, "{PREFIX}{name}{{{labels}}} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        let _ = writeln!(self.text, "{PREFIX}{name} {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        let _ = writeln!(self.text, "{PREFIX}{name} {value}");
    }

    /// One counter for each of several kinds, told apart by a label.
    fn counters<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        kinds: &[&str; N],
        counts: &[u64; N],
    ) {
        self.family(name, "counter", help);
        for (kind, count) in kinds.iter().zip(counts) {
            self.sample(name, &format!(r#"{label}="{kind}""#), count);
        }
    }

    /// `per_unit` of what the histogram counts make one of the metric's.
    #[expect(clippy::cast_precision_loss, reason = "it is written as a number with a point in any case")]
    fn histogram<const N: usize>(&mut self, name: &str, help: &str, values: &Histogram<N>, per_unit: f64) {
        self.family(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        for (bound, count) in values.cumulative() {
            self.sample(&bucket, &format!(r#"le="{}""#, bound as f64 / per_unit), count);
        }
        self.sample(&bucket, r#"le="+Inf""#, values.count());
        let (sum, count) = (values.sum() as f64 / per_unit, values.count());
        let _ = write!(self.text, "{PREFIX}{name}_sum {sum}\n{PREFIX}{name}_count {count}\n");
    }

    fn process(&mut self, name: &str, kind: &str, help: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            let name = format!("process_{name}");
            let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
        }
    }
}
