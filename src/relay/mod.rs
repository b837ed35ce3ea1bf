//! The relay itself, without sockets, clocks, threads or randomness. Bytes, readiness and the time come in; effects
//! go out. The same inputs give the same outputs, byte for byte.
//!
//! The documentation of [`Relay`] says how to drive it, and what it expects of a stream.
//!
//! # Words
//!
//! | word | meaning in this code |
//! | --- | --- |
//! | contract | `src/guide/protocol.md`: what clients, operators and tests may rely on |
//! | host | the program around the relay. Of a client (`Host`): the IPv4 address or IPv6 /64 that it comes from |
//! | connection | one accepted stream, from its first byte to its end, whatever it asks for |
//! | client | a connection that has joined a session |
//! | client type | the side of a session that a client takes: desktop or mobile |
//! | place | one side of one session; at most one client has it |
//! | peer | the client in the other place of the same session |
//! | claim | the secret that joining a session needs, once a client has brought one |
//! | gate | decides from addresses, secrets and keys whether a connection is served and a client may join |
//! | turn | one call of [`handle_turn`](Relay::handle_turn); the time does not change during it |
//! | touched | of a connection: it is flushed, and its timers are set, at the end of the turn |
//! | alarm | a scheduled timer: its deadline, and the key that cancels it |
//! | held | of a client (`Hold`): not read for now, because of its peer, its rate or the memory |
//! | message in transit | a message too long to be copied to its receiver at once; it is kept once for all receivers |
//! | released | of a message in transit: enough of it has been checked, so its receivers may get it |
//! | cursor | how far one receiver has got in a message in transit |
//! | chunk, piece | a unit of memory of 64 KiB; a part of a message in transit, in a chunk or in memory of its size |
//! | written | of a message: the client's stream has taken all of it |
//! | confirmed | of a written message: the client has answered a ping behind it |
//! | kept | of a message: in memory until it is confirmed, for a client that is connected, or *away* but expected |
//! | cached | of memory: it holds only what is kept, and gives way when memory is needed |
//! | given up | of a message: no longer kept, and it will not be delivered |
//! | budget | all memory for messages: `--max-buffered` |
//!
//! # Layers
//!
//! Each row may import only from the rows above it. `tests/house.rs` checks that.
//!
//! | module | its one job |
//! | --- | --- |
//! | `ids`, `time`, `readiness`, `effect`, `address`, `origin` | types that the relay shares with its host |
//! | `limits`, `settings` | every bound, and what an operator can set |
//! | `tables` | the timing wheel, keyed hashes, linked lists in a slab, rate meters |
//! | `access` | who may connect, and how often: limits per address |
//! | `wire` | frames, close codes, system messages, the check of UTF-8 and JSON: bytes to values |
//! | `http` | from the request head to a verdict; all answers in HTTP |
//! | `memory` | the budget of all memory for messages, and its chunks |
//! | `transit` | messages in transit: chunks, and a cursor or a keeper for each receiver |
//! | `client` | one connection: phases, what is due, inbound, outbox, pace |
//! | `sessions` | which clients are peers; what is kept for those that are away; when a session is due to end |
//! | `counts` | counters, histograms, and why connections end |
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
        close_reason = wire::close_reason;
        connection = client::connection;
        credentials = access::credentials;
        frame = wire::frame;
        hosts = access::host_limits;
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
