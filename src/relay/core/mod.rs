//! [`Relay`](relay::Relay) and its parts.

mod admission;
mod catch_up;
mod drain;
mod intake;
#[cfg(debug_assertions)]
mod invariants;
mod parting;
mod pressure;
mod record;
mod relay;
mod report;
mod slots;
mod streaming;
#[cfg(test)]
mod tests;
mod turn;

pub use drain::Shutdown;
pub use relay::Relay;
pub use report::{Service, SessionReport};
