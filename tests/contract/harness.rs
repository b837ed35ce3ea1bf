//! Starts the real relay, collects its log, and ends it.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::client::Client;
#[cfg(feature = "tls")]
use crate::secure::{self, Certificate, Secure};
use crate::stream::Stream;

/// Longest wait for anything that must happen. Generous, because the machine may be busy.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(20);

/// How much too early a deadline may seem: the relay's clock counts whole milliseconds.
const CLOCK_STEP: Duration = Duration::from_millis(2);

/// The variable of the redelivery window. It is zero unless a test asks for delivery: most clients of these tests
/// answer no pings, and most tests state what holds without it.
const REDELIVERY_WINDOW: &str = "APPTUNER_RELAY_REDELIVERY_WINDOW";

/// Requires that `timeout` has passed since `start`: nothing may happen early.
#[track_caller]
pub(crate) fn assert_lasted(start: Instant, timeout: Duration) {
    let elapsed = start.elapsed();
    assert!(elapsed + CLOCK_STEP >= timeout, "after only {elapsed:?}");
}

/// A running relay. Dropping it kills the process.
pub(crate) struct Relay {
    child: Child,
    pub(crate) address: SocketAddr,
    log: Arc<Log>,
    /// The TLS settings of clients, if the relay speaks TLS.
    #[cfg(feature = "tls")]
    secure: Option<Arc<rustls::ClientConfig>>,
}

/// The exit code and log of a relay that ended by itself.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) log: Vec<String>,
}

/// A command that runs `program`. Its environment has only `PATH`, `RUST_LOG`, a redelivery window of zero, the variable
/// that tells a build with coverage where to write its counts, and `variables`.
fn command(program: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("RUST_LOG", "info")
        .env(REDELIVERY_WINDOW, "0s")
        .envs(std::env::var_os("LLVM_PROFILE_FILE").map(|file| ("LLVM_PROFILE_FILE", file)))
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    #[cfg(feature = "tls")]
    if secure::is_wanted() {
        let Certificate { cert, key, .. } = Certificate::shared();
        command.env("APPTUNER_RELAY_TLS_CERT", cert).env("APPTUNER_RELAY_TLS_KEY", key);
    }
    command
}

/// The relay's command, with only its environment set.
pub(crate) fn relay_command(variables: &[(&str, &str)]) -> Command {
    command(env!("CARGO_BIN_EXE_apptuner-relay"), variables)
}

/// A shell that runs `preparation`, such as `ulimit -n 40`, and becomes the relay.
pub(crate) fn shell_command(preparation: &str, flags: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = command("sh", variables);
    command
        .args(["-c", &format!("{preparation}; exec \"$0\" \"$@\"")])
        .arg(env!("CARGO_BIN_EXE_apptuner-relay"))
        .args(flags);
    command
}

