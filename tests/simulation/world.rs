//! Runs a plan: the real relay with the plan's clients, and the model beside it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use apptuner_relay::relay::{
    ApiKeys, ClientType, ConnectionId, Effect, EndReason, Hook, Member, Now, Readiness, Relay, Tick,
};

use crate::client::Client;
use crate::frame::PING;
use crate::journal::{self, Event};
use crate::model::Model;
use crate::motion::Motion;
use crate::plan::{ACTORS_MAX, Behaviour, Plan, Reading, Request, Say, Sending, Step};
use crate::random::Random;
use crate::totals::Totals;
use crate::transcript::Transcript;
use crate::visit::{ISSUED, Issued, KEYS, Visit};
use crate::wire::{Stream, Wire};

/// The start of every run: an arbitrary time on both clocks.
const START: Now = Now { tick: Tick(1_000), unix_millis: 1_700_000_000_000, micros: 1_000_000 };
/// More turns at one point in time, and more points in one wait, than any plan needs.
const TURNS_MAX: usize = 100_000;
/// Events that are reported to the relay a turn late, per mille.
const LATE_EVENTS: u32 = 200;
/// Polls with events of members that a signal interrupts, per mille.
const INTERRUPTED_POLLS: u32 = 30;

/// The results of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub simulated_millis: u64,
    pub turns: u64,
    pub messages_delivered: u64,
    /// Messages that began to leave before they had arrived whole, and those of them that never became whole.
    pub cut_through: u64,
    pub cut_short: u64,
    /// Runs in which a message was cut short, and runs in which a client was not read because memory was short.
    pub runs_with_cuts: u64,
    pub runs_starved: u64,
    /// Messages that were released before 1 MiB had arrived, because memory was short.
    pub released_early: u64,
    /// Messages of which a replaced receiver got only the beginning.
    pub lost: u64,
    /// Messages that were confirmed, kept for a receiver that was away, sent again, and given up.
    pub confirmed: u64,
    pub kept_for_absent: u64,
    pub redelivered: u64,
    pub given_up: u64,
    /// Messages that gave way to others, of clients that were connected and of clients that were away; clients that are
    /// no longer asked to confirm.
    pub freed: u64,
    pub evicted: u64,
    pub unasked: u64,
    /// Strangers that connected, and those that joined.
    pub strangers: u64,
    pub strangers_joined: u64,
    /// Runs with strangers, with claimed sessions, and with issued sessions.
    pub runs_with_strangers: u64,
    pub runs_with_claims: u64,
    pub runs_with_issues: u64,
    /// Clients refused without a secret or key, and for their address; runs in which an address was locked out.
    pub unproven: u64,
    pub turned_away: u64,
    pub runs_with_lock_outs: u64,
    /// Clients refused because their place changes hands too often.
    pub contested: u64,
    /// Runs that end in a shutdown of several sessions, sessions that were not closed at once, and messages accepted
    /// during the shutdown.
    pub shutdowns: u64,
    pub closed_later: u64,
    pub accepted_meanwhile: u64,
    /// Runs that were repeated without strangers.
    pub compared: u64,
    /// Fingerprints of everything that happened, and of what members saw.
    pub transcript: u64,
    pub members: u64,
}

impl Report {
    /// Adds the results of another run.
    pub const fn add(&mut self, other: &Self) {
        self.simulated_millis += other.simulated_millis;
        self.turns += other.turns;
        self.messages_delivered += other.messages_delivered;
        self.cut_through += other.cut_through;
        self.cut_short += other.cut_short;
        self.runs_with_cuts += other.runs_with_cuts;
        self.runs_starved += other.runs_starved;
        self.released_early += other.released_early;
        self.lost += other.lost;
        self.confirmed += other.confirmed;
        self.kept_for_absent += other.kept_for_absent;
        self.redelivered += other.redelivered;
        self.given_up += other.given_up;
        self.freed += other.freed;
        self.evicted += other.evicted;
        self.unasked += other.unasked;
        self.strangers += other.strangers;
        self.strangers_joined += other.strangers_joined;
        self.runs_with_strangers += other.runs_with_strangers;
        self.runs_with_claims += other.runs_with_claims;
        self.runs_with_issues += other.runs_with_issues;
        self.unproven += other.unproven;
        self.turned_away += other.turned_away;
        self.runs_with_lock_outs += other.runs_with_lock_outs;
        self.contested += other.contested;
        self.shutdowns += other.shutdowns;
        self.closed_later += other.closed_later;
        self.accepted_meanwhile += other.accepted_meanwhile;
        self.compared += other.compared;
    }
}

