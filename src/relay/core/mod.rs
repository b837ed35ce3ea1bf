//! [`Relay`](relay::Relay) and its parts. Each file may call and import only the files above it; `tests/house.rs`
//! checks it.
//!
//! | file | its one job |
//! | --- | --- |
//! | `slots` | the slab of connections |
//! | `catch_up` | up to which time everything has been read |
//! | `drain_plan` | when a shutdown closes each session |
//! | `relay` | the fields of `Relay`, and what a host can ask |
//! | `schedule` | what is looked at next: connections to serve and to flush, timers |
//! | `record` | counters and log lines |
//! | `answers` | what the relay itself sends to a client |
//! | `admission` | connections that are let in or turned away, before their request |
//! | `delivery` | confirmation; what is kept for clients that are away or did not confirm, and when it is given up |
//! | `parting` | ends: closes, cuts, losses, and who is told |
//! | `pressure` | notes which clients `client::connection::backpressure` holds, and keeps the memory account |
//! | `joining` | joins, replacements and their limit (429), issued sessions |
//! | `routing` | application messages |
//! | `drain` | the shutdown: which session is closed in which order |
//! | `intake` | what a read brought: heads and frames |
//! | `flushing` | writes |
//! | `timeouts` | timers that fire: pings, silence, idle sessions |
//! | `invariants` | what must hold between two inputs |
//! | `turn` | one turn |
//! | `inputs` | everything else that a host reports |
//! | `report` | what an operator may see |

mod admission;
mod answers;
mod catch_up;
mod delivery;
mod drain;
mod drain_plan;
mod flushing;
mod inputs;
mod intake;
#[cfg(debug_assertions)]
mod invariants;
mod joining;
mod parting;
mod pressure;
mod record;
mod relay;
mod report;
mod routing;
mod schedule;
mod slots;
#[cfg(test)]
mod tests;
mod timeouts;
mod turn;

pub use drain_plan::Shutdown;
pub use relay::Relay;
pub use report::{Service, SessionReport};
