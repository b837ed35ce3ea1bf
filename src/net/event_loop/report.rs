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

    /// Whether a new connection would be served now. A server that has stopped is [`Draining`](Service::Draining).
    #[must_use]
    pub fn service(&self) -> Service {
        if self.stopped.is_some() { Service::Draining } else { self.relay.service() }
    }

    /// How many connections there are, in all phases.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.relay.connections()
    }

    /// How many sessions there are, including empty ones whose clients may come back. The [census](Self::census)
    /// gives the number of each kind.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.relay.sessions()
    }

    /// How many sessions and clients there are of each kind.
    #[must_use]
    pub const fn census(&self) -> Census {
        self.relay.census()
    }

    /// Bytes of memory that queued and half received messages use. The limit is
    /// [`max_buffered`](crate::relay::Settings::max_buffered).
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.relay.buffered_bytes()
    }

    /// What the server has done since it was bound.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        self.relay.counters()
    }

    /// Reports on at most `count_max` sessions, as they were at the end of the last turn. Begin with `from` 0. The
    /// second value is the `from` of the next call, or `None` at the end.
    ///
    /// Only a session that begins or ends between two calls may be missed. Each call looks at a bounded number of
    /// places in the table, so it may return fewer reports than `count_max`, or none, before the end.
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

    /// All metrics, as the operator's listener serves them at `/metrics`: Prometheus's text format 0.0.4. Takes a
    /// fraction of a millisecond, during which no client is served.
    ///
    /// From the first call on the server also measures how long its turns take. With an operator's listener it always
    /// does.
    #[must_use]
    pub fn metrics(&mut self) -> String {
        self.are_turns_measured = true;
        let process = read_process(&self.relay, self.log_lines_dropped.as_deref());
        admin::exposition(&self.relay, &process, self.started_unix_millis)
    }
}