/// Why a run failed, and the end of its transcript.
#[derive(Clone, Debug)]
pub struct Failure {
    pub step: usize,
    pub why: String,
    pub transcript: Vec<String>,
}

#[expect(clippy::struct_excessive_bools, reason = "independent facts about a run")]
pub struct World {
    relay: Relay<Stream>,
    model: Model,
    motion: Motion,
    now: Now,
    clients: Vec<(ConnectionId, Client)>,
    /// Whether each client is a stranger.
    are_strangers: Vec<bool>,
    strangers_joined: u64,
    has_claims: bool,
    may_strangers_join: bool,
    /// Members must not notice strangers. Their events are then reported at once, because an unreported event may keep
    /// a session for the rest of a turn.
    are_strangers_unnoticed: bool,
    /// The sessions issued to members, and how many were issued in all.
    issued: Vec<Issued>,
    issue_count: u64,
    actors: [Option<usize>; ACTORS_MAX],
    random: Random,
    /// The random numbers for strangers. Those for members are the same without strangers.
    strangers_random: Random,
    next_message: u64,
    turns: u64,
    /// A signal interrupts the next poll.
    is_interrupted: bool,
    fingerprints: Transcript,
    /// The last events, if they are kept.
    transcript: Option<Vec<String>>,
}

/// Runs a plan, and runs it again without strangers if members must not notice them.
pub fn check(plan: &Plan, is_verbose: bool) -> Result<Report, Failure> {
    let (report, with) = run_with_log(plan, is_verbose);
    let mut report = report?;
    let Some(without) = plan.without_strangers() else { return Ok(report) };
    if report.strangers == 0 || report.strangers_joined > 0 {
        return Ok(report);
    }
    let (alone, without) = run_with_log(&without, is_verbose);
    let alone = alone?;
    report.compared = 1;
    if report.members == alone.members {
        return Ok(report);
    }
    let why = "members see something else without the strangers".to_owned();
    let same = with.iter().zip(&without).take_while(|(with, without)| with == without).count();
    let mut transcript = with.get(..same).unwrap_or_default().to_vec();
    transcript.extend(with.get(same).map(|line| format!("{line}, with strangers")));
    transcript.extend(without.get(same).map(|line| format!("{line}, without")));
    Err(Failure { step: plan.steps.len(), why, transcript })
}

/// Runs a plan to its end. Then all clients leave, and everything must be as empty as at the start.
pub fn run(plan: &Plan, is_verbose: bool) -> Result<Report, Failure> {
    run_with_log(plan, is_verbose).0
}

/// As [`run`], and returns what members saw, if it is kept.
fn run_with_log(plan: &Plan, is_verbose: bool) -> (Result<Report, Failure>, Vec<String>) {
    journal::begin(plan.logs_messages);
    let mut world = World::new(plan, is_verbose);
    let mut at = 0;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        for (index, step) in plan.steps.iter().enumerate() {
            at = index;
            world.step(step)?;
        }
        at = plan.steps.len();
        world.finish()
    }));
    let why = match outcome {
        Ok(Ok(())) => {
            let log = world.fingerprints.take_log();
            return (Ok(world.report()), log);
        }
        Ok(Err(why)) => why,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            format!("panic: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("?"))
        }
    };
    (Err(Failure { step: at, why, transcript: world.transcript.unwrap_or_default() }), Vec::new())
}

/// How a client leaves at the end of a run.
#[derive(Clone, Copy)]
enum Leaving {
    Reset,
    Vanish,
    /// It ends its stream and reads everything.
    End,
}

const LEAVING: [(u32, Leaving); 3] = [(1, Leaving::Reset), (1, Leaving::Vanish), (2, Leaving::End)];

