//! The file by which a Unix-domain socket is found.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

/// The file of a socket bound here, removed when dropped, unless somebody has put another in its place.
///
/// It is to be dropped before the socket is closed: until then no other file can be given its inode.
#[derive(Debug)]
pub(in crate::net) struct SocketFile {
    path: PathBuf,
    id: FileId,
}

/// Device and inode, by which a file is told from another of the same name.
type FileId = (u64, u64);

impl SocketFile {
    /// Binds `socket` to `path`, in place of a socket that nobody listens on, if there is one.
    pub(in crate::net) fn bind(socket: &Socket, path: &Path) -> io::Result<Self> {
        let address = SockAddr::unix(path)?;
        if let Err(error) = socket.bind(&address) {
            if error.kind() != io::ErrorKind::AddrInUse {
                return Err(error);
            }
            remove_stale(path, &address)?;
            socket.bind(&address)?;
        }
        let (id, _) = identify(path)?;
        Ok(Self { path: path.to_owned(), id })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identify(&self.path).is_ok_and(|(id, is_socket)| is_socket && id == self.id) {
            // If it stays, the next start finds that nobody listens on it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes the socket at `path`, unless somebody listens on it. `AlreadyExists` if it is no socket.
fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    let (id, is_socket) = identify(path)?;
    if !is_socket {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Whoever listens may be too busy to take notice.
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
        // Taken, or left waiting, or a socket of another type than streams: there is somebody.
        Ok(()) | Err(_) => return Err(io::ErrorKind::AddrInUse.into()),
    }
    // Whoever else found it stale may be faster.
    if identify(path)?.0 != id {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    fs::remove_file(path)
}

/// Which file is there, and whether it is a socket. A link is not followed: it is somebody's, and no socket.
fn identify(path: &Path) -> io::Result<(FileId, bool)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok(((metadata.dev(), metadata.ino()), metadata.file_type().is_socket()))
}
