//! The documentation, one chapter for each kind of reader.
//!
//! | chapter | read it if you |
//! | --- | --- |
//! | [`clients`] | write the app that connects to the relay |
//! | [`protocol`] | need the exact rules: of a client, of an operator's tool, of a test |
//! | [`deploy`] | install the relay on a machine |
//! | [`cluster`] | need more than one machine |
//! | [`operate`] | run the relay, watch it, and look for the cause of a problem |
//! | [`security`] | decide who may use the relay and what you must protect |
//! | [`performance`] | want to know what the relay costs, and how large a machine it needs |
//! | [`reliability`] | want to know how the relay was tested, or run the tests yourself |
//! | [`embed`] | run the relay inside your own Rust program |
//!
//! The chapters are the files `src/guide/*.md`. This module exists only in the documentation and in its tests.

/// Where the links of a chapter lead in rustdoc. The files define the same names at their ends, for readers of the
/// repository. Markdown takes the first definition, so this one must come first.
macro_rules! links {
    () => {
        "[clients]: crate::guide::clients
[protocol]: crate::guide::protocol
[deploy]: crate::guide::deploy
[cluster]: crate::guide::cluster
[operate]: crate::guide::operate
[security]: crate::guide::security
[performance]: crate::guide::performance
[reliability]: crate::guide::reliability
[embed]: crate::guide::embed
"
    };
}

#[doc = links!()]
#[doc = include_str!("clients.md")]
pub mod clients {}

#[doc = links!()]
#[doc = include_str!("protocol.md")]
pub mod protocol {}

#[doc = links!()]
#[doc = include_str!("deploy.md")]
pub mod deploy {}

#[doc = links!()]
#[doc = include_str!("cluster.md")]
pub mod cluster {}

#[doc = links!()]
#[doc = include_str!("operate.md")]
pub mod operate {}

#[doc = links!()]
#[doc = include_str!("security.md")]
pub mod security {}

#[doc = links!()]
#[doc = include_str!("performance.md")]
pub mod performance {}

#[doc = links!()]
#[doc = include_str!("reliability.md")]
pub mod reliability {}

#[doc = links!()]
#[doc = include_str!("embed.md")]
pub mod embed {}