impl Relay {
    /// Starts a relay on a free port of the loopback interface.
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::start_with(flags, &[])
    }

    /// As [`start`](Self::start), with `variables` in the environment.
    pub(crate) fn start_with(flags: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = relay_command(variables);
        command.args(["--listen", "127.0.0.1:0"]).args(flags);
        Self::spawn(command)
    }

    /// As [`start`](Self::start), with the redelivery window of `flags` or else the contract's default.
    pub(crate) fn start_delivering(flags: &[&str]) -> Self {
        // An empty variable counts as unset.
        Self::start_with(flags, &[(REDELIVERY_WINDOW, "")])
    }

    /// As [`start`](Self::start), in a shell that has run `preparation`, such as `ulimit -n 40`.
    pub(crate) fn start_after(preparation: &str, flags: &[&str]) -> Self {
        Self::spawn(shell_command(preparation, &[&["--listen", "127.0.0.1:0"], flags].concat(), &[]))
    }

    /// Starts `command` and waits until it listens.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        // This thread may be late on a busy machine. A full pipe would make the relay drop lines.
        #[cfg(target_os = "linux")]
        let _ = rustix::pipe::fcntl_setpipe_size(&stderr, 1 << 20);
        Self::read_by(child, stderr)
    }

    /// As [`spawn`](Self::spawn), for a log that goes to another standard error of `command` and is read from `log`.
    pub(crate) fn spawn_with_log(mut command: Command, log: impl Read + Send + 'static) -> Self {
        Self::read_by(command.spawn().unwrap(), log)
    }

    fn read_by(child: Child, log: impl Read + Send + 'static) -> Self {
        let log = Log::follow(log);
        let unset = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut relay = Self {
            child,
            address: unset,
            log,
            #[cfg(feature = "tls")]
            secure: secure::is_wanted().then(|| Arc::new(Certificate::shared().client())),
        };
        let line = relay
            .wait_for_log("the line that says where it listens", |line| line.contains("Listening on ws"));
        if !line.contains("+unix:") {
            let port = line.rsplit(':').next().unwrap().trim_end_matches(['"', '}']).parse().unwrap();
            relay.address.set_port(port);
        }
        relay
    }

    /// Waits for the first line that `is_wanted`. It may be an earlier line.
    pub(crate) fn wait_for_log(&self, what: &str, is_wanted: impl Fn(&str) -> bool) -> String {
        self.log
            .wait_for(is_wanted)
            .unwrap_or_else(|| panic!("{what} is missing from the log:\n{}", self.log_lines().join("\n")))
    }

    /// Waits for a line that ends in `ending`.
    pub(crate) fn wait_for_log_ending(&self, ending: &str) -> String {
        self.wait_for_log(ending, |line| line.ends_with(ending))
    }

    /// Stops reading the log, except for what is read already, or goes on reading it.
    pub(crate) fn leave_log_unread(&self, is_unread: bool) {
        self.log.update(|state| state.is_unread = is_unread);
    }

    pub(crate) fn log_lines(&self) -> Vec<String> {
        self.log.state.lock().unwrap().lines.clone()
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Sends SIGTERM and returns the exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for the end of the process and returns its exit code. `None` if a signal ended it.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        wait_for_exit(&mut self.child)
    }

    /// Starts a relay that speaks TLS, with clients that use the settings `client`.
    #[cfg(feature = "tls")]
    pub(crate) fn start_secure(
        flags: &[&str],
        certificate: &Certificate,
        client: rustls::ClientConfig,
    ) -> Self {
        let mut command = relay_command(&[]);
        command.args(["--listen", "127.0.0.1:0"]).args(certificate.flags()).args(flags);
        let mut relay = Self::spawn(command);
        relay.secure = Some(Arc::new(client));
        relay
    }

    /// From now on, clients use the TLS settings `client`.
    #[cfg(feature = "tls")]
    pub(crate) fn meet(&mut self, client: rustls::ClientConfig) {
        self.secure = Some(Arc::new(client));
    }

    /// A new connection on which nothing was sent.
    pub(crate) fn tcp(&self) -> Stream {
        self.stream(self.socket())
    }

    /// A new TCP connection, without TLS even if the relay speaks it.
    pub(crate) fn socket(&self) -> TcpStream {
        crate::client::with_timeouts(TcpStream::connect(self.address).unwrap())
    }

    /// The client's stream over `socket`, with TLS if the relay speaks it.
    #[cfg_attr(not(feature = "tls"), expect(clippy::unused_self, reason = "every stream is plain"))]
    pub(crate) fn stream(&self, socket: TcpStream) -> Stream {
        #[cfg(feature = "tls")]
        if let Some(config) = &self.secure {
            return Stream::secure(socket, Secure::new(config));
        }
        Stream::plain(socket)
    }

    /// A new connection for which the kernel takes few bytes if the client does not read.
    pub(crate) fn narrow_tcp(&self) -> Stream {
        self.stream(crate::client::connect_narrow(self.address))
    }

    /// A client that has joined and read its `connected`, but no notice after it.
    pub(crate) fn join(&self, client_type: &str, session: &str) -> Client {
        Client::join(self.tcp(), client_type, session)
    }

    /// A client that has joined its `peer`. Neither has anything left to read.
    pub(crate) fn join_peer(&self, client_type: &str, session: &str, peer: &mut Client) -> Client {
        Client::join_peer(self.tcp(), client_type, session, peer)
    }

    /// A desktop and a mobile, joined in this order. Neither has anything left to read.
    pub(crate) fn pair(&self, session: &str) -> (Client, Client) {
        let mut desktop = self.join("desktop", session);
        let mobile = self.join_peer("mobile", session, &mut desktop);
        (desktop, mobile)
    }

    /// As [`pair`](Self::pair), with a mobile for which the kernel takes few bytes unless it reads.
    pub(crate) fn pair_with_narrow_mobile(&self, session: &str) -> (Client, Client) {
        let mut desktop = self.join("desktop", session);
        let mobile = Client::join_peer(self.narrow_tcp(), "mobile", session, &mut desktop);
        (desktop, mobile)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // An error means that the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("The relay's log:\n{}", self.log_lines().join("\n"));
        }
    }
}

/// Runs a relay that must end by itself soon.
pub(crate) fn run_to_end(mut command: Command) -> Ended {
    let mut child = command.spawn().unwrap();
    let log = Log::follow(child.stderr.take().unwrap());
    let code = wait_for_exit(&mut child);
    log.wait_for(|_| false);
    let log = log.state.lock().unwrap().lines.clone();
    Ended { code, log }
}

fn wait_for_exit(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("the relay still runs after {WAIT_MAX:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The lines that a relay has logged.
struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Default)]
struct LogState {
    lines: Vec<String>,
    is_complete: bool,
    is_unread: bool,
}

impl Log {
    fn follow(stderr: impl Read + Send + 'static) -> Arc<Self> {
        let log = Arc::new(Self { state: Mutex::default(), changed: Condvar::new() });
        let writer = Arc::clone(&log);
        thread::spawn(move || {
            // A terminal whose last program has ended returns an error.
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                writer.update(|state| state.lines.push(line));
                let state = writer.state.lock().unwrap();
                drop(writer.changed.wait_while(state, |state| state.is_unread).unwrap());
            }
            writer.update(|state| state.is_complete = true);
        });
        log
    }

    fn update(&self, change: impl FnOnce(&mut LogState)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    /// The first line that `is_wanted`. `None` if the log has ended or [`WAIT_MAX`] has passed.
    fn wait_for(&self, is_wanted: impl Fn(&str) -> bool) -> Option<String> {
        let found = |state: &LogState| state.lines.iter().find(|line| is_wanted(line)).cloned();
        let is_waiting = |state: &mut LogState| found(state).is_none() && !state.is_complete;
        let state = self.state.lock().unwrap();
        let (state, _) = self.changed.wait_timeout_while(state, WAIT_MAX, is_waiting).unwrap();
        found(&state)
    }
}
