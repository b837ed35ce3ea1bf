//! Clients join, are replaced, leave late or twice, send or stay away. The sessions pair the same clients, and end at
//! the same times for the same reasons, as a list of all events says.

use std::collections::BTreeMap;
use std::time::Duration;

use apptuner_relay::relay::Tick;
use apptuner_relay::relay::internals::address::Host;
use apptuner_relay::relay::internals::limits::EMPTY_SHARE;
use apptuner_relay::relay::internals::sessions::{
    Expiry, Joined, Left, Session, SessionKey, Sessions, SessionsFull,
};
use apptuner_relay::relay::{ClientType, ConnectionId, SessionId};

use super::choices::Choices;

/// Session IDs in use. Some differ only in case or in length.
const IDS: [&str; 6] = ["a", "A", "aa", "-", "_", "0"];
/// Steps of the clock, in milliseconds: around the timeouts.
const LEAPS: [u64; 8] = [0, 1, 99, 100, 101, 299, 300, 10_000];
/// Timeouts, in milliseconds. Each may be the shorter one.
const TIMEOUTS: [u64; 4] = [0, 100, 300, u64::MAX];

/// Runs the plan in `data`.
pub fn check(data: &[u8]) {
    let mut choices = Choices::new(data);
    let timeout = Duration::from_millis(choices.pick(TIMEOUTS));
    let window = Duration::from_millis(choices.pick(TIMEOUTS));
    let max = choices.below(6);
    let seed = [choices.byte().into(), 0];
    let mut both = Both {
        sessions: Sessions::new(max, timeout, window, seed),
        model: Model { open: BTreeMap::new(), max, timeout, window },
        now: Tick(0),
        members: Vec::new(),
    };
    while !choices.is_empty() {
        both.step(&mut choices);
        both.compare();
    }
    both.end_all();
}

/// The events of one session so far.
struct History {
    key: SessionKey,
    /// Joins and leaves; `None` is a client that left.
    clients: BTreeMap<ClientType, Vec<Option<ConnectionId>>>,
    last_activity: Tick,
    last_left: Tick,
    /// The host of the client that left last.
    holder: Host,
}

impl History {
    fn client(&self, client_type: ClientType) -> Option<ConnectionId> {
        self.clients.get(&client_type).and_then(|all| all.last().copied().flatten())
    }

    fn is_empty(&self) -> bool {
        self.client(ClientType::Desktop).is_none() && self.client(ClientType::Mobile).is_none()
    }
}

struct Model {
    open: BTreeMap<&'static str, History>,
    max: usize,
    timeout: Duration,
    window: Duration,
}

impl Model {
    fn due(&self, history: &History) -> (Tick, Expiry) {
        let inactive = history.last_activity.after(self.timeout);
        let empty = history.last_left.after(self.window);
        if history.is_empty() && empty < inactive {
            (empty, Expiry::Empty)
        } else {
            (inactive, Expiry::Inactive)
        }
    }
}

/// Two hosts in turn.
fn host_of(connection: ConnectionId) -> Host {
    Host::V4(connection.generation % 2)
}

/// A connection that has joined, and may have left.
#[derive(Clone, Copy)]
struct Member {
    id: &'static str,
    session: SessionKey,
    client_type: ClientType,
    connection: ConnectionId,
}

/// The sessions and the model, with the same inputs.
struct Both {
    sessions: Sessions,
    model: Model,
    now: Tick,
    members: Vec<Member>,
}

