//! Reads the certificate and its key, and makes a TLS stream from each accepted socket.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use mio::net::TcpStream;
use rustls::crypto::ring;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::UnbufferedServerConnection;
use rustls::{Error, InconsistentKeys, ServerConfig};

use super::scratch::Scratch;
use super::stream::TlsStream;
use crate::config::{Naming, SettingName, TlsFiles};
use crate::net::files::{self, FileError};

/// The only protocol offered by ALPN. HTTP/2 would need another way to open a WebSocket (RFC 8441).
const HTTP_1_1: &[u8] = b"http/1.1";

/// Makes a [`TlsStream`] from each accepted socket.
pub(in crate::net) struct TlsAcceptor {
    cert: NamedFile,
    key: NamedFile,
    /// For new connections. Each connection keeps the one it began with.
    config: Arc<ServerConfig>,
    /// Only one thread uses it, so the lock is always free.
    scratch: Arc<Mutex<Scratch>>,
}

/// A file, and the setting that names it.
#[derive(Debug)]
struct NamedFile {
    setting: SettingName,
    path: PathBuf,
}

impl NamedFile {
    fn read(&self) -> Result<Vec<u8>, FileError> {
        files::read(self.setting, &self.path)
    }

    fn error(&self, problem: impl Into<String>) -> FileError {
        FileError::new(self.setting, &self.path, problem)
    }
}

impl fmt::Debug for TlsAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsAcceptor").field("cert", &self.cert.path).finish_non_exhaustive()
    }
}

impl TlsAcceptor {
    /// Reads the files. `None` if the configuration names none.
    pub(in crate::net) fn from_files(files: &TlsFiles, naming: Naming) -> Result<Option<Self>, FileError> {
        let TlsFiles { cert: Some(cert), key: Some(key) } = files.clone() else { return Ok(None) };
        let file = |option, path| NamedFile { setting: SettingName::new(option, naming), path };
        let (cert, key) = (file("tls-cert", cert), file("tls-key", key));
        let config = read_config(&cert, &key)?;
        Ok(Some(Self { cert, key, config, scratch: Arc::default() }))
    }

    /// Reads the files again. On an error, the certificate and key in use stay.
    pub(in crate::net) fn reload(&mut self) -> Result<(), FileError> {
        self.config = read_config(&self.cert, &self.key)?;
        Ok(())
    }

    pub(in crate::net) fn accept(&self, socket: TcpStream, has_proxy_header: bool) -> io::Result<TlsStream> {
        let session = UnbufferedServerConnection::new(Arc::clone(&self.config)).map_err(io::Error::other)?;
        Ok(TlsStream::new(socket, session, Arc::clone(&self.scratch), has_proxy_header))
    }
}

fn read_config(cert: &NamedFile, key: &NamedFile) -> Result<Arc<ServerConfig>, FileError> {
    let chain = read_chain(cert)?;
    let private_key = read_key(key)?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| cert.error(format!("TLS cannot be set up: {error}")))?;
    let mut config = builder
        .with_no_client_auth()
        .with_single_cert(chain, private_key)
        .map_err(|error| unusable(cert, key, &error))?;
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    // Tickets let a phone that reconnects skip most of the handshake. Unlike a cache of sessions they need no memory
    // here. Each reload makes a new ticket key.
    if let Ok(ticketer) = ring::Ticketer::new() {
        config.ticketer = ticketer;
    }
    Ok(Arc::new(config))
}

fn read_chain(cert: &NamedFile) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let pem = cert.read()?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        // A PEM file of another kind, such as a key, parses without errors.
        Ok(chain) if chain.is_empty() => {
            Err(cert.error("no certificate in it; give a PEM file, the server's own first"))
        }
        Ok(chain) => Ok(chain),
        Err(_) => Err(cert.error("not a PEM file; write the certificate anew")),
    }
}

fn read_key(key: &NamedFile) -> Result<PrivateKeyDer<'static>, FileError> {
    let pem = key.read()?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| {
        // An encrypted key is another kind of PEM item, and counts as none.
        let problem = if matches!(error, PemError::NoItemsFound) {
            "no private key in it that is not encrypted; give a PEM file with BEGIN PRIVATE KEY"
        } else {
            "not a PEM file; write the key anew"
        };
        key.error(problem)
    })
}

/// Turns rustls's error into one that names a file. None of rustls's errors quotes the key.
fn unusable(cert: &NamedFile, key: &NamedFile, error: &Error) -> FileError {
    #[expect(clippy::wildcard_enum_match_arm, reason = "most of them are those of a connection")]
    match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            let problem =
                format!("not the key of {}; give the one that the certificate was made for", cert.setting);
            key.error(problem)
        }
        Error::InvalidCertificate(_) => cert.error("no certificate that can be understood; write it anew"),
        _ => key.error("no key that can be used; make one with ECDSA P-256, Ed25519 or RSA"),
    }
}
