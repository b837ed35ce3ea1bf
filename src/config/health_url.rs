//! Where a health check asks.

use std::fmt;
use std::net::Ipv4Addr;

use super::error::Problem;
use super::{Config, DEFAULT_PORT, ListenAddress, units};

/// `http://ADDR:PORT/path`, of which only the scheme and the address are needed, or `unix:/PATH` of a
/// Unix-domain socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthUrl {
    /// The relay.
    pub address: ListenAddress,
    /// What to ask it for.
    pub path: String,
}

impl HealthUrl {
    /// The public health check.
    const PATH: &str = "/health";

    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        if text.starts_with(ListenAddress::UNIX) {
            return Ok(Self { address: ListenAddress::parse(text)?, path: Self::PATH.to_owned() });
        }
        let Some(rest) = text.strip_prefix("http://") else {
            return Err("not a URL; write http://ADDR:PORT/health, for TLS is not spoken here".into());
        };
        let (address, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the path is not of printable ASCII characters; write them as %20".into());
        }
        let path = if path.is_empty() { Self::PATH } else { path };
        Ok(Self { address: units::parse_address(address)?.into(), path: path.to_owned() })
    }

    /// The first listener of a configuration, asked from the machine that it runs on.
    pub(super) fn of_listener(config: &Config) -> Self {
        let default = || ([127, 0, 0, 1], DEFAULT_PORT).into();
        let mut address = config.listen.first().cloned().unwrap_or_else(default);
        if let ListenAddress::Tcp(address) = &mut address
            && address.ip().is_unspecified()
        {
            // `[::]` takes IPv4, too, and where there is no IPv6 nothing else.
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        Self { address, path: Self::PATH.to_owned() }
    }
}

impl fmt::Display for HealthUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            ListenAddress::Tcp(address) => write!(f, "http://{address}{}", self.path),
            address @ ListenAddress::Unix(_) => write!(f, "{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_an_address_and_a_path_that_may_be_left_out() {
        for (text, shown) in [
            ("http://127.0.0.1:8787", "http://127.0.0.1:8787/health"),
            ("http://127.0.0.1:8787/", "http://127.0.0.1:8787/"),
            ("http://[::1]:80/readyz?x", "http://[::1]:80/readyz?x"),
            ("http://localhost:80", "http://127.0.0.1:80/health"),
            ("unix:/run/relay.sock", "unix:/run/relay.sock"),
        ] {
            assert_eq!(HealthUrl::parse(text).unwrap().to_string(), shown);
        }
        for text in [
            "",
            "127.0.0.1:8787",
            "https://127.0.0.1:8787",
            "http://relay:80",
            "unix:x",
            "http://127.0.0.1:80/a b",
        ] {
            assert!(HealthUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_listener_on_all_interfaces_is_asked_on_loopback() {
        for (listen, shown) in [
            ("0.0.0.0:3000", "http://127.0.0.1:3000/health"),
            ("[::]:3000", "http://127.0.0.1:3000/health"),
            ("192.0.2.1:80", "http://192.0.2.1:80/health"),
            ("unix:/run/relay.sock", "unix:/run/relay.sock"),
        ] {
            let config = Config { listen: vec![ListenAddress::parse(listen).unwrap()], ..Config::default() };
            assert_eq!(HealthUrl::of_listener(&config).to_string(), shown);
        }
    }
}
