//! Flags and environment in, a checked [`Config`] out.
//!
//! Nothing here reads the process, prints or exits: arguments and variables are handed to
//! [`Config::from_args_and_env`], and what comes back is a value. The system is asked for one thing, the number
//! of a network interface that an address names. One table, in `options`, names every
//! option once; parsing, variables, bounds and help all follow from it.

mod error;
mod habits;
mod health_url;
mod help;
mod listen_address;
mod options;
mod parse;
mod socket_address;
mod table;
#[cfg(test)]
mod tests;
mod units;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::relay::Settings;
use crate::relay::access::secret::Secret;
use crate::relay::limits::SESSIONS_PER_CONNECTION;

pub use error::ConfigError;
pub use health_url::{HealthCheck, HealthUrl};
pub use help::{VERSION, help};
pub use listen_address::ListenAddress;
pub(crate) use listen_address::write_path;
pub use units::format_size;

/// The port listened on by default.
pub const DEFAULT_PORT: u16 = 8787;
/// Longest duration of any setting: long enough to mean never, far too short for a deadline to overflow.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Largest `max_message_size`, in bytes: a message is one piece of memory, and this much of it can
/// be had, and counted in 32 bits, everywhere.
pub const MESSAGE_SIZE_MAX: usize = 1024 * 1024 * 1024;
/// Largest `max_buffered`, in bytes: more memory than machines have, and no sum of it overflows.
pub const BUFFERED_MAX: usize = if usize::BITS >= 64 { 1 << 40 } else { 1 << 30 };
/// Largest `max_connections`: ten times the files that Linux lets one process open, unless told otherwise.
pub const CONNECTIONS_MAX: usize = 10_000_000;
/// Largest `max_byte_rate`, in bytes per second: a client on a 10 Gbit/s network comes near it, and a
/// limit above what can be reached is none.
pub const BYTE_RATE_MAX: u64 = 1024 * 1024 * 1024;

/// Most addresses to listen on.
pub const LISTENERS_MAX: usize = 64;

const _: () = assert!(MESSAGE_SIZE_MAX <= u32::MAX as usize);
const _: () = assert!(CONNECTIONS_MAX <= u32::MAX as usize / SESSIONS_PER_CONNECTION);

/// Everything an operator may set. [`Default`] gives the contract's defaults.
///
/// A configuration built in code has not been checked: call [`validate`](Self::validate).
///
/// ```
/// # use apptuner_relay::config::Config;
/// let config = Config { listen: vec![([127, 0, 0, 1], 0).into()], ..Config::default() };
/// assert_eq!(config.validate(), Ok(()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Addresses to accept connections on, at least one. Default: `127.0.0.1:8787`.
    pub listen: Vec<ListenAddress>,
    /// The files for TLS, both or none. Default: none, and so no TLS.
    pub tls: TlsFiles,
    /// Where the operator's listener is: metrics, probes, a status page. Default: nowhere. What others than this
    /// machine can reach needs [`admin_token`](Self::admin_token).
    pub admin: Option<ListenAddress>,
    /// What the operator's listener takes for most of its pages. Default: nothing.
    pub admin_token: Option<Secret>,
    /// How log records are written. Default: as text.
    pub log_format: LogFormat,
    /// How long a clean stop may take, from the signal to the exit. Default: 10 s.
    pub shutdown_grace: Duration,
    /// Names and API keys of those who may begin sessions; see [`ApiKeys`](crate::relay::ApiKeys).
    /// Without it anybody may.
    pub api_keys: Option<PathBuf>,
    /// Rules beside those of [`Settings::allow`] and [`Settings::deny`]; see
    /// [`AddressRules`](crate::relay::AddressRules).
    pub address_rules: Option<PathBuf>,
    /// What the engine is told. Without `max_connections` it is derived from the limit on open files
    /// when the listeners are bound.
    pub relay: Settings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)).into()],
            tls: TlsFiles::default(),
            admin: None,
            admin_token: None,
            log_format: LogFormat::Text,
            shutdown_grace: Duration::from_secs(10),
            api_keys: None,
            address_rules: None,
            relay: Settings::default(),
        }
    }
}

/// Where the certificate is that the relay proves itself with, and the key to it. Of use only in a
/// build with the feature `tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// A PEM file of the certificate, the server's own first, then those that lead up to its authority.
    pub cert: Option<PathBuf>,
    /// A PEM file of its private key.
    pub key: Option<PathBuf>,
}

/// How log records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A line that is a JSON object.
    Json,
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one of them, at the start")]
pub enum Command {
    /// Run the relay with this configuration, which is valid.
    Run(Config),
    /// Ask a relay whether it is healthy, and tell by the exit code.
    Health(HealthCheck),
    /// Print [`help()`] and stop.
    Help,
    /// Print [`VERSION`] and stop.
    Version,
}

impl Config {
    /// Reads the arguments, without the program's name, and the environment.
    ///
    /// A flag wins over its variable, whose value is then not looked at. `--help` and `--version`
    /// win over every wrong value, and over whatever stands behind them.
    pub fn from_args_and_env(
        args: impl IntoIterator<Item = OsString>,
        env: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Command, ConfigError> {
        parse::command(args, env)
    }

    /// Checks every setting against its bounds; the first that is out of them is the error.
    ///
    /// No relation between two timeouts is refused. Whichever ends first acts, and a timeout made
    /// short must not force the operator to shorten the others.
    pub fn validate(&self) -> Result<(), ConfigError> {
        table::check_all(self)
    }
}
