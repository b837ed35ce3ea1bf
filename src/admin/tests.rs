//! The operator's engine on a virtual clock, over streams in memory.

use std::time::Duration;

use super::*;
use crate::relay::ConnectionId;
use crate::relay::tests::frame::{TEXT, frame};
use crate::relay::tests::stream::Stream;

const START: Now = Now { tick: Tick(1_000), unix_millis: 1_700_000_000_000, micros: 1_000_000 };

/// An operator's engine beside a relay.
struct World {
    admin: Admin<Stream>,
    relay: Relay<Stream>,
    now: Now,
    closed: usize,
}

impl World {
    fn new() -> Self {
        let settings = Settings { max_connections: Some(100), ..Settings::default() };
        let relay = Relay::new(settings.clone(), [1, 2], START);
        Self { admin: Admin::new(None, settings, [3, 4], START), relay, now: START, closed: 0 }
    }

    fn connect(&mut self) -> (usize, Stream) {
        let stream = Stream::default();
        (self.admin.handle_accept(stream.clone(), self.now), stream)
    }

    fn send(&mut self, (key, stream): &(usize, Stream), text: &str) {
        stream.0.borrow_mut().send(text.as_bytes());
        self.admin.handle_readiness(*key, Readiness::READABLE);
    }

    fn ask(&mut self, target: &str) -> (usize, Stream) {
        let asker = self.connect();
        self.send(&asker, &format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        asker
    }

    fn turn(&mut self) {
        self.admin.handle_turn(self.now, &self.relay, Process::default);
        while let Some(effect) = self.admin.poll_effect() {
            self.closed += usize::from(matches!(effect, AdminEffect::Close(_)));
        }
    }

    /// Moves the clock. The relay and the engine get a turn at each of their deadlines.
    fn pass(&mut self, time: Duration) {
        let end = self.now.tick.after(time);
        loop {
            let next = self.relay.next_deadline().into_iter().chain([self.admin.next_deadline()]).min();
            let Some(next) = next.filter(|&next| next <= end) else { break };
            self.set_tick(next.max(self.now.tick));
            self.relay.handle_turn(self.now);
            self.turn();
        }
        self.set_tick(end);
        self.turn();
    }

    fn set_tick(&mut self, tick: Tick) {
        let unix_millis = START.unix_millis + (tick.0 - START.tick.0);
        self.now = Now { tick, unix_millis, micros: tick.0 * 1000 };
    }

    /// The body of the answer to a request that is sent now.
    fn body(&mut self, target: &str) -> String {
        let asker = self.ask(target);
        self.pass(ANSWER_INTERVAL);
        let answer = answer(&asker);
        answer.split_once("\r\n\r\n").expect("an answer").1.to_owned()
    }

    fn join(&mut self, path: &str) -> (ConnectionId, Stream) {
        let stream = Stream::default();
        let id = self.relay.handle_accept(stream.clone(), ([127, 0, 0, 1], 1).into(), self.now);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.0.borrow_mut().send(request.as_bytes());
        self.relay.handle_readiness(id, Readiness::READABLE);
        self.relay.handle_turn(self.now);
        (id, stream)
    }
}

fn answer((_, stream): &(usize, Stream)) -> String {
    String::from_utf8(stream.0.borrow_mut().take_all()).expect("text")
}

/// The samples of an answer, each by the names of its columns.
fn samples(json: &str) -> Vec<serde_json::Map<String, serde_json::Value>> {
    let json: serde_json::Value = serde_json::from_str(json).expect("JSON");
    let columns = json["columns"].as_array().expect("names");
    let name = |column: &serde_json::Value| column.as_str().expect("a name").to_owned();
    let sample = |values: &serde_json::Value| {
        columns.iter().map(name).zip(values.as_array().expect("values").iter().cloned()).collect()
    };
    json["samples"].as_array().expect("samples").iter().map(sample).collect()
}

#[test]
fn only_one_page_is_made_per_answer_interval() {
    let mut world = World::new();
    let askers: Vec<_> = (0..10).map(|_| world.ask("/metrics")).collect();
    let answered = |askers: &[(usize, Stream)]| {
        askers.iter().filter(|(_, stream)| !stream.0.borrow().received().is_empty()).count()
    };
    for _ in 0..5 {
        world.turn();
    }
    assert_eq!(answered(&askers), 1);
    let probe = world.ask("/livez");
    world.turn();
    assert!(answer(&probe).ends_with("ok\n"), "an answer of one sentence does not wait");
    assert_eq!(world.admin.next_deadline(), world.now.tick.after(ANSWER_INTERVAL));
    world.pass(ANSWER_INTERVAL * 9);
    assert_eq!(answered(&askers), 10);
}

#[test]
fn full_listener_drops_answered_then_silent_connections_and_none_that_waits_for_its_answer() {
    let mut world = World::new();
    let asking: Vec<_> = (0..CONNECTIONS_MAX - 1).map(|_| world.ask("/sessions")).collect();
    let silent = world.connect();
    world.turn();
    // The first one is answered, and waits only for the end of its stream.
    let late = world.ask("/sessions");
    assert_eq!(world.admin.connections.len(), CONNECTIONS_MAX);
    assert_eq!(late.0, asking[0].0, "the answered connection is replaced first");
    let later = world.ask("/sessions");
    assert_eq!(later.0, silent.0, "then the silent one");
    world.pass(ANSWER_INTERVAL * 20);
    assert!(asking.iter().chain([&late, &later]).all(|asker| answer(asker).starts_with("HTTP/1.1 200 OK")));
}

#[test]
fn client_that_reads_nothing_is_closed_within_a_minute() {
    let mut world = World::new();
    let stuck = world.ask("/metrics");
    stuck.1.0.borrow_mut().room = 0;
    world.pass(Duration::from_secs(60));
    assert_eq!((world.admin.connections.len(), world.closed), (0, 1));
}

#[test]
fn answered_connection_is_removed_when_it_ends_its_stream() {
    let mut world = World::new();
    let asker = world.ask("/livez");
    world.turn();
    assert!(answer(&asker).ends_with("\r\n\r\nok\n"));
    asker.1.0.borrow_mut().end();
    world.admin.handle_readiness(asker.0, Readiness { is_read_closed: true, ..Readiness::READABLE });
    world.turn();
    assert_eq!((world.admin.connections.len(), world.closed), (0, 1));
}

#[test]
fn without_connections_only_the_next_sample_is_due() {
    let mut world = World::new();
    assert_eq!(world.admin.next_deadline(), START.tick.after(Duration::from_secs(5)));
    world.admin.handle_accept_exhausted(world.now.tick);
    assert!(!world.admin.can_accept());
    assert_eq!(world.admin.next_deadline(), START.tick.after(ACCEPT_RETRY));
    world.pass(ACCEPT_RETRY);
    assert!(world.admin.can_accept());
    assert_eq!(
        world.admin.next_deadline(),
        START.tick.after(Duration::from_secs(5)),
        "the loop must not spin"
    );
}

#[test]
fn sample_counts_events_since_the_previous_sample() {
    let mut world = World::new();
    let (desktop, wire) = world.join("/desktop/abc");
    world.join("/mobile/abc");
    world.pass(Duration::from_secs(5));
    // The frame's mask is zero, so the payload is as written.
    wire.0.borrow_mut().send(&frame(TEXT, b"[1]"));
    world.relay.handle_readiness(desktop, Readiness::READABLE);
    world.relay.handle_turn(world.now);
    world.relay.handle_turn_end(world.now.micros + 80);
    world.pass(Duration::from_secs(5));
    let samples = samples(&world.body("/history"));
    let of = |index: usize, name: &str| samples[index][name].clone();
    assert_eq!(samples.len(), 2);
    assert_eq!((of(0, "messages_to_mobile"), of(1, "messages_to_mobile")), (0.into(), 1.into()));
    assert_eq!((of(0, "latency_p99"), of(1, "latency_p99")), (serde_json::Value::Null, 100.into()));
    assert_eq!((of(1, "bytes_to_mobile"), of(1, "lag_max")), (3.into(), 100.into()));
    assert_eq!(
        (of(1, "desktops"), of(1, "mobiles"), of(1, "sessions_paired")),
        (1.into(), 1.into(), 1.into())
    );
    assert_eq!((of(0, "time"), of(0, "interval_ms")), ((START.unix_millis + 5_000).into(), 5_000.into()));
    let since = format!("/history?since={}", START.unix_millis + 5_000);
    assert_eq!(self::samples(&world.body(&since)).len(), 1, "only later samples");
}

#[test]
fn history_covers_at_most_fifteen_minutes() {
    let mut world = World::new();
    world.pass(Duration::from_secs(20 * 60));
    let samples = samples(&world.body("/history"));
    let age = |index: usize| world.now.unix_millis - samples[index]["time"].as_u64().expect("a time");
    assert_eq!(samples.len(), 180);
    assert!((895_000..=900_100).contains(&age(0)) && age(179) <= 5_000, "{} {}", age(0), age(179));
}

#[test]
fn time_in_samples_does_not_jump_with_the_wall_clock() {
    let mut world = World::new();
    world.pass(Duration::from_secs(5));
    world.now.unix_millis += 3_600_000;
    let asker = world.ask("/history");
    world.turn();
    let json = answer(&asker);
    let now = format!(r#""now":{}"#, START.unix_millis + 5_000);
    assert!(json.contains(&now), "{json}");
}
