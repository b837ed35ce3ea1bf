//! Nobody waits for memory for ever, and the account is never overdrawn.

use std::time::Duration;

use super::world::{Client, Received, World, text};
use crate::relay::ids::ClientType::{Desktop, Mobile};
use crate::relay::limits::BUFFERED_BYTES_MIN;
use crate::relay::settings::Settings;
use crate::relay::tests::frame::{BINARY, BINARY_BEGINS, CONTINUES, ENDS, FINAL, PONG, TEXT_BEGINS, frame};
use crate::relay::tests::random::Random;

const KIB: usize = 1024;
const SECOND: Duration = Duration::from_secs(1);
/// Nearly as long as a budget of 1 MiB.
const LONGEST: usize = 896 * KIB;

fn narrow_settings() -> Settings {
    Settings { max_buffered: BUFFERED_BYTES_MIN, max_message_size: LONGEST, ..Settings::default() }
}

/// Sends bytes, and requires that the account holds afterwards.
fn send(world: &mut World, client: &Client, bytes: &[u8]) {
    world.send(client, bytes);
    let buffered = world.relay.buffered_bytes();
    assert!(buffered <= BUFFERED_BYTES_MIN, "{buffered} bytes on the account");
}

/// The beginning of the longest message in one frame.
fn announcement() -> Vec<u8> {
    frame(BINARY, &vec![7; LONGEST])[..14].to_vec()
}

fn expect_served(world: &mut World, (desktop, mobile): &(Client, Client)) {
    world.send_text(desktop, "1");
    assert_eq!(world.take(mobile), [text("1")]);
    world.send_text(mobile, "2");
    assert_eq!(world.take(desktop), [text("2")]);
}

#[test]
fn clients_with_unfinished_fragments_hold_up_nobody_else() {
    for (begun, clients) in [(&b"x"[..], 5), (&vec![7; 16 * KIB], 5), (b"x", 60), (&[7; 16 * KIB], 60)] {
        let mut world = World::with(narrow_settings());
        let bystanders = world.pair("bystanders");
        let announcing = world.join(Desktop, "announcing");
        send(&mut world, &announcing, &announcement());
        let (first, first_mobile) = world.pair("first");
        send(&mut world, &first, &frame(BINARY, &vec![7; LONGEST]));
        let crowd: Vec<Client> = (0..clients).map(|id| world.join(Mobile, &id.to_string())).collect();
        for client in &crowd {
            send(&mut world, client, &frame(BINARY_BEGINS, begun));
        }
        let fragment = frame(CONTINUES, &vec![7; 16 * KIB]);
        for client in &crowd {
            send(&mut world, client, &fragment[..9]);
        }
        world.reset(&announcing);
        assert_eq!(world.take(&first_mobile), [Received::Binary(vec![7; LONGEST])]);
        expect_served(&mut world, &bystanders);
        world.expect_empty_in_the_end();
    }
}

#[test]
fn headers_that_come_byte_by_byte_stay_within_the_budget() {
    let mut world = World::with(narrow_settings());
    let crowd: Vec<Client> = (0..60).map(|id| world.join(Mobile, &id.to_string())).collect();
    let bytes = frame(BINARY, &vec![7; 16 * KIB]);
    for range in [0..1, 1..9, 9..3000, 3000..bytes.len()] {
        for client in &crowd {
            send(&mut world, client, &bytes[range.clone()]);
        }
    }
    world.expect_empty_in_the_end();
}

#[test]
fn messages_behind_a_large_one_stay_within_the_budget() {
    let mut world = World::with(narrow_settings());
    let announcing = world.join(Desktop, "announcing");
    send(&mut world, &announcing, &announcement()[..14]);
    world.reset(&announcing);
    let crowd: Vec<Client> = (0..12).map(|id| world.join(Mobile, &id.to_string())).collect();
    for client in &crowd {
        send(&mut world, client, &frame(BINARY, &vec![7; 40 * KIB])[..20 * KIB]);
    }
    let (first, first_mobile) = world.pair("first");
    send(&mut world, &first, &announcement());
    for client in &crowd {
        let rest = &frame(BINARY, &vec![7; 40 * KIB])[20 * KIB..];
        let behind = frame(BINARY, &vec![7; LONGEST]);
        send(&mut world, client, &[rest, &behind[..60 * KIB]].concat());
    }
    send(&mut world, &first, &frame(BINARY, &vec![7; LONGEST])[14..]);
    assert_eq!(world.take(&first_mobile), [Received::Binary(vec![7; LONGEST])]);
    world.expect_empty_in_the_end();
}

