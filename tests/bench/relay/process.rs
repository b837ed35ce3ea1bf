//! Starts the relay or the pipe on a core of its own, and reads its processor time and memory from the kernel.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::pipe::PIPE_FLAG;

/// The servers that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Relay,
    /// The relay, which counts messages as delivered once they are written.
    Unconfirmed,
    Pipe,
}

/// A running server. Dropping it kills the process.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) is_pipe: bool,
}

impl Server {
    /// Starts `subject` on a free port of the loopback interface. The pipe gets no `flags`.
    pub(crate) fn start(subject: Subject, flags: &[&str]) -> Result<Self> {
        let is_pipe = subject == Subject::Pipe;
        let mut command = if is_pipe {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg(PIPE_FLAG);
            command
        } else {
            let program = std::env::var_os("RELAY");
            let mut command =
                Command::new(program.unwrap_or_else(|| env!("CARGO_BIN_EXE_apptuner-relay").into()));
            command.args(["--listen", "127.0.0.1:0"]).args(flags);
            if subject == Subject::Unconfirmed {
                command.args(["--redelivery-window", "0s"]);
            }
            command
        };
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let log = child.stderr.take().ok_or("the log is piped")?;
        let unset = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { child, address: unset, is_pipe };
        core::pin_child(&server.child)?;
        let mut log = BufReader::new(log);
        let mut lines = String::new();
        while server.address.port() == 0 {
            let start = lines.len();
            if log.read_line(&mut lines)? == 0 {
                return Err(lines.trim_end().into());
            }
            if let Some((_, address)) = lines[start..].trim_end().split_once("Listening on ws://") {
                server.address = address.parse()?;
            }
        }
        // The log must be read, or the server would drop lines when the pipe is full.
        thread::spawn(move || io::copy(&mut log, &mut io::sink()));
        Ok(server)
    }

    /// User and system time so far.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        cpu_time(&self.child.id().to_string())
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident_bytes(&self) -> Result<f64> {
        self.memory("status", "VmRSS:")
    }

    /// The peak of resident memory, in bytes.
    pub(crate) fn peak_bytes(&self) -> Result<f64> {
        self.memory("status", "VmHWM:")
    }

    /// Resident memory in bytes, with shared pages divided among the processes that share them.
    pub(crate) fn proportional_bytes(&self) -> Result<f64> {
        self.memory("smaps_rollup", "Pss:")
    }

    /// One line of `proc_pid_status(5)` or `proc_pid_smaps(5)`, in bytes.
    fn memory(&self, file: &str, name: &str) -> Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/{file}", self.child.id()))?;
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        let kib = value.and_then(|value| value.split_whitespace().next()).ok_or("no such line")?;
        Ok(kib.parse::<f64>()? * 1024.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error means that the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Resources used in a span of time.
pub(crate) struct Spent {
    pub(crate) wall: Duration,
    /// Processor time of the server.
    pub(crate) cpu: Duration,
    /// Cores that other programs kept busy.
    pub(crate) others: f64,
}

impl Spent {
    /// Processor time in microseconds for each of `count` operations in the span.
    pub(crate) fn cpu_micros_per(&self, count: f64) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / count
    }

    /// `count` per second.
    pub(crate) fn rate(&self, count: f64) -> f64 {
        count / self.wall.as_secs_f64()
    }

    /// Busy time of the server as a percentage of one core. If it is well below 100, the server waited for the load.
    pub(crate) fn cpu_percent(&self) -> f64 {
        100.0 * self.cpu.as_secs_f64() / self.wall.as_secs_f64()
    }
}

/// A span of time that has begun.
pub(crate) struct Span<'a> {
    server: &'a Server,
    start: Instant,
    cpu: Duration,
    own: Duration,
    all: Duration,
}

impl<'a> Span<'a> {
    pub(crate) fn start(server: &'a Server) -> Result<Self> {
        let (cpu, own, all) = (server.cpu_time()?, cpu_time("self")?, machine_time()?);
        Ok(Self { server, start: Instant::now(), cpu, own, all })
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn stop(self) -> Result<Spent> {
        let wall = self.start.elapsed();
        let cpu = self.server.cpu_time()?.saturating_sub(self.cpu);
        let known = cpu + cpu_time("self")?.saturating_sub(self.own);
        let others = machine_time()?.saturating_sub(self.all + known);
        Ok(Spent { wall, cpu, others: others.as_secs_f64() / wall.as_secs_f64() })
    }
}

/// Processor time of the threads of a process: first field of `/proc/PID/schedstat`.
fn cpu_time(process: &str) -> Result<Duration> {
    let mut nanos = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        nanos += text.split_whitespace().next().ok_or("schedstat is empty")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// Busy time of all processors, in steps of a hundredth of a second (`proc_stat(5)`).
fn machine_time() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().ok_or("no line for all processors")?;
    let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // All fields except idle, waiting for disks, and guests, which are part of user time.
    let busy = ticks.iter().enumerate().filter(|(at, _)| !matches!(at, 3 | 4 | 8..)).map(|(_, ticks)| ticks);
    Ok(Duration::from_millis(10 * busy.sum::<u64>()))
}

/// Cores: the first allowed one is for this process, the second for the server.
#[cfg(target_os = "linux")]
pub(crate) mod core {
    use std::process::Child;

    use rustix::process::Pid;
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    use crate::Result;

    /// Pins this process to its core. Returns whether there is another one for the server.
    pub(crate) fn pin_self() -> Result<bool> {
        let allowed = allowed(None)?;
        let [first, second, ..] = allowed.as_slice() else { return Ok(false) };
        SERVER_CORE.set(*second).map_err(|_| "pinned twice")?;
        sched_setaffinity(None, &only(*first))?;
        Ok(true)
    }

    static SERVER_CORE: std::sync::OnceLock<usize> = std::sync::OnceLock::new();

    pub(crate) fn pin_child(child: &Child) -> Result<()> {
        if let Some(&core) = SERVER_CORE.get() {
            sched_setaffinity(Some(Pid::from_child(child)), &only(core))?;
        }
        Ok(())
    }

    fn allowed(process: Option<Pid>) -> Result<Vec<usize>> {
        let set = sched_getaffinity(process)?;
        Ok((0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect())
    }

    fn only(core: usize) -> CpuSet {
        let mut set = CpuSet::new();
        set.set(core);
        set
    }
}

/// On other systems processes are not pinned.
#[cfg(not(target_os = "linux"))]
pub(crate) mod core {
    use std::process::Child;

    use crate::Result;

    pub(crate) fn pin_self() -> Result<bool> {
        Ok(false)
    }

    pub(crate) fn pin_child(_: &Child) -> Result<()> {
        Ok(())
    }
}
