//! The file by which a Unix-domain socket is found.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::thread::nanosleep;
use rustix::time::Timespec;
use socket2::{Domain, SockAddr, Socket, Type};

/// How often the lock of a folder is asked for, and how long to wait in between: a second in all. Relays hold it for
/// far less, and others must not keep one from starting.
const LOCK_TRIES: usize = 1000;
const LOCK_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

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
    /// Has `socket` listen at `path`, in place of a socket that nobody listens on, if there is one.
    pub(in crate::net) fn listen(socket: &Socket, path: &Path, backlog: i32) -> io::Result<Self> {
        let _lock = lock_folder(path);
        let address = SockAddr::unix(path)?;
        if let Err(error) = socket.bind(&address) {
            if error.kind() != io::ErrorKind::AddrInUse {
                return Err(error);
            }
            remove_stale(path, &address)?;
            socket.bind(&address)?;
        }
        let (id, _) = identify(path)?;
        let file = Self { path: path.to_owned(), id };
        socket.listen(backlog)?;
        Ok(file)
    }
}

/// Has other relays wait that are about to listen in the same folder, until the file is dropped: between `bind` and
/// `listen` they would take the socket for one that nobody listens on, and remove it. `None` if it cannot be locked.
fn lock_folder(path: &Path) -> Option<File> {
    let folder = File::open(path.parent()?).ok()?;
    for _ in 0..LOCK_TRIES {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(folder),
            Err(Errno::WOULDBLOCK | Errno::INTR) => {}
            Err(_) => return None,
        }
        // Cut short by a signal it asks once more, and sooner.
        let _ = nanosleep(&LOCK_PAUSE);
    }
    None
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

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    #[test]
    fn of_relays_that_start_at_once_one_gets_the_path() {
        let folder = std::env::temp_dir().join(format!("apptuner-relay-{}-race", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let path = folder.join("relay");
        for round in 0..100 {
            if round % 2 == 0 {
                // One of an earlier run, that nobody listens on.
                drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            }
            let begin = Barrier::new(4);
            let start = || {
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
                begin.wait();
                SocketFile::listen(&socket, &path, 128).map(|file| (file, socket))
            };
            let results = thread::scope(|scope| {
                let relays = [(); 4].map(|()| scope.spawn(start));
                relays.map(|relay| relay.join().unwrap())
            });
            assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
            assert!(std::os::unix::net::UnixStream::connect(&path).is_ok(), "it is found");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