impl World {
    fn new(plan: &Plan, is_verbose: bool) -> Self {
        let random = Random::new(plan.network_seed);
        let mut relay = Relay::new(plan.settings.clone(), plan.hash_seed, START);
        relay.set_hook(Box::new(Members::default()));
        if plan.has_keys {
            relay.set_api_keys(ApiKeys::parse(KEYS).expect("keys"));
        }
        let is_limited = plan.settings.max_message_rate.is_some() || plan.settings.max_byte_rate.is_some();
        let stall_timeout = (!is_limited).then_some(plan.settings.stall_timeout);
        Self {
            relay,
            motion: Motion::new(stall_timeout, START.tick),
            model: Model::new(plan.settings.clone(), plan.has_keys, START),
            now: START,
            clients: Vec::new(),
            are_strangers: Vec::new(),
            strangers_joined: 0,
            has_claims: false,
            may_strangers_join: plan.may_strangers_join,
            are_strangers_unnoticed: plan.without_strangers().is_some(),
            issued: Vec::new(),
            issue_count: 0,
            actors: [None; ACTORS_MAX],
            random,
            strangers_random: Random::new(!plan.network_seed),
            next_message: 1,
            turns: 0,
            is_interrupted: false,
            fingerprints: Transcript::new(is_verbose),
            transcript: is_verbose.then(Vec::new),
        }
    }

