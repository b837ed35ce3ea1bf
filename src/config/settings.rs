//! What an operator can set of the server, with the contract's defaults.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::bounds::DEFAULT_PORT;
use super::listen_address::ListenAddress;
use crate::relay::Settings;
use crate::relay::access::secret::Secret;

/// Everything an operator may set. [`Default`] gives the contract's defaults; name what differs, and take the rest from
/// there, for there will be more.
///
/// [`Server::bind`](crate::Server::bind) checks it, and [`validate`](Self::validate) does only that.
///
/// ```
/// # use apptuner_relay::Config;
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
    /// How the program writes its log. Default: as text. A host has its own way: the server hands records to the crate
    /// `log` in any case.
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

impl LogFormat {
    /// The word for it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}
