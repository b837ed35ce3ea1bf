//! What a host can ask of a running server, without HTTP.

use super::{Server, read_process};
use crate::admin;
use crate::relay::{Census, Counters, Hook, Service, SessionReport};

impl Server {
    /// Asks this hook which clients may join, and tells it of joins and leaves, from now on.
    ///
    /// ```
    /// # use apptuner_relay::{Config, Hook, Member, Server};
    /// /// Lets only sessions of this team in, and counts the clients that are there.
    /// struct Team {
    ///     clients: usize,
    /// }
    ///
    /// impl Hook for Team {
    ///     fn may_join(&mut self, client: &Member<'_>) -> bool {
    ///         client.session_id.starts_with("team-")
    ///     }
    ///     fn joined(&mut self, _: &Member<'_>) {
    ///         self.clients += 1;
    ///     }
    /// }
    ///
    /// # let listen = vec![([127, 0, 0, 1], 0).into()];
    /// # let mut server = Server::bind(&Config { listen, ..Config::default() })?;
    /// server.set_hook(Box::new(Team { clients: 0 }));
    /// # Ok::<(), apptuner_relay::BindError>(())
    /// ```
    pub fn set_hook(&mut self, hook: Box<dyn Hook + Send>) {
        self.relay.set_hook(hook);
    }

    /// Whether a newcomer would be served now. A server that has stopped is [`Draining`](Service::Draining).
    #[must_use]
    pub fn service(&self) -> Service {
        if self.stopped.is_some() { Service::Draining } else { self.relay.service() }
    }

    /// How many connections there are, in whatever phase.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.relay.connections()
    }

    /// How many sessions there are, those included that wait for their clients to come back. How many of each kind
    /// tells the [census](Self::census).
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.relay.sessions()
    }

    /// How many sessions and clients there are of each kind.
    #[must_use]
    pub const fn census(&self) -> Census {
        self.relay.census()
    }

    /// Bytes of messages that wait or are half received, of which
    /// [`max_buffered`](crate::relay::Settings::max_buffered) allows so many.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.relay.buffered_bytes()
    }

    /// What the server has done since it was bound.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        self.relay.counters()
    }

    /// Reports on at most `count_max` sessions, as they were at the end of the last turn. `from` is 0 at first; the
    /// second value is what to hand in to go on, `None` at the end.
    ///
    /// A session that begins or ends between two calls may be missed; no other is. Each call looks at a bounded number
    /// of places, so it may find fewer than `count_max`, or none, and still have to go on.
    ///
    /// ```
    /// # use apptuner_relay::{Config, Server};
    /// # let listen = vec![([127, 0, 0, 1], 0).into()];
    /// # let server = Server::bind(&Config { listen, ..Config::default() })?;
    /// let (mut from, mut busiest) = (Some(0), None);
    /// while let Some(place) = from {
    ///     let (reports, next) = server.report_sessions(place, 100);
    ///     busiest = reports.into_iter().chain(busiest).max_by_key(|report| report.traffic.bytes);
    ///     from = next;
    /// }
    /// assert_eq!(busiest, None);
    /// # Ok::<(), apptuner_relay::BindError>(())
    /// ```
    #[must_use]
    pub fn report_sessions(&self, from: usize, count_max: usize) -> (Vec<SessionReport>, Option<usize>) {
        self.relay.report_sessions(from, count_max)
    }

    /// Everything that is counted, as the operator's listener answers `/metrics`: text in the format 0.0.4 of
    /// Prometheus. Takes a fraction of a millisecond, in which nobody is served.
    ///
    /// From the first call on the server also measures how long its turns take; with an operator's listener it always
    /// does.
    #[must_use]
    pub fn metrics(&mut self) -> String {
        self.are_turns_measured = true;
        let process = read_process(&self.relay, self.log_lines_dropped.as_deref());
        admin::exposition(&self.relay, &process, self.started_unix_millis)
    }
}