impl Both {
    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.byte() % 9 {
            0..=2 => self.join(choices),
            3 | 4 => self.leave(choices.byte()),
            5 => self.note_activity(choices.byte()),
            6 => self.make_room(),
            7 => self.now = self.now.after(Duration::from_millis(choices.pick(LEAPS))),
            _ => self.expire(choices),
        }
    }

    fn join(&mut self, choices: &mut Choices<'_>) {
        let id = choices.pick(IDS);
        let client_type = choices.pick([ClientType::Desktop, ClientType::Mobile]);
        // Slots are reused, generations are not.
        let connection =
            ConnectionId { slot: choices.below(4) as u32, generation: self.members.len() as u32 };
        let session_id = SessionId::parse(id.as_bytes()).expect("a session ID");
        let joined = self.sessions.join(&session_id, client_type, connection, self.now);
        let open = self.model.open.len();
        if open >= self.model.max && !self.model.open.contains_key(id) {
            assert_eq!(joined, Err(SessionsFull));
            return;
        }
        let session = joined.expect("there is room").session;
        let history = self.model.open.entry(id).or_insert_with(|| History {
            key: session,
            clients: BTreeMap::new(),
            last_activity: self.now,
            last_left: self.now,
            holder: host_of(connection),
        });
        let (replaced, peer) = (history.client(client_type), history.client(client_type.peer()));
        assert_eq!(joined, Ok(Joined { session: history.key, replaced, peer }));
        history.clients.entry(client_type).or_default().push(Some(connection));
        history.last_activity = self.now;
        self.members.push(Member { id, session, client_type, connection });
    }

    /// Lets any client leave that has ever joined a session that still exists.
    fn leave(&mut self, choice: u8) {
        let Some(member) = self.member(choice) else { return };
        let host = host_of(member.connection);
        let left = self.sessions.leave(member.session, member.client_type, member.connection, host, self.now);
        let history = self.model.open.get_mut(member.id).expect("an open session");
        if history.client(member.client_type) != Some(member.connection) {
            assert_eq!(left, Left::WasReplaced);
            return;
        }
        history.clients.entry(member.client_type).or_default().push(None);
        history.last_left = self.now;
        history.holder = host;
        assert_eq!(left, Left::Gone(history.client(member.client_type.peer())));
    }

    fn note_activity(&mut self, choice: u8) {
        let Some(member) = self.member(choice) else { return };
        self.sessions.note_activity(member.session, self.now);
        self.model.open.get_mut(member.id).expect("an open session").last_activity = self.now;
    }

    fn member(&self, choice: u8) -> Option<Member> {
        let index = usize::from(choice).checked_rem(self.members.len())?;
        self.members.get(index).copied()
    }

    /// Ends the sessions that are due, or any one.
    fn expire(&mut self, choices: &mut Choices<'_>) {
        let any = choices.pick(IDS);
        let is_any_ended = choices.flag();
        let is_due = |(id, history): &(&&'static str, &History)| {
            self.model.due(history).0 <= self.now || (is_any_ended && **id == any)
        };
        let due: Vec<&'static str> = self.model.open.iter().filter(is_due).map(|(id, _)| *id).collect();
        for id in due {
            let key = self.model.open.get(id).expect("an open session").key;
            let session = self.sessions.remove(key).expect("an open session");
            self.forget(id, &session);
            assert!(self.sessions.remove(key).is_none(), "only once");
            assert!(!self.sessions.contains(key));
        }
    }

    /// Ends the session that has been empty for longest, if there is one. If a host has more than its share, only its
    /// sessions count.
    fn make_room(&mut self) {
        let ended = self.sessions.remove_longest_empty();
        let empty = || self.model.open.values().filter(|history| history.is_empty());
        assert_eq!(ended.is_some(), empty().next().is_some(), "one is empty");
        let Some(session) = ended else { return };
        let (&id, history) = self.model.open.get_key_value(session.id.as_str()).expect("an open session");
        assert!(history.is_empty(), "{id} is empty");
        let share = (self.model.max / EMPTY_SHARE).max(1);
        let is_over = |host| empty().filter(|of| of.holder == host).count() > share;
        let is_any_over = empty().any(|of| is_over(of.holder));
        assert_eq!(is_over(history.holder), is_any_over, "who holds more than its share loses first");
        let others = empty().filter(|of| !is_any_over || of.holder == history.holder);
        let longest = others.map(|of| of.last_left).min();
        assert_eq!(Some(history.last_left), longest, "{id} has been empty for longest");
        self.forget(id, &session);
    }

    /// Notes that the session with `id` has ended.
    fn forget(&mut self, id: &'static str, session: &Session) {
        let history = self.model.open.remove(id).expect("an open session");
        assert_eq!(session.id.as_str(), id);
        for client_type in [ClientType::Desktop, ClientType::Mobile] {
            assert_eq!(session.client(client_type), history.client(client_type));
        }
        // Its key may soon belong to another session, so its clients drop it.
        self.members.retain(|member| member.id != id);
    }

    fn compare(&self) {
        assert_eq!(self.sessions.len(), self.model.open.len());
        assert_eq!(self.sessions.is_empty(), self.model.open.is_empty());
        for (id, history) in &self.model.open {
            let session = self.sessions.get(history.key).expect("an open session");
            assert_eq!(session.id.as_str(), *id);
            for client_type in [ClientType::Desktop, ClientType::Mobile] {
                assert_eq!(session.client(client_type), history.client(client_type));
                let peer = self.sessions.peer(history.key, client_type);
                assert_eq!(peer, history.client(client_type.peer()), "the peer of {client_type:?} in {id}");
            }
            assert_eq!(self.sessions.due(history.key), Some(self.model.due(history)), "when {id} ends");
        }
        #[cfg(debug_assertions)]
        {
            self.sessions.check_invariants();
            let clients = |history: &History| {
                let both = [ClientType::Desktop, ClientType::Mobile];
                both.into_iter().filter(|client_type| history.client(*client_type).is_some()).count()
            };
            let members = self.model.open.values().map(clients).sum::<usize>() as u64;
            assert_eq!(self.sessions.census().clients.iter().sum::<u64>(), members);
        }
    }

    /// As in a shutdown: ends each session once, in the order of keys, which stays the same while none begins.
    fn end_all(mut self) {
        let keys: Vec<SessionKey> = self.sessions.keys().collect();
        assert!(keys.is_sorted(), "in order: {keys:?}");
        let mut ended = BTreeMap::new();
        for key in keys {
            let session = self.sessions.remove(key).expect("one that is listed");
            assert!(self.sessions.remove(key).is_none(), "no other one takes its key");
            ended.insert(session.id.as_str().to_owned(), session.is_empty());
        }
        let open = self.model.open.iter().map(|(id, history)| ((*id).to_owned(), history.is_empty()));
        assert!(ended.into_iter().eq(open), "all end");
        assert!(self.sessions.is_empty());
    }
}
