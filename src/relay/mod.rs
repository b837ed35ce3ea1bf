//! The relay itself, without socket, clock, thread or randomness: bytes, readiness and the time come in, effects go
//! out. The same inputs give the same outputs, byte for byte.
//!
//! Each row may use only the rows above it. `tests/house.rs` checks it.
//!
//! | module | its one job |
//! | --- | --- |
//! | `ids`, `time`, `readiness`, `effect`, `address`, `origin` | words that the relay shares with its host |
//! | `limits`, `settings` | every bound, and what an operator can set |
//! | `tables` | the timing wheel, keyed hashes, idle orders, rate meters |
//! | `access` | who may connect |
//! | `wire` | frames, system messages, the check of JSON: bytes to values |
//! | `http` | the request head, once parsed, to a verdict; all answers in HTTP |
//! | `memory` | the budget of all memory for messages, and its chunks |
//! | `transit` | messages in transit: chunks, and a cursor for each receiver |
//! | `client` | one connection: phases, what is due, inbound, outbox, pace |
//! | `sessions` | who is whose peer |
//! | `counts` | counters, histograms, reasons for an end |
//! | `hook` | what a host may decide and hear about clients |
//! | `core` | [`Relay`] and its parts |

pub(crate) mod access;
pub(crate) mod address;
pub(crate) mod client;
pub(crate) mod core;
pub(crate) mod counts;
pub(crate) mod effect;
pub(crate) mod hook;
pub(crate) mod http;
pub(crate) mod ids;
pub(crate) mod limits;
pub(crate) mod memory;
pub(crate) mod origin;
pub(crate) mod readiness;
pub(crate) mod sessions;
pub(crate) mod settings;
pub(crate) mod tables;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod time;
pub(crate) mod transit;
pub(crate) mod wire;

pub use self::core::{Relay, Service, SessionReport, Shutdown};
pub use access::address_rules::AddressRules;
pub use access::api_keys::ApiKeys;
pub use client::outbox::Backlog;
pub use counts::counters::Counters;
pub use counts::end_reason::EndReason;
pub use counts::histogram::Histogram;
pub use effect::Effect;
pub use hook::{Hook, Member};
pub use http::RefusalReason;
pub use ids::{ClientType, ConnectionId, SessionId};
pub use ipnet::IpNet;
pub use origin::Origin;
pub use readiness::Readiness;
pub use sessions::{Census, SessionState, Traffic};
pub use settings::Settings;
pub use time::{Now, Tick};
pub use wire::message::ClientError;

/// The parts of the relay, for fuzz targets, benchmarks and tests. Nothing here is stable.
#[doc(hidden)]
pub mod internals {
    macro_rules! publish {
        ($($name:ident = $($path:ident)::+;)*) => {
            $(pub mod $name { pub use crate::relay::$($path)::+::*; })*
        };
    }

    publish! {
        address = address;
        address_rules = access::address_rules;
        connection = client::connection;
        credentials = access::credentials;
        frame = wire::frame;
        hosts = access::hosts;
        http = http;
        inbound = client::inbound;
        json = wire::json;
        limits = limits;
        memory = memory;
        message = wire::message;
        outbox = client::outbox;
        proxy_header = http::proxy_header;
        secret = access::secret;
        sessions = sessions;
        time = time;
        transit = transit;
        wheel = tables::wheel;
    }
}
