//! What unit tests of several modules share; some of it also serves `tests/`, `fuzz/` and the benchmarks.

pub(crate) mod frame;
pub(crate) mod random;
