//! What a server needs before it can serve: a valid configuration, its files, its listeners.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use log::warn;
use mio::{Events, Poll, Registry, Waker};

use super::operator::Operator;
use super::{EVENTS_PER_TURN, Server, StopHandle};
use crate::clock::Clock;
use crate::config::{Config, ConfigError, ListenAddress, Naming, SettingName};
use crate::entropy;
use crate::net::access_files::AccessFiles;
use crate::net::descriptors;
use crate::net::files::FileError;
#[cfg(feature = "cli")]
use crate::net::inherited::InheritedError;
use crate::net::listener::{Listener, ListeningSocket};
use crate::net::platform::{self, Supervisor};
use crate::net::stream::Streams;
use crate::net::token;
use crate::relay::{Relay, Settings};

/// Sockets that listen already. If there are any of a kind, they replace those of the configuration.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    /// For clients.
    pub(super) public: Vec<ListeningSocket>,
    /// For the operator.
    pub(super) admin: Vec<ListeningSocket>,
}

/// Why a server could not start. Its text is one line that names the setting and the remedy.
#[derive(Debug)]
#[non_exhaustive]
pub enum BindError {
    /// A setting is out of its bounds.
    Config(ConfigError),
    /// A file that a setting names cannot be used.
    File(FileError),
    /// A socket that a supervisor passed on cannot be used.
    #[cfg(feature = "cli")]
    Inherited(InheritedError),
    /// The server cannot listen on an address.
    #[non_exhaustive]
    Listen {
        /// The setting that names it.
        setting: SettingName,
        /// The address.
        address: ListenAddress,
        /// The system's error.
        error: io::Error,
    },
    /// The system denied a poll, a waker or randomness.
    System(io::Error),
}

impl std::error::Error for BindError {}

impl BindError {
    /// Whether a setting is wrong, so that a later attempt would fail in the same way.
    #[must_use]
    pub fn is_misconfiguration(&self) -> bool {
        use io::ErrorKind::{AlreadyExists, InvalidInput, NotADirectory, NotFound, Unsupported};
        match self {
            Self::Config(_) | Self::File(_) => true,
            #[cfg(feature = "cli")]
            Self::Inherited(_) => true,
            // These errors come from the path itself. A port may be free again later.
            Self::Listen { address: ListenAddress::Unix(_), error, .. } => {
                matches!(error.kind(), AlreadyExists | NotADirectory | NotFound | Unsupported | InvalidInput)
            }
            Self::Listen { .. } | Self::System(_) => false,
        }
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => write!(f, "{error}"),
            Self::File(error) => write!(f, "{error}"),
            #[cfg(feature = "cli")]
            Self::Inherited(error) => write!(f, "{error}"),
            Self::Listen { setting, address, error } => {
                let known = match address {
                    ListenAddress::Tcp(_) => tcp_remedy(error.kind()),
                    ListenAddress::Unix(_) => unix_remedy(error.kind()),
                };
                match known {
                    Some((what, remedy)) => write!(f, "{setting} {address}: {what}; {remedy}"),
                    // The system's own text, which depends on its C library.
                    None => write!(f, "{setting} {address}: {error}; choose another address"),
                }
            }
            Self::System(error) => {
                write!(f, "the system refuses what an event loop needs: {error}; raise its limits")
            }
        }
    }
}

/// What is wrong and what helps, for known errors.
type Remedy = Option<(&'static str, &'static str)>;

