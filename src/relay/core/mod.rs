//! [`Relay`](relay::Relay) and its parts.

mod admission;
mod answers;
mod catch_up;
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
