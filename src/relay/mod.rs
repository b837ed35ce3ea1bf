//! The engine.

pub mod ids;
pub mod limits;
pub mod time;