#[expect(clippy::wildcard_enum_match_arm, reason = "the system has many more errors than we have remedies")]
fn tcp_remedy(kind: io::ErrorKind) -> Remedy {
    Some(match kind {
        io::ErrorKind::PermissionDenied => ("permission denied", platform::PORT_REMEDY),
        io::ErrorKind::AddrInUse => {
            ("the address is in use", "stop the program that listens there or choose another port")
        }
        io::ErrorKind::AddrNotAvailable => {
            ("no interface of this machine has this address", "use one that it has, or 0.0.0.0 for all")
        }
        _ => return None,
    })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the system has many more errors than we have remedies")]
fn unix_remedy(kind: io::ErrorKind) -> Remedy {
    Some(match kind {
        io::ErrorKind::PermissionDenied => {
            ("permission denied", "let the relay's user write there or choose another path")
        }
        io::ErrorKind::AddrInUse => {
            ("the socket is in use", "stop the program that listens there or choose another path")
        }
        io::ErrorKind::AlreadyExists => {
            ("what is there is not a socket", "remove it if nobody needs it, or choose another path")
        }
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            ("there is no such directory", "make it or choose another path")
        }
        io::ErrorKind::InvalidInput => ("the path is too long for a socket's", "choose a shorter one"),
        io::ErrorKind::Unsupported => ("this system lacks Unix-domain sockets", "use IP:PORT"),
        io::ErrorKind::ReadOnlyFilesystem => ("the file system is read-only", "choose another path"),
        _ => return None,
    })
}

impl From<io::Error> for BindError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

#[cfg(feature = "cli")]
impl From<InheritedError> for BindError {
    fn from(error: InheritedError) -> Self {
        Self::Inherited(error)
    }
}

impl From<FileError> for BindError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl Server {
    /// Checks the configuration and listens on its addresses. [`run`](Self::run) or
    /// [`turn`](Self::turn) begins to serve.
    ///
    /// # Errors
    /// A setting, a file or an address cannot be used, or the system lacks resources.
    pub fn bind(config: &Config) -> Result<Self, BindError> {
        Self::bind_with(config, Sockets::default(), Naming::Field)
    }

    /// As [`bind`](Self::bind), with sockets that listen already. Errors and log lines name settings by `naming`.
    pub(super) fn bind_with(config: &Config, sockets: Sockets, naming: Naming) -> Result<Self, BindError> {
        config.validate_for(naming).map_err(BindError::Config)?;
        let access_files = AccessFiles::new(config, naming);
        let api_keys = access_files.read_api_keys().transpose()?;
        let address_rules = access_files.read_address_rules().transpose()?;
        let streams = Streams::new(&config.tls, naming).map_err(BindError::File)?;
        // Nothing listens until every file was read: a supervisor must not send clients to a server that fails.
        let poll = Poll::new()?;
        let admin_sockets = listen_for_operator(config, sockets.admin, naming)?;
        let listeners = listen(config, sockets.public, naming, poll.registry())?;
        let limits = descriptors::ConnectionLimits::beside(listeners.len(), admin_sockets.len());
        let settings = settings_within(&limits, &config.relay, naming);
        let clock = Clock::start();
        let started_unix_millis = clock.now().unix_millis;
        let stop =
            StopHandle { stops: Arc::default(), waker: Arc::new(Waker::new(poll.registry(), token::WAKER)?) };
        let mut relay = Relay::new(settings, entropy::seed()?, clock.now());
        let operator = if admin_sockets.is_empty() {
            None
        } else {
            // A seed of its own, so that the hash of the token has another key than the relay's.
            let (token, seed) = (config.admin_token.as_ref(), entropy::seed()?);
            Some(Operator::new(
                admin_sockets,
                token,
                config.relay.clone(),
                seed,
                clock.now(),
                poll.registry(),
            )?)
        };
        if let Some(keys) = api_keys {
            relay.set_api_keys(keys);
        }
        if let Some(rules) = address_rules {
            relay.set_address_rules(&rules);
        }
        Ok(Self {
            relay,
            access_files,
            poll,
            events: Events::with_capacity(EVENTS_PER_TURN),
            streams,
            listeners,
            // `Server::metrics` may turn it on later.
            are_turns_measured: operator.is_some(),
            operator,
            clock,
            started_unix_millis,
            signals: None,
            are_signals_ready: false,
            supervisor: Supervisor::default(),
            log_lines_dropped: None,
            stop,
            shutdown_grace: config.shutdown_grace,
            connections_open_max: limits.open,
            stops_seen: 0,
            stopped: None,
        })
    }

