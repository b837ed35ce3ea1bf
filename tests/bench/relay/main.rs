//! The release binary under load over loopback TCP, compared with a plain pipe that copies bytes without a relay.
//!
//!     cargo bench --bench relay -- [--quick] [--rounds N] [--secs S] [TEST …]
//!
//! The environment variable `RELAY=/path` selects another build of the relay, for example for another C library.
//! Each round starts both servers, one after the other, on a core of their own if there are two. The load comes from
//! this process on another core. Everything received is compared byte for byte, and anything unexpected fails the
//! test. The loads are closed loops, so the load itself may limit the rate. The important figures are the processor
//! time per message and its ratio to the pipe's in the same run.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads clocks")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its results go to the terminal")]
#![expect(clippy::indexing_slicing, reason = "a load that meets the unexpected stops")]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts and bytes become figures of a few digits"
)]

mod bundles;
mod cost;
mod crowd;
mod fairness;
mod frame;
mod net;
mod pipe;
mod pressure;
mod probe;
mod process;
mod table;
#[path = "../text.rs"]
mod text;

use std::cell::Cell;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use process::{Server, Spent, Subject};
use table::Figure;

/// Any reason to end a test: a damaged message, a closed connection, a file that cannot be read.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const USAGE: &str = "cargo bench --bench relay -- [--quick] [--list] [--rounds N] [--secs S] [TEST …]";
/// If other programs keep more cores busy than this, the figures are doubtful.
const OTHERS_MAX: f64 = 0.15;
/// Open files of this process, or of the relay, that are not connections of a crowd.
const FILES_RESERVED: usize = 1000;

struct Test {
    name: &'static str,
    about: &'static str,
    run: fn(&Trial) -> Result<Vec<Figure>>,
    /// What the relay is compared with.
    beside: Option<Subject>,
    is_quick: bool,
}

impl Test {
    const fn new(name: &'static str, about: &'static str, run: fn(&Trial) -> Result<Vec<Figure>>) -> Self {
        Self { name, about, run, beside: Some(Subject::Pipe), is_quick: false }
    }

    const fn quick(self) -> Self {
        Self { is_quick: true, ..self }
    }

    const fn relay_only(self) -> Self {
        Self { beside: None, ..self }
    }

    const fn beside_unconfirmed(self) -> Self {
        Self { beside: Some(Subject::Unconfirmed), ..self }
    }

    /// Whether the test has this name or belongs to this group: `flood` means all three floods.
    fn is_named(&self, name: &str) -> bool {
        self.name == name || self.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'))
    }
}

const TESTS: &[Test] = &[
    Test::new("ping-pong", "64 sessions, 128 B each way", |trial| cost::ping_pong(trial, 64)).quick(),
    Test::new("flood/128B", "1 session, 256 at a time", |trial| cost::flood(trial, 1, 128, 256)).quick(),
    Test::new("flood/1KiB", "32 sessions, 64 at a time", |trial| cost::flood(trial, 32, 1024, 64)).quick(),
    Test::new("flood/64KiB", "4 sessions, 16 at a time", |trial| cost::flood(trial, 4, 65_536, 16)).quick(),
    Test::new("bulk", "one message of 50 MB", bundles::bulk).quick(),
    Test::new("idle", "connections that do nothing", crowd::idle).quick(),
    Test::new("memory/0", "0 connections, and an unread bundle", |trial| crowd::memory(trial, 0))
        .relay_only(),
    Test::new("memory/100", "100 connections, and an unread bundle", |trial| crowd::memory(trial, 100))
        .relay_only(),
    Test::new("memory/1000", "1,000 connections, and an unread bundle", |trial| crowd::memory(trial, 1000))
        .relay_only(),
    Test::new("memory/5000", "5,000 connections, and an unread bundle", |trial| crowd::memory(trial, 5000))
        .relay_only(),
    Test::new("memory/8000", "8,000 connections, and an unread bundle", |trial| crowd::memory(trial, 8000))
        .relay_only(),
    Test::new("confirm/ping-pong", "64 sessions, 128 B each way, confirmed or not", |trial| {
        cost::ping_pong(trial, 64)
    })
    .beside_unconfirmed(),
    Test::new("confirm/128B", "1 session, 256 at a time, confirmed or not", |trial| {
        cost::flood(trial, 1, 128, 256)
    })
    .beside_unconfirmed(),
    Test::new("confirm/1KiB", "32 sessions, 64 at a time, confirmed or not", |trial| {
        cost::flood(trial, 32, 1024, 64)
    })
    .beside_unconfirmed(),
    Test::new("confirm/64KiB", "4 sessions, 16 at a time, confirmed or not", |trial| {
        cost::flood(trial, 4, 65_536, 16)
    })
    .beside_unconfirmed(),
    Test::new("confirm/bulk", "one message of 50 MB, confirmed or not", bundles::bulk).beside_unconfirmed(),
    Test::new("confirm/idle", "connections that do nothing, confirmed or not", crowd::idle)
        .beside_unconfirmed(),
    Test::new("churn", "32 sessions that come and go", |trial| crowd::churn(trial, 32)).quick(),
    Test::new("growth", "64 sessions beside up to 9,000 idle connections", crowd::growth),
    Test::new("slow-peer", "a flood of unread messages of 16 KiB", pressure::slow_peer),
    Test::new("fairness", "a pair beside a flood and 50 MB to a slow phone", fairness::fairness),
    Test::new("operator", "a pair beside operators who ask without a pause", fairness::operator).relay_only(),
    Test::new("reply-latency", "pings at 10 Mbit/s", fairness::reply_latency).relay_only(),
    Test::new("announce", "1,000 announce 16 MiB and send nothing", pressure::announce).relay_only(),
    Test::new("links", "4 × 10 MB, 20 Mbit/s up and down", bundles::links),
    Test::new("slow-bundles/64MiB", "20 × 20 MB to phones that take 4 MB/s", |trial| {
        bundles::slow_bundles(trial, "64MiB")
    }),
    Test::new("slow-bundles/16MiB", "20 × 20 MB to phones that take 4 MB/s", |trial| {
        bundles::slow_bundles(trial, "16MiB")
    }),
];

