//! The relay's counters that the model can check from outside.

use apptuner_relay::relay::Counters;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub connections_accepted: u64,
    pub joins: u64,
    pub requests_refused: u64,
    pub messages_accepted: u64,
    pub bytes_accepted: u64,
    pub errors_sent: u64,
    pub messages_delivered: u64,
    pub messages_undelivered: u64,
    pub messages_cut_short: u64,
    pub messages_confirmed: u64,
    pub messages_redelivered: u64,
    pub messages_given_up: u64,
}

impl Totals {
    pub fn of(counters: &Counters) -> Self {
        Self {
            connections_accepted: counters.connections_accepted,
            joins: counters.joins.iter().sum(),
            requests_refused: counters.requests_refused.iter().sum(),
            messages_accepted: counters.messages_accepted.iter().sum(),
            bytes_accepted: counters.bytes_accepted.iter().sum(),
            errors_sent: counters.errors_sent.iter().sum(),
            messages_delivered: counters.messages_delivered.iter().sum(),
            messages_undelivered: counters.messages_undelivered.iter().sum(),
            messages_cut_short: counters.messages_cut_short.iter().sum(),
            messages_confirmed: counters.messages_confirmed.iter().sum(),
            messages_redelivered: counters.messages_redelivered.iter().sum(),
            messages_given_up: counters.messages_given_up.iter().sum(),
        }
    }
}
