//! What systemd, or another supervisor with its protocol, is told (`sd_notify(3)`).

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use log::warn;
use sd_notify::NotifyState;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::relay::Tick;

/// How long the relay waits, as it starts, reloads or stops, for a supervisor too busy to be told. For a sign of life
/// it does not wait at all: clients would wait with it, and another one follows.
const PATIENCE: Duration = Duration::from_secs(1);

/// The supervisor of this process, if it has said that it wants to be told.
#[derive(Debug, Default)]
pub(in crate::net) struct Supervisor {
    address: Option<SockAddr>,
    /// How often it wants a sign of life.
    watchdog: Option<Duration>,
    /// When the last one went out.
    alive_at: Tick,
}

impl Supervisor {
    /// Reads from the environment whether there is one.
    pub(in crate::net) fn of_process() -> Self {
        let path = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty());
        let address = path.as_deref().and_then(|path| match address(path) {
            Ok(address) => Some(address),
            Err(error) => {
                warn!("The supervisor cannot be told: {error}");
                None
            }
        });
        // Zero is no interval (`sd_watchdog_enabled(3)`): signs without pause are none.
        let watchdog =
            sd_notify::watchdog_enabled().filter(|interval| address.is_some() && !interval.is_zero());
        Self { address, watchdog, alive_at: Tick(0) }
    }

    /// The relay serves.
    pub(in crate::net) fn ready(&self) {
        self.tell(&[NotifyState::Ready]);
    }

    /// Files are being read again, after which it is [`ready`](Self::ready).
    pub(in crate::net) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(_) => self.tell(&[NotifyState::Reloading]),
        }
    }

    /// The relay has begun to stop.
    pub(in crate::net) fn stopping(&self) {
        self.tell(&[NotifyState::Stopping]);
    }

    /// Gives a sign of life if it is time. Called in every turn of the loop, so that a loop that hangs gives none.
    pub(in crate::net) fn note_turn(&mut self, now: Tick) {
        if self.watchdog.is_some_and(|interval| now >= self.alive_at.after(interval / 2)) {
            self.alive_at = now;
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    /// How long the loop may wait at most, so that the next sign of life is in time.
    pub(in crate::net) fn wait_max(&self) -> Option<Duration> {
        self.watchdog.map(|interval| interval / 4)
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        let Some(address) = &self.address else { return };
        let patience = Some(PATIENCE).filter(|_| !matches!(states, [NotifyState::Watchdog]));
        if let Err(error) = send(address, states, patience) {
            warn!("The supervisor cannot be told: {error}");
        }
    }
}

/// A path, or a name without a file, which is written with an @ in front.
fn address(path: &OsStr) -> io::Result<SockAddr> {
    match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SockAddr::unix(Path::new(OsStr::from_bytes(&[b"\0", name].concat()))),
        None => SockAddr::unix(path),
    }
}

fn send(address: &SockAddr, states: &[NotifyState<'_>], patience: Option<Duration>) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    match patience {
        Some(patience) => socket.set_write_timeout(Some(patience))?,
        None => socket.set_nonblocking(true)?,
    }
    let lines: Vec<String> = states.iter().map(|state| format!("{state}\n")).collect();
    socket.send_to(lines.concat().as_bytes(), address)?;
    Ok(())
}
