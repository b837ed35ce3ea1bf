//! TLS for the streams of clients: rustls, fed and emptied without blocking.
//!
//! rustls is used through its unbuffered interface, because then it is the relay that decides where
//! bytes stand: a connection at rest holds nothing but its keys. Whatever all connections can take
//! turns at is in one [`Scratch`].

mod acceptor;
#[cfg(feature = "cli")]
mod client;
mod encode;
mod engine;
mod interrupted;
mod scratch;
mod stream;

pub(super) use acceptor::TlsAcceptor;
#[cfg(feature = "cli")]
pub(super) use client::connect_to_anybody;
pub(super) use stream::TlsStream;
