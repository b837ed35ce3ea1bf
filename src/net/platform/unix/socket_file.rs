//! The file of a Unix-domain socket.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::thread::nanosleep;
use rustix::time::Timespec;
use socket2::{Domain, SockAddr, Socket, Type};

/// How often to try to lock a folder, and the pause between two tries: one second in all. Relays hold the lock for far
/// less. If another program holds it longer, the relay starts without it.
const LOCK_TRIES: usize = 1000;
const LOCK_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// The file of a socket that this process bound. Dropping it removes the file, unless another file has replaced it.
///
/// Drop it before the socket is closed: until then no other file can get its inode.
#[derive(Debug)]
pub(in crate::net) struct SocketFile {
    path: PathBuf,
    id: FileId,
}

/// Device and inode. They distinguish a file from a later one of the same name.
type FileId = (u64, u64);

impl SocketFile {
    /// Makes `socket` listen at `path`. Replaces a stale socket file, on which no process listens.
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
        // From here on the file is removed if listening fails.
        let (id, _) = identify(path)?;
        let file = Self { path: path.to_owned(), id };
        socket.listen(backlog)?;
        Ok(file)
    }
}

/// Locks the folder of `path` until the returned file is dropped. Another relay that starts in the same folder waits:
/// between our `bind` and `listen` it would take our socket for a stale one and remove it. `None` if the folder cannot
/// be locked.
fn lock_folder(path: &Path) -> Option<File> {
    let folder = File::open(path.parent()?).ok()?;
    for _ in 0..LOCK_TRIES {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(folder),
            Err(Errno::WOULDBLOCK | Errno::INTR) => {}
            Err(_) => return None,
        }
        // A signal may shorten the pause, which does no harm.
        let _ = nanosleep(&LOCK_PAUSE);
    }
    None
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identify(&self.path).is_ok_and(|(id, is_socket)| is_socket && id == self.id) {
            // On an error the file stays, and the next start removes it as stale.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes the socket file at `path` if no process listens on it.
///
/// # Errors
/// `AlreadyExists` if the file is not a socket; `AddrInUse` if a process listens on it.
fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    let (id, is_socket) = identify(path)?;
    if !is_socket {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A busy listener may not accept at once; the probe must not wait for it.
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
        // Accepted, queued, or a socket of another type: a process listens.
        Ok(()) | Err(_) => return Err(io::ErrorKind::AddrInUse.into()),
    }
    // Another process may have removed the stale file and bound its own since.
    if identify(path)?.0 != id {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    fs::remove_file(path)
}

/// The file's identity, and whether it is a socket. A symbolic link is not followed: it is not a socket itself, and
/// must not be removed.
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
    fn one_of_several_relays_that_start_at_once_gets_the_path() {
        let folder = std::env::temp_dir().join(format!("apptuner-relay-{}-race", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let path = folder.join("relay");
        for round in 0..100 {
            if round % 2 == 0 {
                // A stale socket of an earlier run.
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
