//! Takes over the sockets that a supervisor opened for this process.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use socket2::{SockAddr, Socket};

use crate::config::ListenAddress;

/// Takes the sockets that the environment announces. Works once per process.
#[cfg(target_os = "linux")]
pub(in crate::net) fn inherited_sockets() -> io::Result<Vec<Socket>> {
    // The caller has checked the variables, more strictly than this crate does.
    let taken = sd_listen_fds::get().map_err(io::Error::other)?;
    Ok(taken.into_iter().map(|(_, descriptor)| Socket::from(descriptor.into_std())).collect())
}

/// Always an error: the crate that takes descriptors without `unsafe` here supports only Linux.
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
    // Not reached: `inherited_sockets` fails on these systems.
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    return socket.local_addr().map(|_| true);
}

pub(in crate::net) fn listen_address(address: &SockAddr) -> Option<ListenAddress> {
    if !address.is_unix() {
        return address.as_socket().map(ListenAddress::Tcp);
    }
    // The name of an abstract socket begins with a zero byte, and is shown with an @ instead.
    let name = address.as_abstract_namespace().map(|name| [b"@", name].concat());
    let path = address.as_pathname().map(Path::to_owned);
    Some(ListenAddress::Unix(path.or(name.map(|name| OsString::from_vec(name).into())).unwrap_or_default()))
}