    /// The TCP addresses of the clients' listeners, in the order of the configuration or of the supervisor. Port 0
    /// is replaced by the port that the system chose. Unix-domain sockets are left out.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        let tcp = |listener: &Listener| match listener.socket.address {
            ListenAddress::Tcp(address) => Some(address),
            ListenAddress::Unix(_) => None,
        };
        self.listeners.iter().filter_map(tcp).collect()
    }

    /// The address of the operator's listener. Port 0 is replaced by the port that the system chose.
    #[must_use]
    pub fn admin_address(&self) -> Option<ListenAddress> {
        let listener = self.operator.as_ref()?.listeners().first()?;
        Some(listener.socket.address.clone())
    }
}

/// The operator's listening sockets: `sockets`, or if there are none, those of the configuration.
fn listen_for_operator(
    config: &Config,
    sockets: Vec<ListeningSocket>,
    naming: Naming,
) -> Result<Vec<ListeningSocket>, BindError> {
    if !sockets.is_empty() {
        return Ok(sockets);
    }
    let setting = SettingName::new("admin", naming);
    config.admin.iter().map(|address| bind(setting, address)).collect()
}

/// The clients' listeners: `sockets`, or if there are none, those of the configuration.
fn listen(
    config: &Config,
    mut sockets: Vec<ListeningSocket>,
    naming: Naming,
    registry: &Registry,
) -> Result<Vec<Listener>, BindError> {
    if sockets.is_empty() {
        let setting = SettingName::new("listen", naming);
        sockets = config.listen.iter().map(|address| bind(setting, address)).collect::<Result<_, _>>()?;
    }
    // The index is also the listener's token; see `token`.
    let watch = |(index, socket)| Listener::new(socket, index, registry).map_err(BindError::System);
    sockets.into_iter().enumerate().map(watch).collect()
}

fn bind(setting: SettingName, address: &ListenAddress) -> Result<ListeningSocket, BindError> {
    let failed = |error| BindError::Listen { setting, address: address.clone(), error };
    ListeningSocket::bind(address).map_err(failed)
}

/// The settings, with `max_connections` lowered to what descriptors and tokens allow.
fn settings_within(limits: &descriptors::ConnectionLimits, settings: &Settings, naming: Naming) -> Settings {
    let derived = limits.served;
    if let Some(wanted) = settings.max_connections.filter(|&wanted| wanted > derived) {
        let (limit, setting) = (platform::file_limit(), SettingName::new("max-connections", naming));
        warn!("file_limit={limit} {setting} {wanted}: the limit on open files leaves room for {derived}");
    }
    // A warning is enough for a limit that is too high: the relay works with a lower one.
    let max_connections =
        settings.max_connections.unwrap_or(derived).min(derived).min(token::CONNECTIONS_MAX);
    Settings { max_connections: Some(max_connections), ..settings.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_of_a_listener_names_its_address_and_a_remedy() {
        let tcp = || ListenAddress::from(([127, 0, 0, 1], 80));
        let unix = || ListenAddress::Unix("/run/relay\n".into());
        for (address, kind, expected) in [
            (
                tcp(),
                io::ErrorKind::PermissionDenied,
                "127.0.0.1:80: permission denied; use a port above 1023 or grant CAP_NET_BIND_SERVICE",
            ),
            (
                unix(),
                io::ErrorKind::PermissionDenied,
                r"unix:/run/relay\n: permission denied; let the relay's user write there or choose another path",
            ),
            (
                unix(),
                io::ErrorKind::ReadOnlyFilesystem,
                r"unix:/run/relay\n: the file system is read-only; choose another path",
            ),
            (
                unix(),
                io::ErrorKind::Unsupported,
                r"unix:/run/relay\n: this system lacks Unix-domain sockets; use IP:PORT",
            ),
            (unix(), io::ErrorKind::OutOfMemory, r"unix:/run/relay\n: out of memory; choose another address"),
        ] {
            let setting = SettingName::new("listen", Naming::Field);
            let line = BindError::Listen { setting, address, error: kind.into() }.to_string();
            assert_eq!(line, format!("listen {expected}"));
        }
    }
}