    fn report(self) -> Report {
        let strangers = self.are_strangers.iter().filter(|&&is_stranger| is_stranger).count();
        let (transcript, members) = self.fingerprints.finish(&self.issued);
        Report {
            simulated_millis: self.now.tick.0 - START.tick.0,
            turns: self.turns,
            messages_delivered: self.model.totals.messages_delivered,
            cut_through: self.model.cut_through,
            cut_short: self.model.totals.messages_cut_short,
            runs_with_cuts: u64::from(self.model.totals.messages_cut_short > 0),
            runs_starved: u64::from(self.relay.counters().reads_starved > 0),
            released_early: self.model.released_early,
            lost: self.model.lost,
            confirmed: self.model.totals.messages_confirmed,
            kept_for_absent: self.model.kept_for_absent,
            redelivered: self.model.totals.messages_redelivered,
            given_up: self.model.totals.messages_given_up,
            freed: self.model.freed,
            evicted: self.model.evicted,
            unasked: self.model.unasked,
            strangers: strangers as u64,
            strangers_joined: self.strangers_joined,
            runs_with_strangers: u64::from(strangers > 0),
            runs_with_claims: u64::from(self.has_claims),
            runs_with_issues: u64::from(self.issue_count > 0),
            unproven: self.model.unproven,
            turned_away: self.model.turned_away,
            runs_with_lock_outs: u64::from(self.model.lock_outs > 0),
            contested: self.model.contested,
            shutdowns: self.model.shutdowns,
            closed_later: self.model.closed_later,
            accepted_meanwhile: self.model.accepted_meanwhile,
            compared: 0,
            transcript,
            members,
        }
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if let Some(transcript) = &mut self.transcript {
            transcript.push(format!("{:>9} {}", self.now.tick.0 - START.tick.0, what()));
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        self.tell(|| format!("{step:?}"));
        match step {
            Step::Wait { millis } => return self.wait(*millis),
            Step::Freeze { millis } => {
                self.motion.freeze(Duration::from_millis(*millis));
                return self.freeze(*millis);
            }
            Step::Connect { actor, visit, request, behaviour } => {
                if let Some(index) = self.connect(visit, *request, *behaviour)? {
                    self.actors[*actor] = Some(index);
                }
            }
            Step::Issue { visit, behaviour } => {
                self.connect(visit, Request::Issue, *behaviour)?;
            }
            Step::Intrude { count, visit, request, behaviour } => {
                self.intrude(*count, visit, *request, *behaviour)?;
                // What members do next must come before the relay's next turn, as it does without strangers.
                if self.is_interrupted {
                    return Ok(());
                }
            }
            Step::Exhaust => {
                self.relay.handle_accept_exhausted(self.now);
                self.model.set_now(self.now);
                self.model.exhaust();
            }
            Step::StaleEvents => self.send_stale_events(),
            Step::Shutdown { grace_millis } => {
                let grace = Duration::from_millis(*grace_millis);
                self.relay.handle_shutdown(grace, self.now);
                self.model.set_now(self.now);
                self.model.shut_down(grace);
            }
            Step::Say { actor, what } => {
                let size_max = self.model.size_max();
                let id = self.next_message;
                self.next_message +=
                    if let Say::Burst { messages, .. } = what { *messages as u64 } else { 1 };
                self.with(*actor, |client| client.say(what, id, size_max));
            }
            Step::Read { actor, reading } => self.with(*actor, |client| client.behaviour.reading = *reading),
            Step::HalfClose { actor } => self.with(*actor, Client::half_close),
            Step::Reset { actor } => self.with(*actor, |client| client.wire.borrow_mut().reset()),
            Step::BreakWrites { actor } => {
                self.with(*actor, |client| client.wire.borrow_mut().link.is_write_broken = true);
            }
            Step::Vanish { actor } => self.with(*actor, Client::vanish),
        }
        self.run_until_rest()
    }

    fn with(&mut self, actor: usize, act: impl FnOnce(&mut Client)) {
        if let Some(index) = self.actors[actor] {
            act(&mut self.clients[index].1);
            self.hand_over(index);
        }
    }

    /// Tells the model what a client has sent.
    fn hand_over(&mut self, index: usize) {
        let units = self.clients[index].1.take_units();
        if !units.is_empty() {
            self.model.said(index, units);
        }
    }

    fn connect(
        &mut self,
        visit: &Visit,
        request: Request,
        behaviour: Behaviour,
    ) -> Result<Option<usize>, String> {
        let Some(caller) = visit.caller(&self.issued) else { return Ok(None) };
        let forks = [self.random.fork(), self.random.fork()];
        let index = self.accept(visit, behaviour, forks, false)?;
        if let Some(index) = index {
            let (id, client) = &mut self.clients[index];
            // Its answer depends on all connections.
            let is_member = !matches!(request, Request::Other(_));
            let is_issued = request == Request::Issue || visit.session >= ISSUED;
            self.fingerprints.connect(*id, is_member, is_issued);
            client.request(request, caller);
            self.hand_over(index);
        }
        Ok(index)
    }

    /// Strangers connect, unless they would be accepted and must not be.
    fn intrude(
        &mut self,
        count: usize,
        visit: &Visit,
        request: Request,
        behaviour: Behaviour,
    ) -> Result<(), String> {
        let Some(caller) = visit.caller(&self.issued) else { return Ok(()) };
        if !self.may_strangers_join && self.model.would_let_in(&caller) {
            return Ok(());
        }
        for _ in 0..count {
            let forks = [self.strangers_random.fork(), self.strangers_random.fork()];
            let Some(index) = self.accept(visit, behaviour, forks, true)? else { return Ok(()) };
            let (id, client) = &mut self.clients[index];
            self.fingerprints.connect(*id, false, true);
            client.request(request, caller.clone());
            self.hand_over(index);
        }
        Ok(())
    }

    /// Offers a connection to the relay, which accepts it if it can.
    fn accept(
        &mut self,
        visit: &Visit,
        behaviour: Behaviour,
        [wire, client]: [Random; 2],
        is_stranger: bool,
    ) -> Result<Option<usize>, String> {
        let (can_accept, may_accept) = (self.relay.can_accept(), self.model.may_accept());
        if can_accept != may_accept {
            return Err(format!("accepting: {can_accept}, {may_accept} expected"));
        }
        if !can_accept {
            return Ok(None);
        }
        let index = self.clients.len();
        let wire = Wire::new(index, behaviour.faults, wire, behaviour.capacity);
        let wire = Rc::new(RefCell::new(wire));
        let client = Client::new(Rc::clone(&wire), behaviour, client);
        let address = visit.address();
        let id = self.relay.handle_accept(Stream(wire), (address, 4000).into(), self.now);
        self.model.set_now(self.now);
        self.model.accept(id, address);
        self.clients.push((id, client));
        self.are_strangers.push(is_stranger);
        Ok(Some(index))
    }

    fn send_stale_events(&mut self) {
        let everything = Readiness { is_writable: true, is_urgent: true, ..Readiness::READABLE };
        for (index, (id, _)) in self.clients.iter().enumerate() {
            self.model.note_readiness(index, everything);
            self.relay.handle_readiness(*id, everything);
        }
        let unknown = ConnectionId { slot: 77, generation: 7 };
        self.relay.handle_readiness(unknown, Readiness { is_failed: true, ..everything });
    }

    /// Lets time pass. Stops whenever the relay wants to be called or a client does something.
    fn wait(&mut self, millis: u64) -> Result<(), String> {
        let end = Tick(self.now.tick.0 + millis);
        if self.is_interrupted {
            // After a stop the relay goes on at once, not only at the next event.
            self.run_until_rest()?;
        }
        for _ in 0..TURNS_MAX {
            let acts = self.clients.iter().filter_map(|(_, client)| client.next_act()).min();
            let next = [self.relay.next_deadline(), acts].into_iter().flatten().min();
            let Some(next) = next.filter(|&next| next < end) else {
                self.motion.expect(end)?;
                self.move_to(end);
                return self.run_until_rest();
            };
            self.motion.expect(next)?;
            self.move_to(next.max(self.now.tick));
            self.run_until_rest()?;
        }
        Err("the relay wakes up again and again".to_owned())
    }

    /// Lets time pass while the relay is stopped. Its next turn comes before everything else.
    fn freeze(&mut self, millis: u64) -> Result<(), String> {
        let end = Tick(self.now.tick.0 + millis);
        self.is_interrupted = true;
        for _ in 0..TURNS_MAX {
            let next = self.clients.iter().filter_map(|(_, client)| client.next_act()).min();
            let Some(next) = next.filter(|&next| next < end) else {
                self.move_to(end);
                return Ok(());
            };
            self.move_to(next.max(self.now.tick));
            self.act();
        }
        Err("a client acts again and again".to_owned())
    }

    fn move_to(&mut self, tick: Tick) {
        self.now =
            Now { tick, unix_millis: START.unix_millis + (tick.0 - START.tick.0), micros: tick.0 * 1000 };
    }

    /// Makes turns until neither the relay nor a client has anything to do at this time.
    fn run_until_rest(&mut self) -> Result<(), String> {
        for _ in 0..TURNS_MAX {
            let mut is_busy = self.act();
            let told = self.send_events();
            is_busy |= self.turn(&told)?;
            let is_pending =
                self.clients.iter().any(|(_, client)| client.wire.borrow().is_readiness_pending());
            let is_due = self.relay.next_deadline().is_some_and(|deadline| deadline <= self.now.tick);
            if !is_busy && !is_pending && !is_due && !self.relay.has_work() {
                return self.check_rest();
            }
        }
        Err("the relay never comes to rest".to_owned())
    }

    /// Clients do what they do by themselves. Returns whether one did anything.
    fn act(&mut self) -> bool {
        let mut is_busy = false;
        for index in 0..self.clients.len() {
            is_busy |= self.clients[index].1.act(self.now.tick);
            if let Some(issued) = self.clients[index].1.take_issued()
                && !self.are_strangers[index]
            {
                self.issued.push(issued);
            }
            self.hand_over(index);
        }
        is_busy
    }

    /// Reports some of the wires' readiness to the relay, in random order. Returns the wires that it must serve now.
    fn send_events(&mut self) -> Vec<usize> {
        let is_pending = |index: &usize| self.clients[*index].1.wire.borrow().is_readiness_pending();
        let (mut strangers, mut members): (Vec<usize>, Vec<usize>) =
            (0..self.clients.len()).filter(is_pending).partition(|&index| self.are_strangers[index]);
        let mut told = Vec::new();
        let is_interrupted = std::mem::take(&mut self.is_interrupted);
        if is_interrupted || (!members.is_empty() && self.random.per_mille(INTERRUPTED_POLLS)) {
            self.relay.handle_told_in_part();
            return told;
        }
        while !members.is_empty() || !strangers.is_empty() {
            // Whether a stranger is next is decided by the strangers' random numbers.
            let left = members.len() + strangers.len();
            let is_stranger = !strangers.is_empty() && self.strangers_random.below(left) < strangers.len();
            let (ready, random) = if is_stranger {
                (&mut strangers, &mut self.strangers_random)
            } else {
                (&mut members, &mut self.random)
            };
            let index = ready.swap_remove(random.below(ready.len()));
            let (id, client) = &self.clients[index];
            if random.per_mille(LATE_EVENTS) && !(is_stranger && self.are_strangers_unnoticed) {
                self.relay.handle_told_in_part();
                continue;
            }
            let Some(readiness) = client.wire.borrow_mut().take_readiness() else { continue };
            self.model.note_readiness(index, readiness);
            self.relay.handle_readiness(*id, readiness);
            if readiness.is_readable && client.wire.borrow().unread() > 0 {
                told.push(index);
            }
        }
        told
    }

    /// Makes one turn. Returns whether anything happened.
    fn turn(&mut self, told: &[usize]) -> Result<bool, String> {
        self.turns += 1;
        self.model.set_now(self.now);
        self.model.begin_turn();
        let could_be_held: Vec<bool> = told.iter().map(|&index| self.model.may_be_held(index)).collect();
        self.relay.handle_turn(self.now);
        let events = journal::take();
        for (index, (_, client)) in self.clients.iter().enumerate() {
            self.model.note_unread(index, client.wire.borrow().unread_since());
        }
        for event in &events {
            self.fingerprints.add(event, self.now.tick, &self.issued);
            self.tell(|| shown(event));
            self.model.apply(event)?;
            self.note(event);
            if self.is_motion(event) {
                self.motion.note(self.now.tick);
            }
        }
        let has_effects = self.perform_effects()?;
        self.model.end_turn()?;
        self.model.account(self.relay.buffered_bytes())?;
        for (&index, could_be_held) in told.iter().zip(could_be_held) {
            let is_served = events.iter().any(|event| is_read_of(event, index));
            let is_held = could_be_held || self.model.may_be_held(index);
            let is_excused = is_held || self.model.may_lack_room() || self.model.is_gone(index);
            if !is_served && !is_excused {
                return Err(format!("wire {index} was ready and is not served in the turn"));
            }
        }
        Ok(has_effects || !events.is_empty())
    }

    fn is_motion(&self, event: &Event) -> bool {
        match event {
            Event::Read { .. } => self.model.has_read_more_than_pongs,
            // Except the relay's pings.
            Event::Wrote { bytes, .. } => !matches!(bytes.as_slice(), [PING, length, payload @ ..]
                if usize::from(*length) == payload.len()),
            Event::Left { .. } => true,
            _ => false,
        }
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Joined { conn, session, .. } => {
                let wire = self.clients.iter().rposition(|(id, _)| id.to_string() == *conn);
                let is_stranger = wire.is_some_and(|wire| self.are_strangers[wire]);
                self.strangers_joined += u64::from(is_stranger);
                self.has_claims |= self.model.is_claimed(session);
            }
            Event::Issued { .. } => self.issue_count += 1,
            _ => {}
        }
    }

