//! A health check for where there is no other: asks a relay, waits for the answer, and judges it.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::{HealthUrl, ListenAddress};

/// How long each step may take. This is the one place that waits: no relay runs in the process.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of the answer that tell all that is asked for.
const STATUS_LINE_START: &[u8; 13] = b"HTTP/1.1 200 ";

/// Asks whether the relay at `url` is healthy: whether it answers with 200 (RFC 9110, section 15.3.1).
pub fn check_health(url: &HealthUrl) -> io::Result<()> {
    let context = |error: io::Error| io::Error::new(error.kind(), format!("{url}: {error}"));
    let status_line_start = ask(url).map_err(context)?;
    if status_line_start == *STATUS_LINE_START {
        return Ok(());
    }
    let answer = status_line_start.escape_ascii();
    Err(io::Error::other(format!("{url}: not healthy: it answers {answer}")))
}

fn ask(url: &HealthUrl) -> io::Result<[u8; STATUS_LINE_START.len()]> {
    let (domain, address, host) = match &url.address {
        ListenAddress::Tcp(address) => {
            // The interface means something on this machine alone (RFC 6874, section 4).
            let host = SocketAddr::new(address.ip(), address.port());
            (Domain::for_address(*address), SockAddr::from(*address), host.to_string())
        }
        ListenAddress::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?, "localhost".to_owned()),
    };
    let mut stream = Socket::new(domain, Type::STREAM, None)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.connect_timeout(&address, TIMEOUT)?;
    let request = format!("GET {} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n", url.path);
    stream.write_all(request.as_bytes())?;
    let mut start = [0; STATUS_LINE_START.len()];
    stream.read_exact(&mut start)?;
    Ok(start)
}
