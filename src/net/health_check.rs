//! The program's own health check (`--health`), for images without curl: asks a relay and judges the answer.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

#[cfg(feature = "tls")]
use super::tls;
use crate::config::{HealthCheck, HealthUrl, ListenAddress};
use crate::relay::http::proxy_header::LOCAL_HEADER;

/// How long each step may take. Only this module blocks: no relay runs in a process that checks another's health.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The first bytes of a healthy relay's answer. No more is read.
const STATUS_LINE_START: &[u8; 13] = b"HTTP/1.1 200 ";

/// The first bytes of an answer.
type Start = [u8; STATUS_LINE_START.len()];

/// Checks that a relay answers with 200 (RFC 9110, section 15.3.1).
///
/// Within TLS any certificate is accepted: it names the relay's host, not the address used here, and nothing secret is
/// sent.
///
/// # Errors
/// The relay cannot be reached, does not answer within the timeout, or gives another answer.
pub fn check_health(check: &HealthCheck) -> io::Result<()> {
    let url = &check.url;
    let context = |error: io::Error| io::Error::new(error.kind(), format!("{url}: {error}"));
    let start = ask(check).map_err(context)?;
    if start == *STATUS_LINE_START {
        return Ok(());
    }
    let answer = start.escape_ascii();
    Err(io::Error::other(format!("{url}: not healthy: it answers {answer}")))
}

fn ask(check: &HealthCheck) -> io::Result<Start> {
    let HealthUrl { address, is_tls, .. } = &check.url;
    let (mut socket, host) = match address {
        ListenAddress::Tcp(address) => (connect(*address)?, address.ip()),
        ListenAddress::Unix(path) => {
            (connect_from(None, Domain::UNIX, &SockAddr::unix(path)?)?, Ipv4Addr::LOCALHOST.into())
        }
    };
    // A client of a Unix-domain socket counts as 127.0.0.1.
    let source = socket.local_addr()?.as_socket().map_or(Ipv4Addr::LOCALHOST.into(), |source| source.ip());
    // LOCAL marks a connection of the proxy's own, such as a health check.
    if check.needs_proxy_header(source) {
        socket.write_all(LOCAL_HEADER)?;
    }
    if *is_tls { ask_within_tls(socket, host, &check.url) } else { ask_on(socket, &check.url) }
}

/// Connects from a loopback address if the relay is on this machine, even under another address. No address rule of
/// the relay denies loopback.
fn connect(address: SocketAddr) -> io::Result<Socket> {
    let (domain, target) = (Domain::for_address(address), SockAddr::from(address));
    // To a loopback address the system connects from loopback by itself.
    if !address.ip().to_canonical().is_loopback() {
        let loopback: IpAddr =
            if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        let from = SockAddr::from(SocketAddr::new(loopback, 0));
        // This fails if the relay is on another machine.
        if let Ok(socket) = connect_from(Some(&from), domain, &target) {
            return Ok(socket);
        }
    }
    connect_from(None, domain, &target)
}

fn connect_from(source: Option<&SockAddr>, domain: Domain, target: &SockAddr) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    if let Some(source) = source {
        socket.bind(source)?;
    }
    socket.connect_timeout(target, TIMEOUT)?;
    Ok(socket)
}

#[cfg(feature = "tls")]
fn ask_within_tls(socket: Socket, host: IpAddr, url: &HealthUrl) -> io::Result<Start> {
    ask_on(tls::connect_unverified(socket, host)?, url)
}

#[cfg(not(feature = "tls"))]
fn ask_within_tls(_: Socket, _: IpAddr, _: &HealthUrl) -> io::Result<Start> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this build has no TLS"))
}

fn ask_on(mut stream: impl Read + Write, url: &HealthUrl) -> io::Result<Start> {
    let HealthUrl { address, path, .. } = url;
    let host = match address {
        // Without the zone of an IPv6 address: it has a meaning on this machine only (RFC 6874, section 4).
        ListenAddress::Tcp(address) => SocketAddr::new(address.ip(), address.port()).to_string(),
        ListenAddress::Unix(_) => "localhost".to_owned(),
    };
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut start = [0; STATUS_LINE_START.len()];
    stream.read_exact(&mut start)?;
    Ok(start)
}
