//! Sockets that a supervisor has opened for this process: systemd's protocol, `sd_listen_fds(3)`.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Socket, Type};

use super::listener::ListeningSocket;
use super::platform;
use crate::config::{LISTENERS_MAX, ListenAddress};
use crate::relay::limits::LOGGED_CHARS_MAX;

/// How many sockets there are.
const FDS: &str = "LISTEN_FDS";
/// The process that they are meant for.
const PID: &str = "LISTEN_PID";
/// Their names, with colons between them (`FileDescriptorName=`).
const NAMES: &str = "LISTEN_FDNAMES";
/// What systemd calls a socket without a name.
const NAMELESS: &str = "unknown";

/// Whether the sockets were taken: there is one owner of each.
static ARE_TAKEN: AtomicBool = AtomicBool::new(false);

/// The name of the sockets that are for the operator.
pub(super) const ADMIN: &str = "admin";

/// Listening sockets that were open when the process began, to be [used](crate::Server::bind_inherited)
/// instead of those of the configuration.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<InheritedSocket>,
}

/// One of them.
#[derive(Debug)]
struct InheritedSocket {
    name: String,
    socket: ListeningSocket,
}

/// What is wrong with the inherited sockets: one line that names the variable and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InheritedError(String);

impl std::error::Error for InheritedError {}

impl fmt::Display for InheritedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl InheritedError {
    fn value(variable: &str, value: &str, problem: &str) -> Self {
        Self(format!("{variable} {}: {problem}", shown(value)))
    }

    pub(super) fn socket(name: &str, problem: impl fmt::Display) -> Self {
        Self(format!("{FDS}: the socket {}: {problem}", shown(name)))
    }
}

/// `text` in one line, and not much of it.
fn shown(text: &str) -> String {
    text.chars().take(LOGGED_CHARS_MAX).flat_map(char::escape_debug).collect()
}

impl Inherited {
    /// Takes what the environment says was handed on to this process; nothing, if it says nothing or
    /// means another process.
    ///
    /// Call first thing in `main`: a descriptor that the process has opened itself, and that has one of those numbers,
    /// would be taken for one that was handed on. Only the first call gets anything.
    pub fn of_process() -> Result<Self, InheritedError> {
        let names = announced(&|name| std::env::var_os(name), std::process::id())?;
        if names.is_empty() || ARE_TAKEN.swap(true, Ordering::Relaxed) {
            return Ok(Self::default());
        }
        let sockets =
            platform::inherited_sockets().map_err(|error| InheritedError(format!("{FDS}: {error}")))?;
        let handed: Vec<_> = names.into_iter().zip(sockets).collect();
        let addresses = match handed.iter().map(address_of).collect::<Result<Vec<_>, _>>() {
            Ok(addresses) => addresses,
            Err(error) => {
                // One that is not open is not to be closed; the process is about to end.
                handed.into_iter().for_each(std::mem::forget);
                return Err(error);
            }
        };
        let adopt = |((name, socket), address)| match ListeningSocket::adopt(socket, address) {
            Ok(socket) => Ok(InheritedSocket { name, socket }),
            Err(error) => Err(InheritedError::socket(&name, unusable(&error))),
        };
        let sockets = handed.into_iter().zip(addresses).map(adopt).collect::<Result<_, _>>()?;
        Ok(Self { sockets })
    }

    /// The name and the address of each, in the order that the supervisor gives them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ListenAddress)> {
        self.sockets.iter().map(|socket| (socket.name.as_str(), &socket.socket.address))
    }

    /// Takes out those that are [for the operator](ADMIN).
    pub(super) fn take_admin(&mut self) -> Vec<ListeningSocket> {
        self.sockets.extract_if(.., |socket| socket.name == ADMIN).map(|socket| socket.socket).collect()
    }

    /// Takes the rest, whatever their names are.
    pub(super) fn into_public(self) -> Vec<ListeningSocket> {
        self.sockets.into_iter().map(|socket| socket.socket).collect()
    }
}

