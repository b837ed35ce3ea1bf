//! Parses TCP addresses as operators write them, with a remedy for each likely mistake.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::Path;

use super::bounds::DEFAULT_PORT;
use super::error::Problem;
use super::units::parse_port;

const NOT_AN_ADDRESS: &str = "not an address; write ADDR:PORT, such as 127.0.0.1:8787";
const PORT_IS_WRONG: &str = "the port must be a number from 0 to 65535, as in 127.0.0.1:8787";

/// Longest name of an interface on Linux and BSD.
const INTERFACE_BYTES_MAX: usize = 15;

/// Parses `ADDR:PORT`, `[ADDR6]:PORT`, `[ADDR6%INTERFACE]:PORT` or `localhost:PORT`, which means 127.0.0.1. Host names
/// are not looked up.
pub(super) fn parse_address(text: &str) -> Result<SocketAddr, Problem> {
    let address = match text.parse() {
        Ok(address) => address,
        Err(_) => parse_other_form(text)?,
    };
    match address {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 => {
            let (ip, port) = (v6.ip(), v6.port());
            Err(format!("this address is in every network; name the interface, as in [{ip}%eth0]:{port}")
                .into())
        }
        SocketAddr::V4(_) | SocketAddr::V6(_) => Ok(address),
    }
}

/// Parses the forms that the standard library does not parse.
fn parse_other_form(text: &str) -> Result<SocketAddr, Problem> {
    if let Some(rest) = text.strip_prefix('[')
        && let Some((inside, behind)) = rest.split_once(']')
    {
        return parse_brackets(inside, behind);
    }
    if text.contains('/') {
        return Err(scheme_or_path(text));
    }
    match text.rsplit_once(':') {
        Some((host, port)) if host.eq_ignore_ascii_case("localhost") => {
            let port = parse_port(port).map_err(|_| PORT_IS_WRONG)?;
            Ok((Ipv4Addr::LOCALHOST, port).into())
        }
        parts => Err(without_brackets(text, parts)),
    }
}

/// Parses the texts between the brackets and behind them.
fn parse_brackets(inside: &str, behind: &str) -> Result<SocketAddr, Problem> {
    let port = behind.strip_prefix(':').map(parse_port);
    match (is_ipv6(inside), port) {
        (true, Some(Ok(port))) => parse_scoped(inside, port),
        (true, Some(Err(_))) => Err(PORT_IS_WRONG.into()),
        // `[::1]` without a port, and below `[::1]8080`.
        (true, None) if behind.is_empty() => Err(format!("no port; write [{inside}]:{DEFAULT_PORT}").into()),
        (true, None) => {
            let port = parse_port(behind).unwrap_or(DEFAULT_PORT);
            Err(format!("the port needs a colon before it; write [{inside}]:{port}").into())
        }
        (false, port) if inside.parse::<Ipv4Addr>().is_ok() => {
            let port = port.and_then(Result::ok).unwrap_or(DEFAULT_PORT);
            Err(format!("brackets are for IPv6; write {inside}:{port}").into())
        }
        (false, _) => Err("no IPv6 address between the brackets; write one, as in [::1]:8787".into()),
    }
}

/// Parses an IPv6 address that is followed by the name of its interface.
fn parse_scoped(inside: &str, port: u16) -> Result<SocketAddr, Problem> {
    let (ip, interface) = inside.split_once('%').ok_or(NOT_AN_ADDRESS)?;
    let ip: Ipv6Addr = ip.parse().map_err(|_| NOT_AN_ADDRESS)?;
    let scope_id = interface_number(interface, ip, port)?;
    Ok(SocketAddrV6::new(ip, port, 0, scope_id).into())
}

