//! The `apptuner-relay` program: reads its configuration, serves, and exits with a code that tells how it ended.
#![forbid(unsafe_code)]

mod logging;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::process::ExitCode;

use apptuner_relay::program::{Command, HELP_NOTE, VERSION, check_health, help, write_last};
use apptuner_relay::{Config, Inherited, Server, Stopped, raise_file_limit};

/// Exit code for bad usage or configuration.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    panic::set_hook(Box::new(show_panic));
    let config = match Config::from_args_and_env(std::env::args_os().skip(1), std::env::vars_os()) {
        Ok(Command::Run(config)) => config,
        Ok(Command::Health(check)) => {
            return match check_health(&check) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&error, 1),
            };
        }
        Ok(Command::Help) => return print(&format!("{}{HELP_NOTE}", help())),
        Ok(Command::Version) => return print(VERSION),
        Err(error) => return fail(&error, EXIT_USAGE),
    };
    // Must come before the process opens a descriptor of its own: see `Inherited::of_process`.
    let inherited = match Inherited::of_process() {
        Ok(inherited) => inherited,
        Err(error) => return fail(&error, EXIT_USAGE),
    };
    let log_lines_dropped = logging::start(config.log_format);
    if let Err(error) = raise_file_limit() {
        log::warn!("The limit on open files stays as it is: {error}");
    }
    let mut server = match Server::bind_inherited(&config, inherited) {
        Ok(server) => server,
        Err(error) => return fail(&error, if error.is_misconfiguration() { EXIT_USAGE } else { 1 }),
    };
    server.count_log_lines_dropped(log_lines_dropped);
    server.notify_supervisor();
    // Signals are caught only now: until the server can stop cleanly, they end the process.
    match server.stop_on_signals().and_then(|()| server.run()) {
        Ok(Stopped::Cleanly) => ExitCode::SUCCESS,
        Ok(Stopped::AtOnce) => ExitCode::FAILURE,
        Err(error) => fail(&error, 1),
    }
}

fn print(text: &str) -> ExitCode {
    match writeln!(io::stdout(), "{}", text.trim_end()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn fail(error: &dyn std::error::Error, code: u8) -> ExitCode {
    write_last(&format!("apptuner-relay: {error}\n"));
    ExitCode::from(code)
}

/// Writes what the standard library's panic hook writes, but does not block on standard error as that hook would.
fn show_panic(panic: &PanicHookInfo<'_>) {
    let backtrace = Backtrace::capture();
    let backtrace = Some(backtrace).filter(|backtrace| backtrace.status() == BacktraceStatus::Captured);
    let backtrace = backtrace.map(|backtrace| format!("{backtrace}\n")).unwrap_or_default();
    write_last(&format!("apptuner-relay: {panic}\n{backtrace}"));
}