    /// Performs the relay's effects. Returns whether there was one that clients may notice at once.
    fn perform_effects(&mut self) -> Result<bool, String> {
        let mut is_busy = false;
        while let Some(effect) = self.relay.poll_effect() {
            is_busy = true;
            self.motion.note(self.now.tick);
            match effect {
                Effect::ShutdownWrite(id) => {
                    self.tell(|| format!("end of stream to {id}"));
                    self.fingerprints.add_effect(id, "ended", self.now.tick);
                    self.model.ended(id)?;
                    let stream = self.relay.stream(id).ok_or("the stream to end is gone")?;
                    stream.0.borrow_mut().link.is_relay_done = true;
                }
                Effect::Close { id, stream } => {
                    self.tell(|| format!("{id} given back"));
                    self.fingerprints.add_effect(id, "given back", self.now.tick);
                    self.model.closed(id)?;
                    stream.0.borrow_mut().link.is_relay_done = true;
                }
            }
        }
        Ok(is_busy)
    }

    fn check_rest(&mut self) -> Result<(), String> {
        let clients = || self.clients.iter().map(|(_, client)| client).enumerate();
        let has_sent =
            |(wire, client): (usize, &Client)| self.model.has_sent(wire, client.wire.borrow().unread());
        let would_read = |(wire, client): (usize, &Client)| client.would_read() && self.model.is_open(wire);
        let is_awaited = clients().any(has_sent) && clients().any(would_read);
        self.motion.rest(is_awaited, self.now.tick);
        for (index, (id, client)) in self.clients.iter().enumerate() {
            self.model.rest(index, &client.wire.borrow())?;
            if let Some(expected) = self.model.backlog(index) {
                let backlog = self.relay.backlog(*id).map(|backlog| (backlog.messages, backlog.bytes));
                if backlog != Some(expected) {
                    return Err(format!("wire {index} has {backlog:?} waiting, {expected:?} expected"));
                }
            }
        }
        self.model.expect_sessions_in_time()?;
        self.model.expect_all_accounted_for()?;
        self.model.account_at_rest(self.relay.buffered_bytes())?;
        self.model.check_counts(
            self.relay.connections(),
            self.relay.sessions(),
            self.relay.hosts(),
            self.relay.timers(),
        )?;
        let (totals, expected) = (Totals::of(self.relay.counters()), self.model.totals);
        if totals == expected { Ok(()) } else { Err(format!("{totals:?} instead of {expected:?}")) }
    }