/// The system's number of the interface called `name`. Only Linux has files for this.
fn interface_number(name: &str, ip: Ipv6Addr, port: u16) -> Result<u32, Problem> {
    let interfaces = Path::new("/sys/class/net");
    if !interfaces.exists() {
        let problem = format!(
            "this system takes the number of an interface; write it behind the %, as in [{ip}%2]:{port}"
        );
        return Err(problem.into());
    }
    let number = fs::read_to_string(interfaces.join(name).join("ifindex"));
    number
        .ok()
        .and_then(|number| number.trim().parse().ok())
        .ok_or_else(|| "no such interface; write one that is in the output of: ip link".into())
}

/// Whether `text` is an IPv6 address, with or without an interface. Such a text is short and printable, so a remedy may
/// repeat it.
fn is_ipv6(text: &str) -> bool {
    let (ip, interface) = text.split_once('%').unwrap_or((text, "0"));
    let is_interface = (1..=INTERFACE_BYTES_MAX).contains(&interface.len())
        && interface.bytes().all(|byte| byte.is_ascii_graphic());
    is_interface && ip.parse::<Ipv6Addr>().is_ok()
}

/// The problem with a `text` that has a slash.
fn scheme_or_path(text: &str) -> Problem {
    let (what, rest) = text.split_once("://").map_or(("path", text), |(_, rest)| ("scheme", rest));
    let address = rest.split('/').next().unwrap_or(rest);
    match parse_address(address) {
        Ok(address) => format!("an address has no {what}; write {address}").into(),
        Err(_) => format!("an address has no {what}; write ADDR:PORT, such as 127.0.0.1:8787").into(),
    }
}

