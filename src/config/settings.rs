//! The server's settings, with the contract's defaults.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::bounds::DEFAULT_PORT;
use super::listen_address::ListenAddress;
use crate::relay::Settings;
use crate::relay::access::secret::Secret;

/// All settings. [`Default`] gives the contract's defaults. Set only the fields that differ and take the rest from
/// `Config::default()`, because later versions add fields.
///
/// [`Server::bind`](crate::Server::bind) checks a configuration; [`validate`](Self::validate) only checks it.
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
    /// The files for TLS, both or none. Default: none, so no TLS.
    pub tls: TlsFiles,
    /// The address of the operator's listener, which serves metrics, probes and a status page. Default: none. An
    /// address that other machines can reach needs an [`admin_token`](Self::admin_token).
    pub admin: Option<ListenAddress>,
    /// The token that most pages of the operator's listener need. Default: none.
    pub admin_token: Option<Secret>,
    /// The format of the program's log. Default: text. It has no effect in other hosts: the server passes records to
    /// the crate `log`, and the host decides how to write them.
    pub log_format: LogFormat,
    /// How long a clean stop may take, from the request to the end of the last connection. Default: 10 s.
    pub shutdown_grace: Duration,
    /// A file of names and API keys. Only a client with one of the keys can begin a session; see
    /// [`ApiKeys`](crate::relay::ApiKeys). Default: none, so no key is needed.
    pub api_keys: Option<PathBuf>,
    /// A file of rules in addition to [`Settings::allow`] and [`Settings::deny`]; see
    /// [`AddressRules`](crate::relay::AddressRules). Default: none.
    pub address_rules: Option<PathBuf>,
    /// The settings of the relay itself. If `max_connections` is `None`, [`Server::bind`](crate::Server::bind) derives
    /// it from the limit on open files.
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

/// The paths of the relay's certificate and its key. They need a build with the feature `tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// A PEM file of the certificate chain: the server's own certificate first, then the intermediate ones.
    pub cert: Option<PathBuf>,
    /// A PEM file of the certificate's private key.
    pub key: Option<PathBuf>,
}

/// The format of log records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of plain text per record.
    Text,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    /// The value of `--log-format`.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}