/// The names of the sockets that `variable`s announce to the process with this `id`.
fn announced(variable: &dyn Fn(&str) -> Option<OsString>, id: u32) -> Result<Vec<String>, InheritedError> {
    let variable = |name| {
        variable(name).filter(|value| !value.is_empty()).map(|value| value.to_string_lossy().into_owned())
    };
    let Some(pid) = variable(PID) else { return Ok(Vec::new()) };
    let problem = "not the number of a process; systemd sets it, others leave it out";
    if pid.parse::<u32>().map_err(|_| InheritedError::value(PID, &pid, problem))? != id {
        return Ok(Vec::new());
    }
    let Some(count) = variable(FDS) else { return Ok(Vec::new()) };
    let sockets = count.parse().ok().filter(|sockets| (1..=LISTENERS_MAX).contains(sockets));
    let Some(sockets) = sockets else {
        let problem = format!("not a number of sockets from 1 to {LISTENERS_MAX}; systemd sets it to theirs");
        return Err(InheritedError::value(FDS, &count, &problem));
    };
    let Some(names) = variable(NAMES) else { return Ok(vec![NAMELESS.to_owned(); sockets]) };
    let listed: Vec<_> = names.split(':').map(str::to_owned).collect();
    if listed.len() != sockets {
        let problem = format!("{} names for {sockets} sockets; give as many, or none", listed.len());
        return Err(InheritedError::value(NAMES, &names, &problem));
    }
    Ok(listed)
}

fn address_of((name, socket): &(String, Socket)) -> Result<ListenAddress, InheritedError> {
    listening_at(socket).map_err(|problem| InheritedError::socket(name, problem))
}

/// Where a socket that was handed on listens; what is wrong with it if it is of no use.
fn listening_at(socket: &Socket) -> Result<ListenAddress, String> {
    if socket.r#type().map_err(|error| unusable(&error))? != Type::STREAM {
        return Err("not a stream; use ListenStream= for it".to_owned());
    }
    if !platform::is_listening(socket).map_err(|error| unusable(&error))? {
        return Err("it does not listen; use Accept=no for it".to_owned());
    }
    let address = socket.local_addr().map_err(|error| unusable(&error))?;
    platform::listen_address(&address)
        .ok_or_else(|| "neither of TCP nor a Unix-domain socket; use another ListenStream= for it".to_owned())
}

fn unusable(error: &io::Error) -> String {
    format!("{error}; have it opened by systemd, with ListenStream=")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: u32 = 42;

    fn names(variables: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let variable = |name: &str| {
            variables.iter().find(|(other, _)| *other == name).map(|(_, value)| OsString::from(value))
        };
        announced(&variable, ID).map_err(|error| error.to_string())
    }

    #[test]
    fn only_what_is_announced_to_this_process_is_taken() {
        for (variables, expected) in [
            (&[][..], &[][..]),
            (&[(FDS, "1")], &[]),
            (&[(FDS, "1"), (PID, "")], &[]),
            (&[(FDS, "1"), (PID, "43")], &[]),
            (&[(FDS, "nonsense"), (PID, "43")], &[]),
            (&[(PID, "42")], &[]),
            (&[(FDS, "2"), (PID, "42")], &["unknown", "unknown"]),
            (&[(FDS, "2"), (PID, "42"), (NAMES, "web:admin")], &["web", "admin"]),
            (&[(FDS, "3"), (PID, "42"), (NAMES, "x::z")], &["x", "", "z"]),
        ] {
            let expected: Vec<_> = expected.iter().map(|name| String::from(*name)).collect();
            assert_eq!(names(variables), Ok(expected), "{variables:?}");
        }
    }

    #[test]
    fn an_announcement_that_makes_no_sense_is_an_error_of_one_line() {
        let pid = "not the number of a process; systemd sets it, others leave it out";
        let fds = "not a number of sockets from 1 to 64; systemd sets it to theirs";
        for (variables, expected) in [
            (&[(FDS, "1"), (PID, "me")][..], format!("LISTEN_PID me: {pid}")),
            (&[(FDS, "1"), (PID, "-1")], format!("LISTEN_PID -1: {pid}")),
            (&[(FDS, "0"), (PID, "42")], format!("LISTEN_FDS 0: {fds}")),
            (&[(FDS, "65"), (PID, "42")], format!("LISTEN_FDS 65: {fds}")),
            (&[(FDS, "-1"), (PID, "42")], format!("LISTEN_FDS -1: {fds}")),
            (&[(FDS, "a\nb"), (PID, "42")], format!("LISTEN_FDS a\\nb: {fds}")),
            (
                &[(FDS, "2"), (PID, "42"), (NAMES, "web")],
                "LISTEN_FDNAMES web: 1 names for 2 sockets; give as many, or none".to_owned(),
            ),
        ] {
            assert_eq!(names(variables), Err(expected), "{variables:?}");
        }
    }
}
