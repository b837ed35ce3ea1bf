//! An address to listen on: TCP or Unix-domain.

use std::ffi::OsStr;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::error::Problem;
#[cfg(feature = "cli")]
use super::socket_address::parse_address;

/// Longest path of a Unix-domain socket on Linux: 108 bytes with the zero at the end. Systems with a lower limit refuse
/// the path themselves.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// An address to accept connections on.
///
/// ```
/// # use apptuner_relay::ListenAddress;
/// assert_eq!(ListenAddress::from(([127, 0, 0, 1], 8787)).to_string(), "127.0.0.1:8787");
/// assert_eq!(ListenAddress::Unix("/run/relay.sock".into()).to_string(), "unix:/run/relay.sock");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenAddress {
    /// TCP. Port 0 takes any free port. `[::]` means every interface, IPv4 included.
    Tcp(SocketAddr),
    /// A Unix-domain socket at this absolute path. Its clients count as 127.0.0.1.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Begins the text form of a Unix-domain socket.
    pub(super) const UNIX: &str = "unix:";

    /// Parses `ADDR:PORT`, `[ADDR6]:PORT`, `[ADDR6%INTERFACE]:PORT`, `localhost:PORT` or `unix:/PATH`.
    #[cfg(feature = "cli")]
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        if let Some(path) = text.strip_prefix(Self::UNIX) {
            let path = Path::new(path);
            return check_socket_path(path).map(|()| Self::Unix(path.to_owned()));
        }
        if text.starts_with(['/', '.', '~']) {
            return Err("no address; a Unix-domain socket is written with unix: before its path".into());
        }
        parse_address(text).map(Self::Tcp)
    }

    /// Checks the path of a Unix-domain socket, which a configuration built in code may have wrong.
    pub(super) fn check(&self) -> Result<(), Problem> {
        match self {
            Self::Tcp(_) => Ok(()),
            Self::Unix(path) => check_socket_path(path),
        }
    }

    /// Whether only this machine can reach the address.
    #[must_use]
    pub const fn is_of_this_machine(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// Whether several listeners may have this address: with port 0 each gets another port.
    pub(super) fn is_repeatable(&self) -> bool {
        matches!(self, Self::Tcp(address) if address.port() == 0)
    }
}

/// Checks that `path` can be a socket's. It must be absolute: a relative one depends on the working directory.
fn check_socket_path(path: &Path) -> Result<(), Problem> {
    let bytes = path.as_os_str().as_encoded_bytes();
    // Not `is_absolute`, which wants a drive on Windows: there the socket itself is refused later, with a better error.
    if !path.has_root() || bytes.contains(&0) || bytes.ends_with(b"/") {
        return Err(
            "not the path of a socket; write it from / on, as in unix:/run/apptuner-relay.sock".into()
        );
    }
    if bytes.len() > SOCKET_PATH_BYTES_MAX {
        let problem = format!(
            "a path of {} bytes, and a socket's has at most {SOCKET_PATH_BYTES_MAX}; choose a shorter one",
            bytes.len()
        );
        return Err(problem.into());
    }
    Ok(())
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => {
                f.write_str(Self::UNIX)?;
                write_path(f, path)
            }
        }
    }
}

/// Writes a path in one line, escaped but not cut: the operator must be able to find the file by it.
pub(crate) fn write_path(f: &mut fmt::Formatter<'_>, path: &Path) -> fmt::Result {
    for chunk in OsStr::as_encoded_bytes(path.as_os_str()).utf8_chunks() {
        write!(f, "{}", chunk.valid().escape_debug())?;
        chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
    }
    Ok(())
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl From<([u8; 4], u16)> for ListenAddress {
    fn from(address: ([u8; 4], u16)) -> Self {
        Self::Tcp(address.into())
    }
}

#[cfg(test)]
#[cfg(feature = "cli")]
mod tests {
    use super::*;

    #[test]
    fn address_is_tcp_or_a_path_behind_unix() {
        for (text, address) in [
            ("127.0.0.1:80", ([127, 0, 0, 1], 80).into()),
            ("localhost:80", ([127, 0, 0, 1], 80).into()),
            ("unix:/run/relay.sock", ListenAddress::Unix("/run/relay.sock".into())),
            ("unix:/a:b c", ListenAddress::Unix("/a:b c".into())),
        ] {
            assert_eq!(ListenAddress::parse(text), Ok(address), "{text:?}");
        }
        assert_eq!(ListenAddress::Unix("/a\n\\".into()).to_string(), r"unix:/a\n\\");
    }

    #[test]
    fn path_that_no_socket_can_have_is_refused() {
        const NOT_A_PATH: &str =
            "not the path of a socket; write it from / on, as in unix:/run/apptuner-relay.sock";
        for text in ["unix:", "unix:relay.sock", "unix:@relay", "unix:/", "unix:/run/", "unix:/a\0b"] {
            assert_eq!(ListenAddress::parse(text), Err(NOT_A_PATH.into()), "{text:?}");
        }
        let no_address = "no address; a Unix-domain socket is written with unix: before its path";
        for text in ["/run/relay.sock", "./relay.sock", "~/relay.sock"] {
            assert_eq!(ListenAddress::parse(text), Err(no_address.into()), "{text:?}");
        }
        let longest = format!("unix:/{}", "x".repeat(SOCKET_PATH_BYTES_MAX - 1));
        assert!(ListenAddress::parse(&longest).is_ok());
        let problem = ListenAddress::parse(&format!("{longest}x")).unwrap_err();
        assert!(problem.ends_with("; choose a shorter one"), "{problem}");
    }
}
