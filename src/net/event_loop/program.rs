//! What a server does for a process that has no other purpose: signals, systemd, the metrics of the log.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::Server;
use super::bind::{BindError, Sockets};
use crate::config::{Config, ListenAddress, Naming};
use crate::net::inherited::{ADMIN, Inherited, InheritedError};
use crate::net::platform::{ProcessSignals, Supervisor};

impl Server {
    /// As [`bind`](Self::bind), with the sockets that the process was handed instead of
    /// [`listen`](Config::listen), if there are any. Errors and log lines name the program's options, not fields.
    pub fn bind_inherited(config: &Config, mut inherited: Inherited) -> Result<Self, BindError> {
        let admin = inherited.take_admin();
        let is_open = |address: &ListenAddress| !address.is_of_this_machine() && config.admin_token.is_none();
        if admin.iter().any(|socket| is_open(&socket.address)) {
            let problem =
                "others than this machine reach it; set --admin-token, or listen on a loopback address";
            return Err(InheritedError::socket(ADMIN, problem).into());
        }
        Self::bind_with(config, Sockets { public: inherited.into_public(), admin }, Naming::Option)
    }

    /// Makes SIGTERM and SIGINT stop this server, and SIGHUP have it [`reload`](Self::reload). If the process was
    /// started from a terminal and no file is there to reload, SIGHUP means that the terminal is gone, and stops the
    /// server, too. The process can then use these signals for nothing else.
    pub fn stop_on_signals(&mut self) -> io::Result<()> {
        self.signals = Some(ProcessSignals::catch(self.poll.registry(), &self.stop.waker)?);
        Ok(())
    }

    /// From now on tells the supervisor that the environment names when this server is ready, reloads, stops and is
    /// alive: systemd's protocol, `sd_notify(3)`. It is told for the whole process.
    pub fn notify_supervisor(&mut self) {
        self.supervisor = Supervisor::of_process();
    }

    /// Has the metrics show how many lines of its log the process could not write, as `lines` counts them.
    pub fn count_log_lines_dropped(&mut self, lines: Arc<AtomicU64>) {
        self.log_lines_dropped = Some(lines);
    }
}