/// One run of a test with one server.
struct Trial {
    subject: Subject,
    time: Duration,
    is_quick: bool,
    /// The number of connections that the limit on open files allows.
    connections_max: usize,
    /// The number of connections used, if it is lower than wanted.
    connections_short: Cell<Option<usize>>,
    /// The most cores that other programs kept busy.
    others: Cell<f64>,
}

impl Trial {
    fn start(&self, flags: &[&str]) -> Result<Server> {
        Server::start(self.subject, flags)
    }

    fn warm_up(&self) -> Duration {
        self.time.min(Duration::from_secs(1)) / 2
    }

    /// Up to `wanted` connections, an even number.
    fn connections(&self, wanted: usize) -> usize {
        if wanted > self.connections_max {
            self.connections_short.set(Some(self.connections_max));
        }
        wanted.min(self.connections_max) / 2 * 2
    }

    fn note(&self, spent: Spent) -> Spent {
        self.others.set(self.others.get().max(spent.others));
        spent
    }
}

struct Options {
    is_quick: bool,
    rounds: usize,
    time: Duration,
    tests: Vec<&'static Test>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == pipe::PIPE_FLAG) {
        return match pipe::run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.to_string(), 1),
        };
    }
    if arguments.iter().any(|argument| argument == "--list") {
        for test in TESTS {
            println!("{:<19} {}", test.name, test.about);
        }
        return ExitCode::SUCCESS;
    }
    let options = match options(arguments) {
        Ok(options) => options,
        Err(error) => return fail(&format!("{error}; {USAGE}"), 2),
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(&error.to_string(), 1),
    }
}

fn fail(sentence: &str, code: u8) -> ExitCode {
    eprintln!("relay benchmark: {sentence}");
    ExitCode::from(code)
}

fn options(arguments: Vec<String>) -> Result<Options> {
    let (mut is_quick, mut rounds, mut seconds, mut names) = (false, None, None, Vec::new());
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => is_quick = true,
            // Cargo adds this.
            "--bench" => {}
            "--rounds" => rounds = Some(arguments.next().ok_or("--rounds needs a number")?.parse::<usize>()?),
            "--secs" => seconds = Some(arguments.next().ok_or("--secs needs a number")?.parse::<f64>()?),
            _ if argument.starts_with('-') => return Err(format!("{argument} is no option").into()),
            _ => names.push(argument),
        }
    }
    let is_chosen = |test: &&Test| match names.as_slice() {
        [] => !is_quick || test.is_quick,
        names => names.iter().any(|name| test.is_named(name)),
    };
    if let Some(name) = names.iter().find(|name| !TESTS.iter().any(|test| test.is_named(name))) {
        return Err(format!("{name} is no test").into());
    }
    Ok(Options {
        is_quick,
        rounds: rounds.unwrap_or(if is_quick { 2 } else { 3 }).max(1),
        time: Duration::try_from_secs_f64(seconds.unwrap_or(if is_quick { 0.6 } else { 3.0 }))?,
        tests: TESTS.iter().filter(is_chosen).collect(),
    })
}

/// Runs the chosen tests. Returns whether all of them were completed.
fn run(options: &Options) -> Result<bool> {
    apptuner_relay::raise_file_limit()?;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let files = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let connections_max = files.saturating_sub(FILES_RESERVED);
    println!(
        "{} rounds of {:.1} s; {}; at most {files} open files",
        options.rounds,
        options.time.as_secs_f64(),
        if process::core::pin_self()? {
            "load and server have a core each"
        } else {
            "load and server share their cores"
        }
    );
    let mut are_all_well = true;
    for test in &options.tests {
        let mut trial = Trial {
            subject: Subject::Relay,
            time: options.time,
            is_quick: options.is_quick,
            connections_max,
            connections_short: Cell::new(None),
            others: Cell::new(0.0),
        };
        if let Err(error) = run_test(test, &mut trial, options.rounds) {
            are_all_well = false;
            println!("\n{}: {:?} failed: {error}", test.name, trial.subject);
        }
    }
    Ok(are_all_well)
}

/// Runs the relay and what it is compared with in turn, so that both run under the same conditions.
fn run_test(test: &Test, trial: &mut Trial, rounds: usize) -> Result<()> {
    let is_watched = std::io::stderr().is_terminal();
    let (mut relay, mut other) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        if is_watched {
            eprint!("\r{}, round {} of {rounds}  ", test.name, round + 1);
        }
        trial.subject = Subject::Relay;
        relay.push((test.run)(trial)?);
        if let Some(subject) = test.beside {
            trial.subject = subject;
            other.push((test.run)(trial)?);
        }
    }
    if is_watched {
        eprint!("\r{:40}\r", "");
    }
    let title = if test.beside == Some(Subject::Unconfirmed) { "0s" } else { "pipe" };
    table::print(&format!("{}: {}", test.name, test.about), &relay, (title, &other));
    if let Some(connections) = trial.connections_short.get() {
        println!("  * no more than {connections} connections: the limit on open files is too low");
    }
    if trial.others.get() > OTHERS_MAX {
        println!("  * other programs kept up to {:.2} cores busy meanwhile", trial.others.get());
    }
    Ok(())
}