#[test]
fn text_in_fragments_may_be_as_long_as_any_message() {
    let mut world = World::with(Settings { answer_pings: true, ..narrow_settings() });
    let (desktop, mobile) = world.pair("a");
    let longest = format!(r#"{{"type":"{}","n":"{}"}}"#, "t".repeat(60), "x".repeat(LONGEST - 79));
    assert_eq!(longest.len(), LONGEST - 1);
    let (front, back) = longest.as_bytes().split_at(30 * KIB);
    let (middle, back) = back.split_at(400 * KIB);
    let fragments =
        [frame(TEXT_BEGINS, front), frame(CONTINUES, middle), frame(ENDS, &[back, b" "].concat())];
    send(&mut world, &desktop, &fragments.concat());
    assert_eq!(world.take(&mobile), [text(&format!("{longest} "))]);
    world.expect_empty_in_the_end();
}

/// What an honest client sends: whole messages of all lengths up to the longest, in one frame or several.
fn honest_message(random: &mut Random) -> (Vec<u8>, Received) {
    let lengths = [2, 1000, 16 * KIB, 17_000, 17_000, 40_000, 300_000, LONGEST - 5_000, LONGEST];
    let bytes = lengths[random.below(lengths.len())];
    let payload = vec![b'0' + u8::try_from(random.below(10)).unwrap(); bytes];
    let pieces = 1 + random.below(3);
    let mut sent = Vec::new();
    for (index, piece) in payload.chunks(bytes.div_ceil(pieces)).enumerate() {
        let is_last = (index + 1) * bytes.div_ceil(pieces) >= bytes;
        sent.extend(frame(
            if index == 0 { BINARY_BEGINS } else { CONTINUES } | if is_last { FINAL } else { 0 },
            piece,
        ));
    }
    (sent, Received::Binary(payload))
}

#[test]
fn many_pairs_with_messages_as_long_as_the_budget_allows_all_get_theirs() {
    for seed in 1..4 {
        let mut random = Random(seed * 7919);
        let mut world = World::with(narrow_settings());
        let pairs: Vec<_> = (0..30).map(|id| world.pair(&id.to_string())).collect();
        let mut awaited: Vec<Vec<Received>> = pairs.iter().map(|_| Vec::new()).collect();
        for (_, mobile) in &pairs {
            world.set_room(mobile, 100 * KIB);
        }
        for _ in 0..2 {
            for (index, (desktop, _)) in pairs.iter().enumerate() {
                let (bytes, received) = honest_message(&mut random);
                awaited[index].push(received);
                send(&mut world, desktop, &bytes);
            }
        }
        // Phones that take a little each second.
        let mut seconds = 0;
        while pairs.iter().any(|(desktop, _)| world.unread(desktop) > 0) || world.relay.buffered_bytes() > 0 {
            for (desktop, mobile) in &pairs {
                world.open_room(mobile, 400 * KIB);
                world.run_until_idle();
                if seconds % 20 == 0 {
                    world.send(desktop, &frame(PONG, b""));
                    world.send(mobile, &frame(PONG, b""));
                }
            }
            world.pass(SECOND);
            seconds += 1;
            assert!(seconds < 600, "seed {seed}: {} bytes still wait", world.relay.buffered_bytes());
        }
        for ((_, mobile), awaited) in pairs.iter().zip(&awaited) {
            let mut received = world.take(mobile);
            received.retain(|one| *one != Received::Ping);
            assert!(received == *awaited, "seed {seed}: {} messages", received.len());
        }
        world.expect_empty_in_the_end();
    }
}
