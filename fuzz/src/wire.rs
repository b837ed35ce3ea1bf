//! Both directions of one connection, in memory.

use apptuner_relay::relay::Readiness;

pub(crate) use stream::{Stream, Wire};

#[path = "../../src/relay/tests/stream.rs"]
mod stream;
