//! TLS for the tests' clients, and the relay's certificates.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// The host name in the certificates.
pub(crate) const SERVER_NAME: &str = "relay.test";
const RECORD_BYTES: usize = 16 * 1024;

/// Whether the tests of the contract run over TLS.
pub(crate) fn is_wanted() -> bool {
    std::env::var_os("RELAY_TEST_TLS").is_some_and(|value| value == "1")
}

/// A self-signed certificate, and the files of it and its key.
pub(crate) struct Certificate {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) der: CertificateDer<'static>,
    pub(crate) key_pem: String,
}

impl Certificate {
    pub(crate) fn make() -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let made = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()]).unwrap();
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}", std::process::id());
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let (cert, key) = (folder.join(format!("{name}-cert.pem")), folder.join(format!("{name}-key.pem")));
        fs::write(&cert, made.cert.pem()).unwrap();
        let key_pem = made.signing_key.serialize_pem();
        fs::write(&key, &key_pem).unwrap();
        Self { cert, key, der: made.cert.der().clone(), key_pem }
    }

    /// The certificate that the tests of the contract share.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Certificate> = OnceLock::new();
        SHARED.get_or_init(Self::make)
    }

    pub(crate) fn flags(&self) -> [&str; 4] {
        ["--tls-cert", self.cert.to_str().unwrap(), "--tls-key", self.key.to_str().unwrap()]
    }

    /// Settings of a client that trusts only this certificate.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    }
}

/// One TLS session, shared by the clones of a stream. Its lock is never held while waiting for the socket.
#[derive(Clone)]
pub(crate) struct Secure(Arc<Mutex<State>>);

struct State {
    session: ClientConnection,
    /// Decrypted bytes that were not read yet.
    plain: VecDeque<u8>,
    /// Encrypted bytes that the socket did not take.
    unsent: Vec<u8>,
}

impl State {
    /// Moves decrypted bytes out of rustls, which holds only a limited number.
    fn unload(&mut self) {
        let mut bytes = [0; RECORD_BYTES];
        while let Ok(count @ 1..) = self.session.reader().read(&mut bytes) {
            self.plain.extend(&bytes[..count]);
        }
    }
}

impl Secure {
    pub(crate) fn new(config: &Arc<ClientConfig>) -> Self {
        let name = ServerName::try_from(SERVER_NAME).unwrap();
        let mut session = ClientConnection::new(Arc::clone(config), name).unwrap();
        session.set_buffer_limit(None);
        Self(Arc::new(Mutex::new(State { session, plain: VecDeque::new(), unsent: Vec::new() })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Reads something from the session.
    pub(crate) fn ask<T>(&self, question: impl FnOnce(&mut ClientConnection) -> T) -> T {
        question(&mut self.lock().session)
    }

    /// Completes the handshake. A read or a write does so, too.
    pub(crate) fn shake_hands(&self, socket: &TcpStream) -> io::Result<()> {
        while self.lock().session.is_handshaking() {
            self.send(socket)?;
            self.receive(socket)?;
            if !self.lock().session.is_handshaking() {
                self.send(socket)?;
            }
        }
        Ok(())
    }

    /// Reads once from the socket. Sends nothing, because another clone may be sending.
    fn receive(&self, mut socket: &TcpStream) -> io::Result<()> {
        let mut bytes = [0; RECORD_BYTES];
        let count = socket.read(&mut bytes)?;
        let state = &mut *self.lock();
        let mut rest = &bytes[..count];
        loop {
            if state.session.read_tls(&mut rest)? == 0 && count > 0 {
                break;
            }
            state.session.process_new_packets().map_err(io::Error::other)?;
            state.unload();
            if rest.is_empty() {
                break;
            }
        }
        if count == 0 && state.session.is_handshaking() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// Writes all encrypted bytes that the socket takes.
    fn send(&self, mut socket: &TcpStream) -> io::Result<()> {
        let mut unsent = {
            let state = &mut *self.lock();
            while state.session.wants_write() {
                state.session.write_tls(&mut state.unsent)?;
            }
            std::mem::take(&mut state.unsent)
        };
        let mut result = Ok(());
        while !unsent.is_empty() && result.is_ok() {
            result = socket.write(&unsent).map(|count| drop(unsent.drain(..count)));
        }
        self.lock().unsent = unsent;
        result
    }

    /// Waits for something to read and leaves it there. An end of the stream without a `close_notify` is an error.
    pub(crate) fn peek(&self, socket: &TcpStream) -> io::Result<usize> {
        self.shake_hands(socket)?;
        loop {
            {
                let state = &mut *self.lock();
                if !state.plain.is_empty() {
                    return Ok(state.plain.len());
                }
                match state.session.reader().read(&mut [0]) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    end => return end,
                }
            }
            self.receive(socket)?;
        }
    }

    pub(crate) fn read(&self, socket: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        self.peek(socket)?;
        self.lock().plain.read(buffer)
    }

    /// Takes at most one record, once the socket has taken all earlier bytes.
    pub(crate) fn write(&self, socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
        self.shake_hands(socket)?;
        self.send(socket)?;
        let count = self.lock().session.writer().write(&bytes[..bytes.len().min(RECORD_BYTES)])?;
        match self.send(socket) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(count),
        }
    }

    pub(crate) fn close_notify(&self, socket: &TcpStream) -> io::Result<()> {
        self.lock().session.send_close_notify();
        self.send(socket)
    }
}
