//! Sockets that a supervisor opened for this process: systemd's protocol, `sd_listen_fds(3)`.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Socket, Type};

use super::listener::ListeningSocket;
use super::platform;
use crate::config::{LISTENERS_MAX, ListenAddress};
use crate::relay::limits::LOGGED_CHARS_MAX;

/// Environment variable: the number of sockets.
const FDS: &str = "LISTEN_FDS";
/// Environment variable: the ID of the process that the sockets are for.
const PID: &str = "LISTEN_PID";
/// Environment variable: the names of the sockets, separated by colons (`FileDescriptorName=`).
const NAMES: &str = "LISTEN_FDNAMES";
/// systemd's name for a socket without a name.
const NAMELESS: &str = "unknown";

/// Whether the sockets were taken. Each descriptor must have one owner.
static ARE_TAKEN: AtomicBool = AtomicBool::new(false);

/// The name of sockets for the operator.
pub(super) const ADMIN: &str = "admin";

/// Listening sockets that a supervisor passed to this process.
/// [`Server::bind_inherited`](crate::Server::bind_inherited) uses them instead of the configuration's addresses.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<InheritedSocket>,
}

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

/// The start of `text`, escaped so that it fits in one line.
fn shown(text: &str) -> String {
    text.chars().take(LOGGED_CHARS_MAX).flat_map(char::escape_debug).collect()
}

impl Inherited {
    /// Takes the sockets that the environment announces to this process. Empty if it announces none, or if they are
    /// for another process.
    ///
    /// Call first thing in `main`: a descriptor that the process itself opened with one of the announced numbers would
    /// be taken for a socket of the supervisor. Only the first call returns sockets.
    ///
    /// # Errors
    /// A variable makes no sense, or a socket cannot be used.
    pub fn of_process() -> Result<Self, InheritedError> {
        let names = announced(&|name| std::env::var_os(name), std::process::id())?;
        if names.is_empty() || ARE_TAKEN.swap(true, Ordering::Relaxed) {
            return Ok(Self::default());
        }
        let sockets =
            platform::inherited_sockets().map_err(|error| InheritedError(format!("{FDS}: {error}")))?;
        // The supervisor lists names in the order of the descriptors.
        let handed: Vec<_> = names.into_iter().zip(sockets).collect();
        let addresses = match handed.iter().map(address_of).collect::<Result<Vec<_>, _>>() {
            Ok(addresses) => addresses,
            Err(error) => {
                // A descriptor may not be open at all, and must then not be closed. The process is about to end.
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

    /// The name and the address of each socket, in the supervisor's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ListenAddress)> {
        self.sockets.iter().map(|socket| (socket.name.as_str(), &socket.socket.address))
    }

    /// Takes out the sockets that are [for the operator](ADMIN).
    pub(super) fn take_admin(&mut self) -> Vec<ListeningSocket> {
        self.sockets.extract_if(.., |socket| socket.name == ADMIN).map(|socket| socket.socket).collect()
    }

    /// Takes the other sockets, with any name.
    pub(super) fn into_public(self) -> Vec<ListeningSocket> {
        self.sockets.into_iter().map(|socket| socket.socket).collect()
    }
}

/// The names of the sockets that the environment, read by `variable`, announces to the process with this `id`.
fn announced(variable: &dyn Fn(&str) -> Option<OsString>, id: u32) -> Result<Vec<String>, InheritedError> {
    let variable = |name| {
        variable(name).filter(|value| !value.is_empty()).map(|value| value.to_string_lossy().into_owned())
    };
    // `LISTEN_PID` is checked first: the variables may be left over from a parent process.
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
    // Older versions of systemd set no names.
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

/// The address of a socket that was passed on; the error says why it cannot be used.
fn listening_at(socket: &Socket) -> Result<ListenAddress, String> {
    if socket.r#type().map_err(|error| unusable(&error))? != Type::STREAM {
        return Err("not a stream; use ListenStream= for it".to_owned());
    }
    // With `Accept=yes` systemd passes on a connection instead of a listener.
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
    fn only_sockets_announced_to_this_process_are_taken() {
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
    fn invalid_announcement_is_an_error_of_one_line() {
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
