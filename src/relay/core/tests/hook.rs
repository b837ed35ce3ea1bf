//! The hook of a host decides who may join, and hears of each join and each leave once.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::world::{World, upgrade};
use crate::relay::counts::end_reason::EndReason;
use crate::relay::hook::{Hook, Member};
use crate::relay::ids::ClientType::{self, Desktop, Mobile};
use crate::relay::settings::Settings;
use crate::relay::tests::frame::{CLOSE, close_payload, frame};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Heard {
    Asked(ClientType, String),
    Joined(ClientType, String),
    Left(ClientType, String, EndReason, u16),
}

/// Notes what it hears, and lets nobody join the session `closed`.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<Heard>>>);

impl Notes {
    fn take(&self) -> Vec<Heard> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Hook for Notes {
    fn may_join(&mut self, client: &Member<'_>) -> bool {
        assert_eq!(client.address.to_string(), "127.0.0.1");
        self.0.lock().unwrap().push(Heard::Asked(client.client_type, client.session_id.to_owned()));
        client.session_id != "closed"
    }

    fn joined(&mut self, client: &Member<'_>) {
        self.0.lock().unwrap().push(Heard::Joined(client.client_type, client.session_id.to_owned()));
    }

    fn left(&mut self, client: &Member<'_>, reason: EndReason, code: u16) {
        let left = Heard::Left(client.client_type, client.session_id.to_owned(), reason, code);
        self.0.lock().unwrap().push(left);
    }
}

fn asked(client_type: ClientType) -> Heard {
    Heard::Asked(client_type, "a".to_owned())
}

fn joined(client_type: ClientType) -> Heard {
    Heard::Joined(client_type, "a".to_owned())
}

fn left(client_type: ClientType, reason: EndReason, code: u16) -> Heard {
    Heard::Left(client_type, "a".to_owned(), reason, code)
}

fn world(settings: Settings) -> (World, Notes) {
    let (mut world, notes) = (World::with(settings), Notes::default());
    world.relay.set_hook(Box::new(notes.clone()));
    (world, notes)
}

#[test]
fn a_client_that_the_hook_refuses_gets_403_and_joins_nothing() {
    let (mut world, notes) = world(Settings::default());
    let client = world.connect();
    let (status, _) = world.ask(&client, &upgrade(Desktop, "closed"));
    assert_eq!((status, world.relay.sessions()), (403, 0));
    assert_eq!(notes.take(), [Heard::Asked(Desktop, "closed".to_owned())]);
}

#[test]
fn joins_replacements_and_leaves_are_told_in_their_order() {
    let (mut world, notes) = world(Settings::default());
    let (desktop, _mobile) = world.pair("a");
    assert_eq!(notes.take(), [asked(Desktop), joined(Desktop), asked(Mobile), joined(Mobile)]);
    let newer = world.join(Mobile, "a");
    assert_eq!(notes.take(), [asked(Mobile), left(Mobile, EndReason::Replaced, 1000), joined(Mobile)]);
    world.send(&desktop, &frame(CLOSE, &close_payload(1000, "")));
    assert_eq!(notes.take(), [left(Desktop, EndReason::ClientClosed, 1000)]);
    world.reset(&newer);
    assert_eq!(notes.take(), [left(Mobile, EndReason::Lost, 1006)]);
}

#[test]
fn clients_of_a_session_that_times_out_or_is_shut_down_leave_once() {
    let (mut world, notes) = world(Settings { ping_interval: Duration::MAX, ..Settings::default() });
    world.pair("a");
    notes.take();
    world.pass(Duration::from_secs(31 * 60));
    let timed_out = [Desktop, Mobile].map(|client_type| left(client_type, EndReason::SessionTimeout, 1000));
    assert_eq!(notes.take(), timed_out);

    world.pair("a");
    notes.take();
    world.relay.handle_shutdown(Duration::from_secs(10), world.now());
    world.pass(Duration::from_secs(11));
    let shut_down = [Desktop, Mobile].map(|client_type| left(client_type, EndReason::ShuttingDown, 1001));
    assert_eq!(notes.take(), shut_down);
}
