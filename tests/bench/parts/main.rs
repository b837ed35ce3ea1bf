//! Measures the parts of the relay alone, and whether their cost grows with the number of entries.
//!
//! `cargo bench --bench parts` measures times with criterion and prints the growth of each part at the end.
//! `parts --once PART SIZE N` only runs N operations, so that `tests/bench/instructions` can count instructions.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads clocks")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its results go to the terminal")]

#[path = "../../../src/relay/tests/frame.rs"]
mod frame;
mod growth;
mod message;
#[path = "../text.rs"]
mod text;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};

/// Runs the given number of operations on a prepared state.
type Operations = Box<dyn FnMut(u64)>;

/// One operation of one part, measured at several sizes.
struct Part {
    name: &'static str,
    sizes: &'static [usize],
    kind: Kind,
    prepare: fn(usize) -> Operations,
}

/// The meaning of a [`Part`]'s size.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Bytes that the operation processes.
    Bytes,
    /// Items that one operation handles together. The cost is per item.
    Count,
    /// Entries that the part holds. They must not change the cost.
    Entries,
}

/// Shorter samples are criterion's first steps during the warm-up.
const SAMPLE_MIN: Duration = Duration::from_micros(100);

/// Nanoseconds per operation of a part at one size.
struct Measured {
    part: &'static str,
    nanos: f64,
}

fn main() -> ExitCode {
    let parts: Vec<&Part> = message::PARTS.iter().chain(growth::PARTS).collect();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, rest @ ..] = arguments.as_slice()
        && flag == "--once"
    {
        return run_once(&parts, rest);
    }
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(40)
        .configure_from_args();
    let mut all_measured = Vec::new();
    for part in &parts {
        measure(part, &mut criterion, &mut all_measured);
    }
    criterion.final_summary();
    print_growth(&all_measured);
    ExitCode::SUCCESS
}

fn measure(part: &Part, criterion: &mut Criterion, all_measured: &mut Vec<Measured>) {
    let mut group = criterion.benchmark_group(part.name);
    for &size in part.sizes {
        if part.kind == Kind::Bytes {
            group.throughput(Throughput::Bytes(size as u64));
        }
        let mut samples = Vec::new();
        // Not inside the closure, where this time would count.
        let mut operations = (part.prepare)(size);
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter_custom(|count| {
                let start = Instant::now();
                operations(count);
                let elapsed = start.elapsed();
                if elapsed >= SAMPLE_MIN {
                    samples.push(nanos_per_operation(elapsed, count));
                }
                elapsed
            });
        });
        samples.sort_by(f64::total_cmp);
        if part.kind == Kind::Entries
            && let Some(&nanos) = samples.get(samples.len() / 2)
        {
            all_measured.push(Measured { part: part.name, nanos });
        }
    }
    group.finish();
}

#[expect(clippy::cast_precision_loss, reason = "a count of operations is far below 2^52")]
fn nanos_per_operation(elapsed: Duration, count: u64) -> f64 {
    elapsed.as_secs_f64() * 1e9 / count as f64
}

/// Prints a table that shows whether time per operation grows with the number of entries.
fn print_growth(all_measured: &[Measured]) {
    let rows: Vec<&[Measured]> = all_measured
        .chunk_by(|one, other| one.part == other.part)
        .filter(|row| row.len() == growth::SIZES.len())
        .collect();
    if rows.is_empty() {
        return;
    }
    println!("{:<24} {:>10} {:>10} {:>10} {:>7}", "ns per operation at", "10^2", "10^4", "10^6", "ratio");
    for row in rows {
        if let [small, medium, large] = row {
            let ratio = large.nanos / small.nanos;
            let [small, medium, large] = [small.nanos, medium.nanos, large.nanos];
            println!("{:<24} {small:>10.1} {medium:>10.1} {large:>10.1} {ratio:>7.2}", row_name(row));
        }
    }
    println!(
        "\nThe ratio is the last to the first. 10^2 entries fit the fastest cache, 10^6 entries none: an operation\n\
         that picks any of them waits for memory several times. Those named `hot` work on the same hundred of\n\
         them, and tests/bench/instructions counts instructions: both leave the caches out."
    );
}

fn row_name(row: &[Measured]) -> &str {
    row.first().map_or("", |measured| measured.part)
}

/// `--once PART SIZE N`: prepares, runs N operations and prints nothing. `--once list` prints all parts and sizes.
fn run_once(parts: &[&Part], arguments: &[String]) -> ExitCode {
    if let [list] = arguments
        && list == "list"
    {
        for part in parts {
            for size in part.sizes {
                println!("{} {size}", part.name);
            }
        }
        return ExitCode::SUCCESS;
    }
    if let [name, size, count] = arguments
        && let Some(part) = parts.iter().find(|part| part.name == name)
        && let (Ok(size), Ok(count)) = (size.parse(), count.parse())
    {
        (part.prepare)(size)(count);
        return ExitCode::SUCCESS;
    }
    eprintln!("--once list, or --once PART SIZE OPERATIONS");
    ExitCode::FAILURE
}