    /// All clients leave in different ways, and all timeouts pass.
    fn finish(&mut self) -> Result<(), String> {
        for index in 0..self.clients.len() {
            let random =
                if self.are_strangers[index] { &mut self.strangers_random } else { &mut self.random };
            match random.among(&LEAVING) {
                Leaving::Reset => self.clients[index].1.wire.borrow_mut().reset(),
                Leaving::Vanish => self.clients[index].1.vanish(),
                Leaving::End => {
                    let client = &mut self.clients[index].1;
                    client.half_close();
                    client.behaviour.reading = Reading::Eager;
                    client.behaviour.sending = Sending::AtOnce;
                }
            }
        }
        self.run_until_rest()?;
        self.wait(3 * 3600 * 1000)?;
        let relay = &self.relay;
        let left = (relay.connections(), relay.sessions(), relay.hosts(), relay.timers());
        if left != (0, 0, 0, 0) {
            return Err(format!("{left:?} connections, sessions, hosts and timers left"));
        }
        match self.relay.buffered_bytes() {
            0 => Ok(()),
            bytes => Err(format!("{bytes} bytes left on the account")),
        }
    }
}

fn is_read_of(event: &Event, index: usize) -> bool {
    matches!(event,
        Event::Read { wire, .. } | Event::ReadBlocked { wire } | Event::ReadEnded { wire } | Event::ReadFailed { wire }
        if *wire == index)
}

/// An event in the transcript, without payloads.
fn shown(event: &Event) -> String {
    let Event::Wrote { wire, bytes } = event else { return format!("{event:?}") };
    let mut text = format!("Wrote {{ wire: {wire}, bytes: {} }} ", bytes.len());
    let start = &bytes[..bytes.len().min(50)];
    let _ = write!(text, "{}", start.escape_ascii());
    text
}

/// The members of all sessions, as a host learns them: each side has one client at most, and each that leaves has
/// joined.
#[derive(Debug, Default)]
struct Members(BTreeMap<(String, ClientType), ConnectionId>);

impl Hook for Members {
    fn joined(&mut self, client: &Member<'_>) {
        let side = (client.session_id.to_owned(), client.client_type);
        let before = self.0.insert(side, client.connection);
        assert_eq!(before, None, "a client joins before the hook hears that the one before it has left");
    }

    fn left(&mut self, client: &Member<'_>, _: EndReason, _: u16) {
        let side = (client.session_id.to_owned(), client.client_type);
        let before = self.0.remove(&side);
        assert_eq!(before, Some(client.connection), "a client leaves that the hook did not hear of");
    }
}
