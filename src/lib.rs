//! A relay that pairs a desktop app with a mobile app over WebSocket connections and carries JSON
//! messages between them.
//!
//! The program `apptuner-relay` is a thin layer over [`Server`], which other programs can run, too:
//!
#![cfg_attr(feature = "net", doc = "```")]
#![cfg_attr(not(feature = "net"), doc = "```ignore")]
//! use apptuner_relay::{Config, Server, Stopped};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config { listen: vec![([127, 0, 0, 1], 0).into()], ..Config::default() };
//! let mut server = Server::bind(&config)?;
//! println!("ws://{}/desktop/my-session", server.local_addrs()[0]);
//! let stop = server.stop_handle();
//! // Where the host decides to stop, perhaps in another thread:
//! stop.stop()?;
//! assert_eq!(server.run()?, Stopped::Cleanly);
//! # Ok(())
//! # }
//! ```
//!
//! A host with its own event loop calls [`Server::turn`] instead of [`Server::run`]. On Unix a `Server` implements
//! [`AsFd`](Server#impl-AsFd-for-Server) for the descriptor that such a loop waits for; see the example there.
//! Between two turns the host can ask it for its sessions, counts and metrics.
//!
//! The server is built on [`relay::Relay`], which uses neither sockets nor clocks and works over any streams that can
//! be read and written without blocking.
#![cfg_attr(any(doc, doctest), doc = "\n[`guide::embed`] has an example of each.")]
//!
//! # Features
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `cli` (default) | the program: command line, log, signals, systemd; implies `net` |
//! | `net` | [`Server`] and [`Config`]: sockets, the poll that waits for them, clocks, randomness |
//! | `tls` | TLS for the server's clients; implies `net` |
//!
//! Without features the crate is only the engine: [`relay`] and its [`metrics`]. It builds for
//! `wasm32-unknown-unknown`. There the host must choose a backend for the crate `getrandom`, because tungstenite links
//! it. A relay never calls it.
#![cfg_attr(any(doc, doctest), doc = "\nHow to use, deploy and operate the program is in the [`guide`].")]
#![forbid(unsafe_code)]

#[doc(hidden)]
pub mod admin;
#[cfg(feature = "net")]
mod clock;
#[cfg(feature = "net")]
mod config;
#[cfg(feature = "net")]
mod entropy;
#[cfg(any(doc, doctest))]
pub mod guide;
#[cfg(feature = "net")]
mod net;
pub mod relay;

pub use admin::metrics;
#[cfg(feature = "net")]
pub use config::{Config, ConfigError, ListenAddress, LogFormat, SettingName, TlsFiles};
#[cfg(feature = "net")]
pub use net::{BindError, FileError, Server, StopHandle, Stopped, Turn, raise_file_limit};
#[cfg(feature = "cli")]
pub use net::{Inherited, InheritedError};
#[cfg(feature = "net")]
pub use relay::access::secret::Secret;
pub use relay::{Census, Counters, Hook, IpNet, Member, Origin, Service, SessionReport, Settings};

/// More items that the program needs. Nothing here is stable.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod program {
    pub use crate::config::{Command, HealthCheck, HealthUrl, VERSION, help};
    pub use crate::net::{Dropped, HELP_NOTE, LogOutput, check_health, write_last};
}
