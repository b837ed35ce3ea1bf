//! Clients join, are replaced, leave late or twice, send or stay away, and messages are kept for them. The sessions
//! pair the same clients, expect the same ones and end at the same times for the same reasons, as a list of all events
//! says.

use std::collections::BTreeMap;
use std::time::Duration;

use apptuner_relay::relay::Tick;
use apptuner_relay::relay::internals::address::Host;
use apptuner_relay::relay::internals::frame::Opcode;
use apptuner_relay::relay::internals::limits::EMPTY_SHARE;
use apptuner_relay::relay::internals::outbox::{Pool, Undelivered};
use apptuner_relay::relay::internals::sessions::{
    Expiry, Joined, Left, Session, SessionDue, SessionKey, SessionTimes, Sessions, SessionsFull,
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
    let session_timeout = Duration::from_millis(choices.pick(TIMEOUTS));
    let reconnect_window = Duration::from_millis(choices.pick(TIMEOUTS));
    let max = choices.below(6);
    let seed = choices.byte();
    // From bits of the seed, so that inputs from before there was a window have the shortest one.
    let redelivery_window = Duration::from_millis(TIMEOUTS[usize::from(seed >> 6)]);
    let times = SessionTimes { session_timeout, reconnect_window, redelivery_window };
    let mut both = Both {
        sessions: Sessions::new(max, times, [seed.into(), 0]),
        pool: Pool::default(),
        model: Model { open: BTreeMap::new(), max, times },
        now: Tick(0),
        members: Vec::new(),
        departures: 0,
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
    /// Messages were kept in it when its last client left.
    is_keeping: bool,
    /// The places whose client may come back.
    away: BTreeMap<ClientType, Away>,
}

/// A place whose client has left.
struct Away {
    left_at: Tick,
    /// How many departures there were before this one.
    turn: usize,
    kept: u64,
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
    times: SessionTimes,
}

impl Model {
    fn due(&self, history: &History) -> (Tick, SessionDue) {
        let with_kept = history.away.iter().filter(|(_, away)| away.kept > 0);
        let windows = with_kept.map(|(client_type, away)| {
            (away.left_at.after(self.times.redelivery_window), SessionDue::Kept(*client_type))
        });
        if let Some(first) = windows.min_by_key(|(until, _)| *until) {
            return first;
        }
        let inactive = history.last_activity.after(self.times.session_timeout);
        let empty = history.last_left.after(self.times.reconnect_window);
        let (at, expiry) = if history.is_empty() && empty < inactive {
            (empty, Expiry::Empty)
        } else {
            (inactive, Expiry::Inactive)
        };
        (at, SessionDue::End(expiry))
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
    /// The memory of what is kept.
    pool: Pool,
    model: Model,
    now: Tick,
    members: Vec<Member>,
    /// How many clients have left that are expected to come back.
    departures: usize,
}

impl Both {
    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.byte() % 12 {
            0..=2 => self.join(choices),
            3 | 4 => self.leave(choices.byte()),
            5 => self.note_activity(choices.byte()),
            6 => self.make_room(),
            7 => self.now = self.now.after(Duration::from_millis(choices.pick(LEAPS))),
            8 => self.expire(choices),
            9 => self.leave_messages(choices),
            10 => self.keep(choices),
            _ => self.evict(),
        }
    }

    fn join(&mut self, choices: &mut Choices<'_>) {
        let id = choices.pick(IDS);
        let client_type = choices.pick([ClientType::Desktop, ClientType::Mobile]);
        // Slots are reused, generations are not.
        let connection =
            ConnectionId { slot: choices.below(4) as u32, generation: self.members.len() as u32 };
        let session_id = SessionId::parse(id.as_bytes()).expect("a session ID");
        if let Some(key) = self.sessions.find(&session_id) {
            self.take_kept(id, key, client_type);
        }
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
            is_keeping: false,
            away: BTreeMap::new(),
        });
        let (replaced, peer) = (history.client(client_type), history.client(client_type.peer()));
        assert_eq!(joined, Ok(Joined { session: history.key, replaced, peer }));
        history.clients.entry(client_type).or_default().push(Some(connection));
        history.last_activity = self.now;
        self.members.push(Member { id, session, client_type, connection });
    }

    /// Lets any client leave that has ever joined a session that still exists.
    fn leave(&mut self, choice: u8) {
        self.leave_with(choice, None);
    }

    /// Lets such a client leave that is expected to come back, perhaps with messages that it has not confirmed.
    fn leave_messages(&mut self, choices: &mut Choices<'_>) {
        let choice = choices.byte();
        self.leave_with(choice, Some(choices.below(3) as u64));
    }

    /// A client leaves. If it is expected to come back, so many messages are kept for it.
    fn leave_with(&mut self, choice: u8, messages: Option<u64>) {
        let Some(member) = self.member(choice) else { return };
        let host = host_of(member.connection);
        // Only a client that has its place has messages.
        let is_there = self.model.open[member.id].client(member.client_type) == Some(member.connection);
        let messages = messages.filter(|_| is_there);
        let kept = messages.map(|messages| {
            let mut kept = Undelivered::default();
            for _ in 0..messages {
                kept.push_small(&mut self.pool.transits, Opcode::Text, b"unconfirmed", 0);
            }
            kept
        });
        let with = (host, kept);
        let left = self.sessions.leave(member.session, member.client_type, member.connection, with, self.now);
        let history = self.model.open.get_mut(member.id).expect("an open session");
        if history.client(member.client_type) != Some(member.connection) {
            assert_eq!(left, Left::WasReplaced);
            return;
        }
        history.clients.entry(member.client_type).or_default().push(None);
        history.last_left = self.now;
        history.holder = host;
        if let Some(kept) = messages {
            let away = Away { left_at: self.now, turn: self.departures, kept };
            self.departures += 1;
            history.away.insert(member.client_type, away);
        }
        history.is_keeping = history.away.values().any(|away| away.kept > 0);
        assert_eq!(left, Left::Gone(history.client(member.client_type.peer())));
    }

    fn note_activity(&mut self, choice: u8) {
        let Some(member) = self.member(choice) else { return };
        self.sessions.note_activity(member.session, self.now);
        self.model.open.get_mut(member.id).expect("an open session").last_activity = self.now;
    }

    /// Keeps a message for a client that is expected.
    fn keep(&mut self, choices: &mut Choices<'_>) {
        let id = choices.pick(IDS);
        let client_type = choices.pick([ClientType::Desktop, ClientType::Mobile]);
        let Some(history) = self.model.open.get_mut(id) else { return };
        let kept = self.sessions.expected(history.key, client_type, self.now);
        let is_expected = |away: &Away| self.now < away.left_at.after(self.model.times.redelivery_window);
        let away = history.away.get_mut(&client_type).filter(|away| is_expected(away));
        assert_eq!(kept.is_some(), away.is_some(), "{id} expects a {client_type:?}");
        if let Some((kept, away)) = kept.zip(away) {
            kept.push_small(&mut self.pool.transits, Opcode::Binary, b"message", 0);
            away.kept += 1;
        }
    }

    /// Gives up the messages for the client that has been gone for longest.
    fn evict(&mut self) {
        let found = self.sessions.longest_gone();
        let all = self.model.open.iter_mut().flat_map(|(_, history)| {
            let key = history.key;
            history.away.iter_mut().map(move |(client_type, away)| ((key, *client_type), away))
        });
        let expected = all.filter(|(_, away)| away.kept > 0).min_by_key(|(_, away)| away.turn);
        assert_eq!(found, expected.as_ref().map(|(place, _)| *place), "who has been gone for longest");
        if let Some(((key, client_type), away)) = expected {
            let kept = self.sessions.kept_mut(key, client_type).expect("something is kept");
            away.kept -= kept.evict(&mut self.pool);
        }
    }

    /// Discards what is kept for a place, whose client is no longer expected.
    fn take_kept(&mut self, id: &str, key: SessionKey, client_type: ClientType) {
        let kept = self.sessions.take_kept(key, client_type).discard(&mut self.pool);
        let history = self.model.open.get_mut(id).expect("an open session");
        assert_eq!(kept, history.away.remove(&client_type).map_or(0, |away| away.kept), "what was kept");
    }

    /// Ends a session after what is kept in it is discarded.
    fn remove(&mut self, id: &'static str) {
        let key = self.model.open.get(id).expect("an open session").key;
        for client_type in [ClientType::Desktop, ClientType::Mobile] {
            self.take_kept(id, key, client_type);
        }
        let session = self.sessions.remove(key).expect("an open session");
        self.forget(id, &session);
        assert!(self.sessions.remove(key).is_none(), "only once");
        assert!(!self.sessions.contains(key));
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
            let history = self.model.open.get(id).expect("an open session");
            match self.model.due(history) {
                (at, SessionDue::Kept(client_type)) if at <= self.now => {
                    self.take_kept(id, history.key, client_type);
                }
                _ => self.remove(id),
            }
        }
    }

    /// Ends the session that has been empty for longest, if there is one. If a host has more than its share, only its
    /// sessions count.
    fn make_room(&mut self) {
        let ended = self.sessions.longest_empty();
        let empty = || self.model.open.values().filter(|history| history.is_empty());
        assert_eq!(ended.is_some(), empty().next().is_some(), "one is empty");
        let Some(key) = ended else { return };
        let is_it = |(_, history): &(&&str, &History)| history.key == key;
        let (&id, history) = self.model.open.iter().find(is_it).expect("an open session");
        assert!(history.is_empty(), "{id} is empty");
        let share = (self.model.max / EMPTY_SHARE).max(1);
        let is_over = |host| empty().filter(|of| of.holder == host).count() > share;
        let is_any_over = empty().any(|of| is_over(of.holder));
        assert_eq!(is_over(history.holder), is_any_over, "who holds more than its share loses first");
        let others = empty().filter(|of| !is_any_over || of.holder == history.holder);
        let longest = others.map(|of| (of.is_keeping, of.last_left)).min();
        let own = (history.is_keeping, history.last_left);
        assert_eq!(Some(own), longest, "{id} keeps nothing and has been empty for longest");
        self.remove(id);
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
            let is_any_kept = history.away.values().any(|away| away.kept > 0);
            assert_eq!(self.sessions.kept_bytes(session) > 0, is_any_kept, "what {id} keeps");
        }
        #[cfg(debug_assertions)]
        {
            self.sessions.check_invariants();
            let counted = self.sessions.all_kept().map(|(_, kept)| kept.messages()).sum::<u64>();
            let away = self.model.open.values().flat_map(|history| history.away.values());
            assert_eq!(counted, away.map(|away| away.kept).sum::<u64>(), "all that is kept");
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
            for client_type in [ClientType::Desktop, ClientType::Mobile] {
                self.sessions.take_kept(key, client_type).discard(&mut self.pool);
            }
            let session = self.sessions.remove(key).expect("one that is listed");
            assert!(self.sessions.remove(key).is_none(), "no other one takes its key");
            ended.insert(session.id.as_str().to_owned(), session.is_empty());
        }
        let open = self.model.open.iter().map(|(id, history)| ((*id).to_owned(), history.is_empty()));
        assert!(ended.into_iter().eq(open), "all end");
        assert!(self.sessions.is_empty());
        assert_eq!(self.pool.transits.memory.used_bytes(), 0, "bytes left on the account");
    }
}
