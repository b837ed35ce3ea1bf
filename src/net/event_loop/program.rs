//! What a server does only for the program: signals, systemd, the count of dropped log lines.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::Server;
use super::bind::{BindError, Sockets};
use crate::config::{Config, ListenAddress, Naming};
use crate::net::inherited::{ADMIN, Inherited, InheritedError};
use crate::net::platform::{ProcessSignals, Supervisor};

impl Server {
    /// As [`bind`](Self::bind), but uses the sockets that the process inherited instead of
    /// [`listen`](Config::listen), if there are any. Errors and log lines name the program's options, not fields.
    pub fn bind_inherited(config: &Config, mut inherited: Inherited) -> Result<Self, BindError> {
        let admin = inherited.take_admin();
        let is_open = |address: &ListenAddress| !address.is_of_this_machine() && config.admin_token.is_none();
        // `Config::validate` checks this for the configuration's own address.
        if admin.iter().any(|socket| is_open(&socket.address)) {
            let problem =
                "others than this machine reach it; set --admin-token, or listen on a loopback address";
            return Err(InheritedError::socket(ADMIN, problem).into());
        }
        Self::bind_with(config, Sockets { public: inherited.into_public(), admin }, Naming::Option)
    }

    /// Makes SIGTERM and SIGINT stop this server, and SIGHUP [`reload`](Self::reload) its files. If the process was
    /// started from a terminal and the configuration names no file, SIGHUP means that the terminal is gone: it stops
    /// the server, too. The process can then use these signals for nothing else.
    ///
    /// # Errors
    /// The system does not let the process handle these signals.
    pub fn stop_on_signals(&mut self) -> io::Result<()> {
        self.signals = Some(ProcessSignals::catch(self.poll.registry(), &self.stop.waker)?);
        Ok(())
    }

    /// Tells the supervisor from now on when this server is ready, reloads, stops, and that it is alive: systemd's
    /// protocol, `sd_notify(3)`. The environment names the supervisor. The notices stand for the whole process.
    pub fn notify_supervisor(&mut self) {
        self.supervisor = Supervisor::of_process();
    }

    /// Adds to the metrics how many log lines the process could not write, as counted by `lines`.
    pub fn count_log_lines_dropped(&mut self, lines: Arc<AtomicU64>) {
        self.log_lines_dropped = Some(lines);
    }
}