/// The problem with a `text` without brackets. `parts` are the texts before and after its last colon.
fn without_brackets(text: &str, parts: Option<(&str, &str)>) -> Problem {
    if text.parse::<Ipv4Addr>().is_ok() || text.eq_ignore_ascii_case("localhost") {
        return format!("no port; write {text}:{DEFAULT_PORT}").into();
    }
    if let Some((host, port)) = parts
        && is_ipv6(host)
        && parse_port(port).is_ok()
    {
        return format!("an IPv6 address needs brackets before its port; write [{host}]:{port}").into();
    }
    // Only after the form above: `::1:8787` is also a valid IPv6 address, but a port was probably meant.
    if is_ipv6(text) {
        return format!("no port; write [{text}]:{DEFAULT_PORT}").into();
    }
    let no_address =
        |port| format!("no address; write 127.0.0.1:{port}, or 0.0.0.0:{port} for every interface").into();
    if let Ok(port) = parse_port(text) {
        return no_address(port);
    }
    let Some((host, port)) = parts else { return NOT_AN_ADDRESS.into() };
    let Ok(port) = parse_port(port) else { return PORT_IS_WRONG.into() };
    // `256.0.0.1` is meant as an address, `web` as a host name.
    let is_number = |char: char| char.is_ascii_digit() || char == '.';
    if matches!(host, "" | "*") {
        no_address(port)
    } else if host.chars().all(is_number) {
        format!("not an IPv4 address; write four numbers from 0 to 255, such as 127.0.0.1:{port}").into()
    } else {
        format!("host names are not looked up; write an IP address, such as 127.0.0.1:{port}").into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_an_ip_address_or_localhost_and_a_port() {
        for (text, expected) in [
            ("127.0.0.1:8787", "127.0.0.1:8787"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("[::1]:8787", "[::1]:8787"),
            ("[::]:65535", "[::]:65535"),
            ("[fe80::1%3]:80", "[fe80::1%3]:80"),
            ("localhost:80", "127.0.0.1:80"),
            ("LocalHost:80", "127.0.0.1:80"),
        ] {
            assert_eq!(parse_address(text).map(|address| address.to_string()), Ok(expected.to_owned()));
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn interface_is_found_by_its_name() {
        // Every Linux machine has it as its first interface.
        assert_eq!(parse_address("[fe80::1%lo]:80").unwrap().to_string(), "[fe80::1%1]:80");
        for name in ["none-such", "99999999999"] {
            let problem = "no such interface; write one that is in the output of: ip link";
            assert_eq!(parse_address(&format!("[fe80::1%{name}]:80")), Err(problem.into()), "{name:?}");
        }
        for name in ["", "a\0b", "of-far-too-many-letters"] {
            let problem = "no IPv6 address between the brackets; write one, as in [::1]:8787";
            assert_eq!(parse_address(&format!("[fe80::1%{name}]:80")), Err(problem.into()), "{name:?}");
        }
    }

    #[test]
    fn each_mistake_names_its_remedy() {
        let no_port = |address: &str| format!("no port; write {address}:8787");
        let brackets =
            |address: &str| format!("an IPv6 address needs brackets before its port; write {address}");
        let no_address =
            |port| format!("no address; write 127.0.0.1:{port}, or 0.0.0.0:{port} for every interface");
        let no_host = || "host names are not looked up; write an IP address, such as 127.0.0.1:80".to_owned();
        let scheme = |address: &str| format!("an address has no scheme; write {address}");
        let example = "ADDR:PORT, such as 127.0.0.1:8787";
        for (text, problem) in [
            ("", NOT_AN_ADDRESS.to_owned()),
            ("here", NOT_AN_ADDRESS.to_owned()),
            ("65536", NOT_AN_ADDRESS.to_owned()),
            ("localhost", no_port("localhost")),
            ("127.0.0.1", no_port("127.0.0.1")),
            ("::1", no_port("[::1]")),
            ("[::1]", no_port("[::1]")),
            ("2001:db8::1", no_port("[2001:db8::1]")),
            ("fe80::1%eth0", no_port("[fe80::1%eth0]")),
            ("[fe80::1%eth0]", no_port("[fe80::1%eth0]")),
            ("::1:8787", brackets("[::1]:8787")),
            (":::8787", brackets("[::]:8787")),
            ("1:2:3:4:5:6:7:8:80", brackets("[1:2:3:4:5:6:7:8]:80")),
            ("fe80::1%eth0:80", brackets("[fe80::1%eth0]:80")),
            ("8080", no_address(8080)),
            (":8080", no_address(8080)),
            ("*:8080", no_address(8080)),
            ("127.0.0.1:", PORT_IS_WRONG.to_owned()),
            ("127.0.0.1:65536", PORT_IS_WRONG.to_owned()),
            ("127.0.0.1:http", PORT_IS_WRONG.to_owned()),
            ("127.0.0.1:80 ", PORT_IS_WRONG.to_owned()),
            ("localhost:+1", PORT_IS_WRONG.to_owned()),
            ("[::1]:http", PORT_IS_WRONG.to_owned()),
            ("[::1]8080", "the port needs a colon before it; write [::1]:8080".to_owned()),
            ("[127.0.0.1]:80", "brackets are for IPv6; write 127.0.0.1:80".to_owned()),
            ("[web]:80", "no IPv6 address between the brackets; write one, as in [::1]:8787".to_owned()),
            ("ws://127.0.0.1:9000", scheme("127.0.0.1:9000")),
            ("http://[::1]:80/", scheme("[::1]:80")),
            ("ws://web:80", scheme(example)),
            ("https://127.0.0.1", scheme(example)),
            ("127.0.0.1:80/desktop", "an address has no path; write 127.0.0.1:80".to_owned()),
            ("web/80", format!("an address has no path; write {example}")),
            ("example.com:80", no_host()),
            ("localhost.:80", no_host()),
            (
                "256.0.0.1:80",
                "not an IPv4 address; write four numbers from 0 to 255, such as 127.0.0.1:80".to_owned(),
            ),
            (
                "[fe80::1]:80",
                "this address is in every network; name the interface, as in [fe80::1%eth0]:80".to_owned(),
            ),
        ] {
            assert_eq!(parse_address(text), Err(problem.into()), "{text:?}");
        }
    }
}
