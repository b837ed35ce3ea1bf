//! TLS for the streams of clients: rustls over non-blocking sockets.
//!
//! rustls is used through its unbuffered interface, so that the relay owns all buffers: an idle
//! connection holds only its keys. All connections share one [`Scratch`] while they read and write.

mod acceptor;
#[cfg(feature = "cli")]
mod client;
mod encode;
mod engine;
mod interrupted;
mod phase;
mod scratch;
mod stream;

pub(super) use acceptor::TlsAcceptor;
#[cfg(feature = "cli")]
pub(super) use client::connect_unverified;
pub(super) use stream::TlsStream;
