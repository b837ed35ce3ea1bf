//! What unit tests of several modules share; some of it also serves `tests/`, `fuzz/` and the benchmarks.

use super::readiness::Readiness;

pub(crate) mod frame;
pub(crate) mod random;
pub(crate) mod stream;
