//! Attacks on the shared memory: clients together cannot make the relay use more than its budget.

use std::io::Write;
use std::thread;

use crate::bystanders::Bystanders;
use crate::client::Client;
use crate::footprint::{Footprint, MIB, connections_allowed, quiet_relay};
use crate::frame::{BINARY, CONTINUES, PING, TEXT, TEXT_BEGINS, frame, frame_header};
use crate::harness::Relay;

const FLAGS: [&str; 6] = ["--max-buffered", "16MiB", "--max-message-size", "14MiB", "--stall-timeout", "1s"];
/// The budget, plus the memory of connections and of the heap around it.
const BUDGET_BYTES: u64 = 16 * MIB + 4 * MIB;

/// Up to `wanted` clients, each in a session with a mobile that does not read.
fn crowd(relay: &Relay, wanted: usize) -> Vec<(Client, Client)> {
    (0..connections_allowed(2 * wanted) / 2)
        .map(|id| relay.pair_with_narrow_mobile(&id.to_string()))
        .collect()
}

/// Writes `bytes`, or as much as the relay takes before it ends the connection.
fn push(client: &Client, bytes: &[u8]) {
    let mut writer = client.writer();
    writer.set_write_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
    let _ = writer.write_all(bytes);
}

/// Requires that memory stays within the budget while every desktop of a crowd sends `bytes`, and that bystanders are
/// still served.
fn assert_bounded(wanted: usize, bytes: &[u8]) {
    let relay = quiet_relay(&FLAGS);
    let mut bystanders = Bystanders::join(&relay);
    let crowd = crowd(&relay, wanted);
    let before = Footprint::of(&relay);
    thread::scope(|scope| {
        for part in crowd.chunks(crowd.len().div_ceil(8)) {
            scope.spawn(|| part.iter().for_each(|(desktop, _)| push(desktop, bytes)));
        }
    });
    bystanders.are_served();
    before.assert_memory_grew_at_most(BUDGET_BYTES);
}

#[test]
fn unread_bundles_stay_within_the_budget() {
    assert_bounded(40, &frame(BINARY, &vec![7; 10 << 20]));
}

#[test]
fn messages_just_over_the_limit_of_small_ones_stay_within_the_budget() {
    assert_bounded(100, &frame(BINARY, &vec![7; 16 * 1024 + 1]).repeat(100));
}

#[test]
fn unread_small_messages_stay_within_the_budget() {
    assert_bounded(100, &frame(TEXT, &vec![b'1'; 1000]).repeat(2000));
}

#[test]
fn unfinished_small_frames_stay_within_the_budget() {
    assert_bounded(2000, &frame(BINARY, &vec![7; 16 * 1024])[..16_000]);
}

#[test]
fn unfinished_fragmented_messages_stay_within_the_budget() {
    let begun = [frame(TEXT_BEGINS, b"["), frame(CONTINUES, &vec![b' '; 50_000]).repeat(200)].concat();
    assert_bounded(40, &begun);
}

#[test]
fn endless_nesting_stays_within_the_budget() {
    assert_bounded(10, &frame(TEXT, &vec![b'['; 13 << 20]));
}

#[test]
fn unread_replies_stay_within_the_budget() {
    let relay = quiet_relay(&FLAGS);
    let mut bystanders = Bystanders::join(&relay);
    let clients: Vec<Client> = (0..connections_allowed(100))
        .map(|id| Client::join(relay.narrow_tcp(), "mobile", &id.to_string()))
        .collect();
    let before = Footprint::of(&relay);
    let bytes = [frame(TEXT, b"?").repeat(100_000), frame(PING, &[7; 125]).repeat(20_000)].concat();
    thread::scope(|scope| {
        for part in clients.chunks(clients.len().div_ceil(8)) {
            scope.spawn(|| part.iter().for_each(|client| push(client, &bytes)));
        }
    });
    bystanders.are_served();
    before.assert_memory_grew_at_most(BUDGET_BYTES);
}

#[test]
fn unfinished_bundles_stay_within_the_budget_and_their_memory_is_freed() {
    let relay = quiet_relay(&FLAGS);
    let crowd = crowd(&relay, 100);
    let before = Footprint::of(&relay);
    for (desktop, _) in &crowd {
        push(desktop, &[&frame_header(BINARY, 10 << 20)[..], &vec![0; 300_000]].concat());
    }
    before.assert_memory_grew_at_most(BUDGET_BYTES);
    for (desktop, _) in crowd {
        desktop.reset();
    }
    let (desktop, mut mobile) = relay.pair("healthy");
    let bundle = format!("\"{}\"", "x".repeat(13 << 20));
    let sent = desktop.send_meanwhile(frame(TEXT, bundle.as_bytes()));
    mobile.expect_text(&bundle);
    sent.join().unwrap();
    before.assert_memory_grew_at_most(BUDGET_BYTES);
}
