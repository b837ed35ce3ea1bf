//! Notices to systemd, or to another supervisor with its protocol (`sd_notify(3)`).

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use log::warn;
use sd_notify::NotifyState;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::relay::Tick;

/// How long a notice of start, reload or stop may wait for a busy supervisor. A watchdog notice does not wait at all:
/// clients would wait as well, and the next notice follows soon.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// The supervisor of this process, if the environment names one.
#[derive(Debug, Default)]
pub(in crate::net) struct Supervisor {
    address: Option<SockAddr>,
    /// The longest interval between watchdog notices that the supervisor accepts.
    watchdog: Option<Duration>,
    /// When the last watchdog notice was sent.
    alive_at: Tick,
}

impl Supervisor {
    /// Reads the supervisor's address and watchdog interval from the environment.
    pub(in crate::net) fn of_process() -> Self {
        let path = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty());
        let address = path.as_deref().and_then(|path| match address(path) {
            Ok(address) => Some(address),
            Err(error) => {
                warn!("The supervisor cannot be told: {error}");
                None
            }
        });
        // Zero means no watchdog (`sd_watchdog_enabled(3)`).
        let watchdog =
            sd_notify::watchdog_enabled().filter(|interval| address.is_some() && !interval.is_zero());
        Self { address, watchdog, alive_at: Tick(0) }
    }

    /// Reports that the relay serves.
    pub(in crate::net) fn ready(&self) {
        self.tell(&[NotifyState::Ready]);
    }

    /// Reports that files are being read again. [`ready`](Self::ready) must follow.
    pub(in crate::net) fn reloading(&self) {
        // systemd's `Type=notify-reload` needs the time.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(_) => self.tell(&[NotifyState::Reloading]),
        }
    }

    /// Reports that the relay has begun to stop.
    pub(in crate::net) fn stopping(&self) {
        self.tell(&[NotifyState::Stopping]);
    }

    /// Sends a watchdog notice if one is due. Called in every turn of the loop, so a loop that hangs sends none.
    pub(in crate::net) fn note_turn(&mut self, now: Tick) {
        // Twice as often as required, as sd_watchdog_enabled(3) recommends.
        if self.watchdog.is_some_and(|interval| now >= self.alive_at.after(interval / 2)) {
            self.alive_at = now;
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    /// How long the loop may wait, so that the next watchdog notice is in time. `None` means no limit.
    pub(in crate::net) fn wait_max(&self) -> Option<Duration> {
        // A turn within each quarter of the interval sends the notice at three quarters at the latest.
        self.watchdog.map(|interval| interval / 4)
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        let Some(address) = &self.address else { return };
        let timeout = Some(SEND_TIMEOUT).filter(|_| !matches!(states, [NotifyState::Watchdog]));
        if let Err(error) = send(address, states, timeout) {
            warn!("The supervisor cannot be told: {error}");
        }
    }
}

/// The address of a path, or of an abstract socket, whose name begins with an @.
fn address(path: &OsStr) -> io::Result<SockAddr> {
    match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SockAddr::unix(Path::new(OsStr::from_bytes(&[b"\0", name].concat()))),
        None => SockAddr::unix(path),
    }
}

fn send(address: &SockAddr, states: &[NotifyState<'_>], timeout: Option<Duration>) -> io::Result<()> {
    // A new socket for each notice: they are rare, and a supervisor that restarts needs no reconnect.
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    match timeout {
        Some(timeout) => socket.set_write_timeout(Some(timeout))?,
        None => socket.set_nonblocking(true)?,
    }
    let lines: Vec<String> = states.iter().map(|state| format!("{state}\n")).collect();
    socket.send_to(lines.concat().as_bytes(), address)?;
    Ok(())
}
