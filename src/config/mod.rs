//! What an operator can set: a checked [`Config`], built in code or read from flags and environment.
//!
//! Nothing here reads the arguments and variables of the process, prints or exits: [`Config::from_args_and_env`] takes
//! them as arguments and returns a value. The one thing read from the system is the number of a network interface that
//! an address names. One table, in `options`, lists every option once; parsing, variables, bounds and help are derived
//! from it.
//!
//! Each row may use only the rows above it. `tests/house.rs` checks it.
//!
//! | module | its one job |
//! | --- | --- |
//! | `bounds` | every bound, with its unit and its reason |
//! | `naming` | the names of settings in errors and log lines |
//! | `error` | the error for a setting, in one line |
//! | `format`, `units` | writing sizes; reading sizes, durations and numbers |
//! | `socket_address`, `listen_address` | addresses to listen on |
//! | `settings` | [`Config`] and its defaults; the defaults of the engine are in `relay::settings` |
//! | `table`, `options` | what an option is; the table of all options |
//! | `validate` | the checks that every configuration must pass |
//! | `values` | from the text of an option to its value |
//! | `health_url` | the argument of the health check |
//! | `habits` | options of other programs, to suggest ours for them |
//! | `help`, `parse` | the help; the whole command line |

mod bounds;
mod error;
mod format;
#[cfg(feature = "cli")]
mod habits;
#[cfg(feature = "cli")]
mod health_url;
#[cfg(feature = "cli")]
mod help;
mod listen_address;
mod naming;
mod options;
#[cfg(feature = "cli")]
mod parse;
mod settings;
#[cfg(feature = "cli")]
mod socket_address;
mod table;
#[cfg(test)]
#[cfg(feature = "cli")]
mod tests;
#[cfg(feature = "cli")]
mod units;
mod validate;
#[cfg(feature = "cli")]
mod values;

pub(crate) use bounds::LISTENERS_MAX;
pub use error::ConfigError;
#[cfg(feature = "cli")]
pub use health_url::{HealthCheck, HealthUrl};
#[cfg(feature = "cli")]
pub use help::{VERSION, help};
pub use listen_address::ListenAddress;
pub(crate) use listen_address::write_path;
pub(crate) use naming::Naming;
pub use naming::SettingName;
#[cfg(feature = "cli")]
pub use parse::Command;
pub use settings::{Config, LogFormat, TlsFiles};
