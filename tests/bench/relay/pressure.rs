//! Clients that test the relay's limits: one that does not read, and many that announce messages and do not send them.

use std::time::Duration;

use crate::frame::{TEXT, Template, frame_header, number};
use crate::net::{Ignore, Net};
use crate::probe::{Latencies, SlowReader, Watched};
use crate::process::Span;
use crate::table::Figure;
use crate::{Result, Trial};

/// Time in which only the watched pair is active.
const QUIET: Duration = Duration::from_millis(1500);

/// A desktop floods a mobile that never reads.
pub(crate) fn slow_peer(trial: &Trial) -> Result<Vec<Figure>> {
    const MESSAGE_BYTES: usize = 16 * 1024;
    /// At most this much is sent to a relay that does not hold back.
    const TAKEN_MAX: u64 = 1_000_000_000;
    let server = trial.start(&[])?;
    let mut net = Net::new(&server)?;
    net.open_pairs(2, Some(SlowReader::RECEIVE_BUFFER))?;
    let (desktop, mobile) = (2, 3);
    let mut watched = Watched::new(Ignore);
    let quiet = watched.watch(&mut net, QUIET, |_, _| Ok(false))?;
    net.clients.hold(mobile);
    let resident = server.resident_bytes()?;
    let taken = net.clients.taken_bytes(desktop);
    let template = Template::new(MESSAGE_BYTES);
    let mut count = 0;
    let span = Span::start(&server)?;
    let busy = watched.watch(&mut net, trial.time, |net, _| {
        let is_taken = net.clients.pending_bytes(desktop) == 0;
        let is_over = net.clients.taken_bytes(desktop) - taken > TAKEN_MAX;
        if is_taken && !is_over {
            for _ in 0..16 {
                net.clients.send(desktop, |out| template.write(number(1, count), out));
                count += 1;
            }
        }
        Ok(is_taken && !is_over)
    })?;
    trial.note(span.stop()?);
    let taken = net.clients.taken_bytes(desktop) - taken;
    let mut figures = vec![
        Figure::mib("taken of the flood, kernel included, MiB", taken as f64),
        Figure::mib("peak RSS, MiB", server.peak_bytes()?),
        Figure::mib("RSS before, MiB", resident),
    ];
    figures.extend(comparison(&quiet, &busy));
    Ok(figures)
}

/// The difference that another pair notices.
pub(crate) fn comparison(quiet: &Latencies, busy: &Latencies) -> [Figure; 6] {
    [
        Figure::new("another pair's p50 before, ms", 3, quiet.percentile(50)),
        Figure::new("p50 during, ms", 3, busy.percentile(50)),
        Figure::new("p99 before, ms", 3, quiet.percentile(99)),
        Figure::new("p99 during, ms", 3, busy.percentile(99)),
        Figure::new("worst during, ms", 3, busy.percentile(100)),
        Figure::new("p99 during, to before", 2, busy.percentile(99) / quiet.percentile(99)),
    ]
}

/// A thousand clients announce a large message each and send nothing of it.
pub(crate) fn announce(trial: &Trial) -> Result<Vec<Figure>> {
    const CONNECTIONS: usize = 1000;
    const ANNOUNCED_BYTES: u64 = 16 * 1024 * 1024;
    let server = trial.start(&[])?;
    let connections = trial.connections(CONNECTIONS);
    let mut net = Net::with_pairs(&server, 1 + connections / 2)?;
    let mut watched = Watched::new(Ignore);
    let quiet = watched.watch(&mut net, QUIET, |_, _| Ok(false))?;
    let resident = server.resident_bytes()?;
    let span = Span::start(&server)?;
    for id in 2..net.clients.len() {
        net.clients.send(id, |out| out.extend(frame_header(TEXT, ANNOUNCED_BYTES)));
    }
    let busy = watched.watch(&mut net, trial.time, |_, _| Ok(false))?;
    trial.note(span.stop()?);
    let mut figures = vec![
        Figure::mib("RSS growth, MiB", server.resident_bytes()? - resident),
        Figure::mib("peak RSS, MiB", server.peak_bytes()?),
        Figure::new("connections that announce", 0, connections as f64),
    ];
    figures.extend(comparison(&quiet, &busy));
    Ok(figures)
}
