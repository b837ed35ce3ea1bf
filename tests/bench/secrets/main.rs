//! Checks whether the time of a refusal reveals anything about a secret.
//!
//!     cargo bench --bench secrets -- [SAMPLES]
//!
//! Requests that are refused in the same way are given to one relay in random order, without sockets. The times from
//! request to answer are compared by Welch's t-test, as dudect does: beyond 4.5 they differ. The slowest tenth of each
//! kind is left out, because it mostly shows interrupts.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads clocks")]
#![expect(clippy::print_stdout, reason = "its results go to the terminal")]
#![expect(clippy::cast_precision_loss, reason = "nanoseconds and counts are far below 2^52")]

use std::time::Instant;

use apptuner_relay::relay::{ApiKeys, Now, Readiness, Relay, Settings};

use stream::Wire;

#[path = "../../../src/relay/tests/stream.rs"]
mod stream;

const SAMPLES: usize = 200_000;
/// Beyond this value two sets of times differ.
const T_MAX: f64 = 4.5;
const KEY: &str = "0123456789abcdef0123456789abcdef";
const SECRET: &str = "correct-horse-battery-staple";

/// Kinds of requests: a name and the target.
const KINDS: [(&str, &str); 5] = [
    ("the first byte wrong", "/mobile/claimed?secret=Xorrect-horse-battery-staple"),
    ("the last byte wrong", "/mobile/claimed?secret=correct-horse-battery-staplX"),
    ("no such session", "/mobile/nowhere?secret=correct-horse-battery-staplX"),
    ("no secret", "/mobile/claimed"),
    ("no secret, no such session", "/mobile/nowhere"),
];
/// Pairs of kinds whose times must not differ.
const PAIRS: [(usize, usize); 4] = [(0, 1), (0, 2), (1, 2), (3, 4)];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let samples = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(SAMPLES);
    // With API keys, a mobile that joins a session that does not exist is refused, too.
    let settings = Settings { max_failed_joins: None, ..Settings::default() };
    let mut relay = Relay::new(settings, [7, 11], Now::default());
    relay.set_api_keys(ApiKeys::parse(&format!("bench {KEY}")).expect("the keys are well-formed"));
    let accepted = ask(&mut relay, &format!("/desktop/claimed?secret={SECRET}"));
    assert_eq!(accepted.0, "101", "the session is claimed");

    let mut times: [Vec<f64>; KINDS.len()] = Default::default();
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    for round in 0..samples * KINDS.len() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let index = usize::try_from(state >> 33).unwrap_or(0) % KINDS.len();
        let (Some((_, target)), Some(times)) = (KINDS.get(index), times.get_mut(index)) else { continue };
        let (status, nanos) = ask(&mut relay, target);
        assert_eq!(status, "403", "{target}");
        // The first rounds have cold caches.
        if round > 10_000 {
            times.push(nanos);
        }
    }
    for ((name, _), times) in KINDS.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        times.truncate(times.len() * 9 / 10);
        let (mean, _) = mean_and_variance(times);
        println!("{name:<28} {:>8} samples, {mean:>8.1} ns on average", times.len());
    }
    for (one, other) in PAIRS {
        let (Some(first), Some(second)) = (times.get(one), times.get(other)) else { continue };
        let t = welch(first, second);
        let difference = mean_and_variance(first).0 - mean_and_variance(second).0;
        let verdict = if t.abs() < T_MAX { "nothing to tell" } else { "they differ" };
        let [one, other] = [one, other].map(|index| KINDS.get(index).map_or("", |kind| kind.0));
        println!("{one} / {other}: {difference:+.1} ns, t = {t:.2}, {verdict}");
    }
}

/// Sends one request. Returns the status and the time to the answer in nanoseconds. A refused client leaves.
fn ask(relay: &mut Relay<Wire>, target: &str) -> (String, f64) {
    let line = if target.starts_with("/desktop") {
        format!("Authorization: Bearer {KEY}\r\n")
    } else {
        String::new()
    };
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{line}\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let now = Now::default();
    let client = Wire { from_relay: Vec::with_capacity(1024), ..Wire::sending(request.as_bytes()) };
    let id = relay.handle_accept(client, ([127, 0, 0, 1], 4000).into(), now);
    relay.handle_readiness(id, Readiness::READABLE);
    let start = Instant::now();
    relay.handle_turn(now);
    let nanos = start.elapsed().as_secs_f64() * 1e9;
    let answer = relay.stream(id).map(|stream| stream.received().to_vec()).unwrap_or_default();
    let status = String::from_utf8_lossy(answer.get(9..12).unwrap_or_default()).into_owned();
    if status != "101" {
        relay.handle_readiness(id, Readiness { is_failed: true, ..Readiness::default() });
        relay.handle_turn(now);
    }
    while relay.poll_effect().is_some() {}
    (status, nanos)
}

fn mean_and_variance(samples: &[f64]) -> (f64, f64) {
    let count = samples.len() as f64;
    let mean = samples.iter().sum::<f64>() / count;
    let squares: f64 = samples.iter().map(|sample| (sample - mean).powi(2)).sum();
    (mean, squares / (count - 1.0))
}

/// Welch's t of two sets of samples.
fn welch(one: &[f64], other: &[f64]) -> f64 {
    let ((mean, variance), (other_mean, other_variance)) = (mean_and_variance(one), mean_and_variance(other));
    let error = variance / one.len() as f64 + other_variance / other.len() as f64;
    (mean - other_mean) / error.sqrt()
}
