//! What an operator can set, with the contract's defaults.

use std::time::Duration;

use ipnet::IpNet;

use crate::relay::address::{Networks, loopback};
use crate::relay::origin::Origin;

/// What an operator may set of the pure engine. [`Default`] gives the contract's defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Connections served at once; one more is answered with 503. `None` sets no limit, or leaves
    /// it to the host to derive one.
    pub max_connections: Option<usize>,
    /// Largest application message, in bytes; a larger one ends its connection with 1009.
    pub max_message_size: usize,
    /// Most bytes of memory for everything that waits for clients or is half received; at least
    /// 1 MiB.
    pub max_buffered: usize,
    /// A session without an application message or a join for this long ends.
    pub session_timeout: Duration,
    /// A session both of whose clients have been gone for this long is forgotten.
    pub reconnect_window: Duration,
    /// An otherwise silent client is pinged after this long, and ended after twice as long.
    pub ping_interval: Duration,
    /// A request head must be complete this long after the connection was accepted.
    pub handshake_timeout: Duration,
    /// A client that takes no byte for this long while something waits for it is cut off, and so
    /// is one that stands still for this long in the middle of a message.
    pub stall_timeout: Duration,
    /// A message must have arrived whole this long after its first byte.
    pub message_timeout: Duration,
    /// Application messages per second that one client may send; `None` sets no limit.
    pub max_message_rate: Option<u32>,
    /// Bytes per second that one client may send; `None` sets no limit.
    pub max_byte_rate: Option<u64>,
    /// Connections that one host, an IPv4 address or an IPv6 /64, may have at once; `None` sets no limit. Here
    /// and in the two limits below, loopback and proxies are exempt.
    pub max_connections_per_ip: Option<usize>,
    /// New connections per second from one host; `None` sets no limit.
    pub max_connection_rate: Option<u32>,
    /// Joins per minute that one host may fail at for want of a secret or key before it is locked out;
    /// `None` sets no limit.
    pub max_failed_joins: Option<u32>,
    /// Nobody joins without a pairing secret.
    pub require_secret: bool,
    /// Only clients from these ranges are served, if there are any.
    pub allow: Vec<IpNet>,
    /// Clients from these ranges are not served, even where they are allowed.
    pub deny: Vec<IpNet>,
    /// Proxies, which are believed when they say where a client comes from.
    pub trust_proxy: Vec<IpNet>,
    /// Connections from proxies begin with a PROXY protocol header. Without [`trust_proxy`](Self::trust_proxy)
    /// those from loopback do.
    pub proxy_protocol: bool,
    /// Pages of these origins may connect, if there are any; else all may.
    pub allow_origin: Vec<Origin>,
    /// Answer a message whose top-level `type` is `ping` rather than forward it.
    pub answer_pings: bool,
}

impl Settings {
    /// The proxies that are believed when they name a client.
    #[must_use]
    pub fn proxies(&self) -> Networks {
        if self.proxy_protocol && self.trust_proxy.is_empty() {
            return Networks::new(&loopback());
        }
        Networks::new(&self.trust_proxy)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_connections: None,
            max_message_size: 64 << 20,
            max_buffered: 256 << 20,
            session_timeout: Duration::from_secs(30 * 60),
            reconnect_window: Duration::from_secs(5 * 60),
            ping_interval: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(60),
            message_timeout: Duration::from_secs(5 * 60),
            max_message_rate: None,
            max_byte_rate: None,
            max_connections_per_ip: None,
            max_connection_rate: None,
            max_failed_joins: Some(30),
            require_secret: false,
            allow: Vec::new(),
            deny: Vec::new(),
            trust_proxy: Vec::new(),
            proxy_protocol: false,
            allow_origin: Vec::new(),
            answer_pings: false,
        }
    }
}
