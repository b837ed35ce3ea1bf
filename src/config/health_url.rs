//! The target of a health check.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::bounds::DEFAULT_PORT;
use super::error::Problem;
use super::listen_address::ListenAddress;
use super::settings::{Config, TlsFiles};
use super::socket_address::parse_address;
use crate::relay::address::{ClientAddress, Networks};

/// A health check of a relay that runs with the settings of this command line and environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// The relay to ask.
    pub url: HealthUrl,
    /// Addresses whose connections must begin with a PROXY protocol header.
    proxies: Networks,
}

impl HealthCheck {
    /// A check of `url`, or without one of the configuration's first listener.
    pub(super) fn new(url: Option<HealthUrl>, config: &Config) -> Self {
        let mut url = url.unwrap_or_else(|| HealthUrl::of_listener(config));
        // The operator's listener uses neither TLS nor the PROXY protocol.
        let is_operators = config.admin.as_ref() == Some(&url.address);
        // `unix:/PATH` does not say whether the relay speaks TLS; the settings do.
        if matches!(url.address, ListenAddress::Unix(_)) {
            url.is_tls = config.tls != TlsFiles::default() && !is_operators;
        }
        let has_header = config.relay.proxy_protocol && !is_operators;
        Self { url, proxies: if has_header { config.relay.proxies() } else { Networks::default() } }
    }

    /// Whether a connection from `source` must begin with a PROXY protocol header.
    #[must_use]
    pub fn needs_proxy_header(&self, source: IpAddr) -> bool {
        self.proxies.contains(ClientAddress::new(source))
    }
}

/// `http://ADDR:PORT/path` or `https://ADDR:PORT/path`, where the path may be left out, or `unix:/PATH` for a
/// Unix-domain socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthUrl {
    /// The relay's address.
    pub address: ListenAddress,
    /// Whether the relay speaks TLS.
    pub is_tls: bool,
    /// The path to request.
    pub path: String,
}

impl HealthUrl {
    /// The default path: the public health check.
    const PATH: &str = "/health";

    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        if text.starts_with(ListenAddress::UNIX) {
            let address = ListenAddress::parse(text)?;
            return Ok(Self { address, is_tls: false, path: Self::PATH.to_owned() });
        }
        let Some((scheme @ ("http" | "https"), rest)) = text.split_once("://") else {
            return Err(
                "not a URL; write http://ADDR:PORT/health, or https:// where the relay speaks TLS".into()
            );
        };
        let is_tls = scheme == "https";
        if is_tls && !cfg!(feature = "tls") {
            return Err("this build has no TLS; build with: cargo build --release --features tls".into());
        }
        let (address, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the path has a character that is not printable ASCII; write a blank as %20".into());
        }
        let path = if path.is_empty() { Self::PATH } else { path };
        Ok(Self { address: parse_address(address)?.into(), is_tls, path: path.to_owned() })
    }

    /// The first listener of a configuration, as this machine reaches it.
    fn of_listener(config: &Config) -> Self {
        let default = || ([127, 0, 0, 1], DEFAULT_PORT).into();
        let mut address = config.listen.first().cloned().unwrap_or_else(default);
        if let ListenAddress::Tcp(address) = &mut address
            && address.ip().is_unspecified()
        {
            // `[::]` accepts IPv4 as well, and only IPv4 if the system has no IPv6.
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        Self { address, is_tls: config.tls != TlsFiles::default(), path: Self::PATH.to_owned() }
    }
}

impl fmt::Display for HealthUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            ListenAddress::Tcp(address) => {
                write!(f, "{}://{address}{}", if self.is_tls { "https" } else { "http" }, self.path)
            }
            address @ ListenAddress::Unix(_) => write!(f, "{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_an_address_and_an_optional_path() {
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
            "ws://127.0.0.1:8787",
            "https://relay:80",
            "http://relay:80",
            "unix:x",
            "http://127.0.0.1:80/a b",
        ] {
            assert!(HealthUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn check_uses_tls_and_the_proxy_protocol_as_the_listener_does() {
        let check = |url: Option<&str>, edit: fn(&mut Config)| {
            let mut config = Config::default();
            edit(&mut config);
            HealthCheck::new(url.map(|url| HealthUrl::parse(url).unwrap()), &config)
        };
        let with_tls = |config: &mut Config| config.tls.cert = Some("x".into());
        assert!(!check(None, |_| {}).url.is_tls);
        assert!(check(None, with_tls).url.is_tls);
        assert!(check(Some("unix:/relay"), with_tls).url.is_tls, "a unix: URL takes it from the settings");
        assert!(!check(Some("http://127.0.0.1:80"), with_tls).url.is_tls, "other URLs have a scheme");
        if cfg!(feature = "tls") {
            let check = check(Some("https://127.0.0.1:80"), |_| {});
            assert_eq!(check.url.to_string(), "https://127.0.0.1:80/health");
        } else {
            assert!(HealthUrl::parse("https://127.0.0.1:80").is_err());
        }

        let needs = |url, edit, source: &str| check(url, edit).needs_proxy_header(source.parse().unwrap());
        let behind_proxy = |config: &mut Config| config.relay.proxy_protocol = true;
        let behind_another = |config: &mut Config| {
            config.relay.proxy_protocol = true;
            config.relay.trust_proxy = vec!["192.0.2.0/24".parse().unwrap()];
            config.admin = Some(([127, 0, 0, 1], 9787).into());
        };
        assert!(!needs(None, |_| {}, "127.0.0.1"));
        assert!(needs(None, behind_proxy, "127.0.0.1") && needs(None, behind_proxy, "::1"));
        assert!(needs(Some("http://127.0.0.1:80"), behind_proxy, "127.0.0.1"));
        assert!(!needs(None, behind_another, "127.0.0.1") && needs(None, behind_another, "192.0.2.1"));
        assert!(!needs(Some("http://127.0.0.1:9787/readyz"), behind_another, "192.0.2.1"), "the operator's");
    }

    #[test]
    fn listener_on_all_interfaces_is_checked_on_loopback() {
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
