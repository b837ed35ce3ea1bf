//! The whole relay under simulated faults: the same code as in the binary, with clients and a network that follow from
//! a seed, on a clock that the test moves.
//!
//! In half of the runs messages are kept until they are confirmed, and clients answer pings in different ways, go away
//! and come back. In the others a message counts as delivered once it is written.
//!
//! In many runs some sessions are claimed, and strangers try to join them. If strangers share no place, memory or
//! address with members, the run is repeated without strangers: members must see the same, byte for byte.
//!
//! `RELAY_SIM_SEEDS=1000000 cargo test --profile simulation --test simulation` runs that many seeds, beginning with
//! `RELAY_SIM_FROM`. `RELAY_SIM_SEED=17 cargo test --test simulation` runs one, with a transcript if it fails.

#![expect(
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test that meets the unexpected fails by panicking"
)]
#![expect(unreachable_pub, reason = "modules of a test have no other users")]

mod cases;
mod client;
#[path = "../../src/relay/tests/frame.rs"]
mod frame;
mod journal;
mod model;
mod motion;
mod plan;
mod random;
mod reader;
mod shrink;
mod totals;
mod transcript;
mod visit;
mod wire;
mod world;

use std::env;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use plan::Plan;
use shrink::shrink;
use world::{Failure, Report, check, run};

/// The number of seeds in a plain `cargo test`.
const SEEDS: u64 = 2_000;
/// Lines that are shown of a failing run's transcript.
const TRANSCRIPT_LINES: usize = 60;

#[test]
#[expect(clippy::disallowed_methods, reason = "how fast it ran is reported, and nothing else")]
fn every_seed_keeps_the_contract() {
    let started = std::time::Instant::now();
    let (from, count) = variable("RELAY_SIM_SEED").map_or_else(
        || (variable("RELAY_SIM_FROM").unwrap_or(0), variable("RELAY_SIM_SEEDS").unwrap_or(SEEDS)),
        |seed| (seed, 1),
    );
    let reports = run_seeds(from, from + count);
    let (seeds, total) = reports.unwrap_or_else(|failure| panic!("{failure}"));
    let hours = total.simulated_millis / 3_600_000;
    let seconds = started.elapsed().as_secs_f64();
    // Unlike `println!`, this is also shown if the test passes.
    let _ = writeln!(
        io::stderr(),
        "{seeds} seeds: {hours} simulated hours, {} turns, {} messages delivered, {} begun before they were whole ({} \
         early), {} cut short in {} seeds, {} lost with a replaced receiver, memory short in {} seeds, \
         in {seconds:.1} s, {:.0} simulated hours per second",
        total.turns,
        total.messages_delivered,
        total.cut_through,
        total.released_early,
        total.cut_short,
        total.runs_with_cuts,
        total.lost,
        total.runs_starved,
        hours as f64 / seconds,
    );
    let _ = writeln!(
        io::stderr(),
        "{} messages confirmed, {} kept for a receiver that was away, {} sent again, {} given up, {} freed early, {} of \
         receivers that were away, {} clients that confirm nothing",
        total.confirmed,
        total.kept_for_absent,
        total.redelivered,
        total.given_up,
        total.freed,
        total.evicted,
        total.unasked,
    );
    let _ = writeln!(
        io::stderr(),
        "{} strangers in {} seeds ({} let in), {} seeds without them, claimed sessions in {}, issued ones in {}, \
         {} refused without a secret or key, {} for their address, {} for a place that changes hands too often, \
         lock-outs in {} seeds",
        total.strangers,
        total.runs_with_strangers,
        total.strangers_joined,
        total.compared,
        total.runs_with_claims,
        total.runs_with_issues,
        total.unproven,
        total.turned_away,
        total.contested,
        total.runs_with_lock_outs,
    );
    let _ = writeln!(
        io::stderr(),
        "{} shutdowns of several sessions, {} sessions closed later than at once, {} messages accepted meanwhile",
        total.shutdowns,
        total.closed_later,
        total.accepted_meanwhile,
    );
}

#[test]
fn same_seed_gives_the_same_transcript_with_any_hash_key() {
    for seed in 0..60 {
        let plan = Plan::from_seed(seed);
        let keyed_otherwise = Plan { hash_seed: [1, 2], ..plan.clone() };
        let reports =
            [run(&plan, false), run(&keyed_otherwise, true)].map(|run| run.expect("runs with every seed"));
        assert_eq!(reports[0], reports[1], "seed {seed}");
        assert_ne!(reports[0].transcript, run(&Plan::from_seed(seed + 1), false).unwrap().transcript);
    }
}

fn variable(name: &str) -> Option<u64> {
    let value = env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {value:?}")))
}

/// Runs seeds on all processors. The lowest failing seed is reported.
fn run_seeds(start: u64, end: u64) -> Result<(u64, Report), String> {
    let next = AtomicU64::new(start);
    let failed = AtomicU64::new(u64::MAX);
    let work = || {
        let mut total = Report::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end || failed.load(Ordering::Relaxed) < seed {
                return total;
            }
            match check(&Plan::from_seed(seed), false) {
                Ok(report) => {
                    total.add(&report);
                }
                Err(_) => {
                    failed.fetch_min(seed, Ordering::Relaxed);
                }
            }
        }
    };
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let reports: Vec<Report> = thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("failures are caught")).collect()
    });
    let failed = failed.into_inner();
    let result = if failed == u64::MAX {
        let mut total = Report::default();
        for report in reports {
            total.add(&report);
        }
        Ok((end - start, total))
    } else {
        Err(explain(failed))
    };
    std::panic::set_hook(quiet);
    result
}

/// Everything that helps to understand why a seed fails.
fn explain(seed: u64) -> String {
    let plan = Plan::from_seed(seed);
    let Err(failure) = check(&plan, true) else { return format!("seed {seed} fails only now and then") };
    let first = failure.why.clone();
    let (plan, Failure { why, transcript, .. }) = shrink(&plan, failure);
    let mut text = format!("seed {seed} fails: {first}\n");
    let _ = writeln!(text, "replay: RELAY_SIM_SEED={seed} cargo test --test simulation");
    let _ = writeln!(text, "shrunk to {} steps, which fail so: {why}", plan.steps.len());
    let _ = writeln!(text, "{:?}", plan.settings);
    if plan.has_keys {
        text.push_str("API keys are needed\n");
    }
    for step in &plan.steps {
        let _ = writeln!(text, "  {step:?}");
    }
    let _ = writeln!(text, "the end of its transcript, in milliseconds:");
    for line in transcript.iter().skip(transcript.len().saturating_sub(TRANSCRIPT_LINES)) {
        let _ = writeln!(text, "{line}");
    }
    text
}
