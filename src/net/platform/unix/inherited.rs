//! Sockets that a supervisor has opened for this process, as the system hands them on.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use socket2::{SockAddr, Socket};

use crate::config::ListenAddress;

/// Takes those that the environment announces, once in the life of a process.
#[cfg(target_os = "linux")]
pub(in crate::net) fn inherited_sockets() -> io::Result<Vec<Socket>> {
    let taken = sd_listen_fds::get().map_err(io::Error::other)?;
    Ok(taken.into_iter().map(|(_, descriptor)| Socket::from(descriptor.into_std())).collect())
}

/// What owns them without `unsafe` does so on Linux alone.
#[cfg(not(target_os = "linux"))]
pub(in crate::net) fn inherited_sockets() -> io::Result<Vec<Socket>> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "sockets are taken over on Linux only; leave the variable out and use --listen",
    ))
}

pub(in crate::net) fn is_listening(socket: &Socket) -> io::Result<bool> {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    return socket.is_listener();
    // None comes here: see above.
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    return socket.local_addr().map(|_| true);
}

pub(in crate::net) fn listen_address(address: &SockAddr) -> Option<ListenAddress> {
    if !address.is_unix() {
        return address.as_socket().map(ListenAddress::Tcp);
    }
    // A socket without a file may have a name, which begins with a zero and is shown with an @.
    let name = address.as_abstract_namespace().map(|name| [b"@", name].concat());
    let path = address.as_pathname().map(Path::to_owned);
    Some(ListenAddress::Unix(path.or(name.map(|name| OsString::from_vec(name).into())).unwrap_or_default()))
}
