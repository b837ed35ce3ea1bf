//! A relay that pairs a desktop app with a mobile app over WebSocket connections and carries JSON
//! messages between them.
//!
//! The program `apptuner-relay` is a thin layer over [`Server`], which any other program can run
//! as well:
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
//! // Wherever the host decides to stop, in another thread perhaps:
//! stop.stop()?;
//! assert_eq!(server.run()?, Stopped::Cleanly);
//! # Ok(())
//! # }
//! ```
//!
//! A host that has a loop of its own calls [`Server::turn`] from it instead of [`Server::run`].
//!
//! Below the server lies [`relay::Relay`], which knows neither sockets nor clocks. It works over
//! any streams that can be read and written without blocking:
//!
//! ```
//! use std::io::{self, Read, Write};
//! use apptuner_relay::relay::{Relay, Settings, Readiness, Now};
//!
//! /// A client in memory: what it sends, and what it has received.
//! #[derive(Default)]
//! struct Memory(io::Cursor<Vec<u8>>, Vec<u8>);
//!
//! impl Read for Memory {
//!     fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
//!         match self.0.read(buffer)? {
//!             0 => Err(io::ErrorKind::WouldBlock.into()),
//!             count => Ok(count),
//!         }
//!     }
//! }
//!
//! impl Write for Memory {
//!     fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
//!         self.1.write(bytes)
//!     }
//!     fn flush(&mut self) -> io::Result<()> {
//!         Ok(())
//!     }
//! }
//!
//! let now = Now::default();
//! let mut relay = Relay::new(Settings::default(), [1, 2], now);
//! let request = b"GET /health HTTP/1.1\r\nHost: relay\r\n\r\n".to_vec();
//! let client = Memory(io::Cursor::new(request), Vec::new());
//! let id = relay.handle_accept(client, ([127, 0, 0, 1], 4000).into(), now);
//! relay.handle_readiness(id, Readiness::READABLE);
//! relay.handle_turn(now);
//! let received = &relay.stream(id).expect("it waits for the client's end of the stream").1;
//! assert!(received.starts_with(b"HTTP/1.1 200 OK\r\n"));
//! while let Some(effect) = relay.poll_effect() {
//!     println!("a host would now perform {effect:?}");
//! }
//! # impl std::fmt::Debug for Memory {
//! #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("Memory") }
//! # }
//! ```
#![forbid(unsafe_code)]

pub mod admin;
#[cfg(feature = "net")]
pub mod clock;
#[cfg(feature = "net")]
pub mod config;
#[cfg(feature = "net")]
pub mod entropy;
#[cfg(feature = "net")]
mod net;
pub mod relay;

pub use admin::metrics;
#[cfg(feature = "net")]
pub use config::Config;
#[cfg(feature = "net")]
pub use net::{BindError, FileError, Server, StopHandle, Stopped, Turn, raise_file_limit};
#[cfg(feature = "cli")]
pub use net::{Dropped, HELP_NOTE, Inherited, InheritedError, LogOutput, check_health, write_last};
