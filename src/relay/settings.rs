//! What an operator can set. The defaults are those of section 7 of the contract.

use std::time::Duration;

use ipnet::IpNet;

use crate::relay::address::{Networks, loopback};
use crate::relay::origin::Origin;

/// The settings of the relay. [`Default`] gives the contract's defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Most connections at once. A further one is answered with 503. `None` sets no limit; the host may then derive one
    /// from its file limit.
    pub max_connections: Option<usize>,
    /// Largest application message, in bytes. The sender of a larger one is closed with 1009.
    pub max_message_size: usize,
    /// Most memory, in bytes, for everything that waits for clients or has arrived only in part. At least 1 MiB.
    pub max_buffered: usize,
    /// A session ends after this long without an application message or a join.
    pub session_timeout: Duration,
    /// A session is deleted after both its clients have been gone for this long.
    pub reconnect_window: Duration,
    /// A client that comes back within this time gets what it did not confirm. With zero, a message counts as delivered
    /// once it is written, and nothing is kept for a client that is away.
    pub redelivery_window: Duration,
    /// A client that sends nothing is pinged after this long, and ended after twice as long.
    pub ping_interval: Duration,
    /// A request head must be complete within this time after the connection was accepted.
    pub handshake_timeout: Duration,
    /// A client is cut off after this long if it accepts no byte while something waits for it, or sends no byte in the
    /// middle of a message.
    pub stall_timeout: Duration,
    /// A message must arrive whole within this time after its first byte.
    pub message_timeout: Duration,
    /// Application messages per second that one client may send; `None` sets no limit.
    pub max_message_rate: Option<u32>,
    /// Bytes per second that one client may send; `None` sets no limit.
    pub max_byte_rate: Option<u64>,
    /// Most connections of one host (an IPv4 address or an IPv6 /64) at once; `None` sets no limit. Loopback and
    /// proxies are exempt, here and in the two limits below.
    pub max_connections_per_ip: Option<usize>,
    /// New connections per second from one host; `None` sets no limit.
    pub max_connection_rate: Option<u32>,
    /// Most joins per minute of one host that may fail because a secret or key is wrong or missing. A host over the
    /// limit is locked out. `None` sets no limit.
    pub max_failed_joins: Option<u32>,
    /// A client needs a pairing secret to join.
    pub require_secret: bool,
    /// If not empty: only clients with an address in these ranges are served.
    pub allow: Vec<IpNet>,
    /// Clients with an address in these ranges are not served. This wins over `allow`.
    pub deny: Vec<IpNet>,
    /// Addresses of trusted proxies: the relay believes them when they name the client.
    pub trust_proxy: Vec<IpNet>,
    /// Connections from trusted proxies begin with a PROXY protocol header. If [`trust_proxy`](Self::trust_proxy) is
    /// empty, connections from loopback do.
    pub proxy_protocol: bool,
    /// If not empty: of all pages, only those of these origins and of the relay's own host may connect.
    pub allow_origin: Vec<Origin>,
    /// Answer a message whose top-level `type` is `ping` instead of forwarding it.
    pub answer_pings: bool,
}

impl Settings {
    /// The trusted proxies, with the default for [`proxy_protocol`](Self::proxy_protocol) applied.
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
            redelivery_window: Duration::from_secs(30 * 60),
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
