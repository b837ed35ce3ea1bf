//! Attacks by clients that send without end and do not read the answers.

use std::io::Read;

use socket2::{Domain, Socket, Type};

use crate::bystanders::Bystanders;
use crate::client::{Client, Received, with_timeouts};
use crate::footprint::{Footprint, MIB, quiet_relay};
use crate::frame::{BINARY, PING, TEXT, frame};
use crate::harness::Relay;
use crate::processor::assert_rests;
use crate::stream::Stream;

/// Memory that one client may cost that does not read: the high-water mark, the bytes in transit to it, and the
/// allocator's overhead.
const UNREAD_BYTES_MAX: u64 = 2 * MIB;

/// A connection for which the kernel takes as few bytes as possible if the client does not read.
fn narrowest_tcp(relay: &Relay) -> Stream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(1).unwrap();
    socket.connect(&relay.address.into()).unwrap();
    relay.stream(with_timeouts(socket.into()))
}

/// Sends `frames` until the relay reads no more, and requires that other clients are not affected.
fn assert_flood_stops(relay: &Relay, flooding: &mut Client, frames: &[u8]) {
    let mut bystanders = Bystanders::join(relay);
    let before = Footprint::of(relay);
    flooding.flood(|_| frames.to_vec());
    bystanders.are_served();
    before.assert_memory_grew_at_most(UNREAD_BYTES_MAX);
}

/// CVE-2019-9512 (HTTP/2: the answers to a flood of pings are queued without end).
#[test]
fn client_that_does_not_read_its_pongs_is_no_longer_read() {
    let relay = quiet_relay(&[]);
    let mut mobile = Client::join(relay.narrow_tcp(), "mobile", "abc");
    assert_flood_stops(&relay, &mut mobile, &frame(PING, &[0; 125]).repeat(1000));
    assert_rests(&relay);
}

/// CVE-2019-9514 and CVE-2019-9515 (HTTP/2: the same with other frames that need an answer). Seven bytes cause an
/// answer of more than a hundred.
#[test]
fn client_that_does_not_read_its_errors_is_no_longer_read() {
    for text in [&b"?"[..], b"1"] {
        let relay = quiet_relay(&[]);
        let mut mobile = Client::join(relay.narrow_tcp(), "mobile", "abc");
        assert_flood_stops(&relay, &mut mobile, &frame(TEXT, text).repeat(1000));
    }
}

/// The same after the client has ended its stream. The relay then reads on, because it expects the end soon.
#[test]
fn end_of_a_stream_does_not_let_unread_errors_pile_up() {
    let relay = quiet_relay(&[]);
    let mut bystanders = Bystanders::join(&relay);
    let mut clients = Vec::new();
    let before = Footprint::of(&relay);
    for id in 0..4 {
        let mut mobile = Client::join(relay.narrow_tcp(), "mobile", &id.to_string());
        // The more the relay reads at once, the more the kernel holds ready for it.
        for _ in 0..16 {
            mobile.send(BINARY, &vec![0; 1 << 20]);
            mobile.expect_error("peer_not_connected", "Desktop not connected");
        }
        mobile.send_raw(&frame(TEXT, b"?").repeat(50_000));
        mobile.finish_sending();
        clients.push(mobile);
        bystanders.are_served();
    }
    assert_rests(&relay);
    before.assert_memory_grew_at_most(4 * UNREAD_BYTES_MAX);
    // A client that reads in the end gets all of them.
    for client in &mut clients {
        (0..50_000).for_each(|_| assert_eq!(client.receive_system()["code"], "invalid_json"));
        client.expect(&Received::End);
    }
}

/// HarperFast/harper#1566 and zaphoyd/websocketpp#477 (the queue of a slow reader grows without limit).
#[test]
fn sender_is_no_longer_read_if_its_peer_does_not_read() {
    for payload_bytes in [100, 20_000] {
        let relay = quiet_relay(&[]);
        let (mut desktop, _mobile) = relay.pair_with_narrow_mobile("abc");
        let count = 200_000 / payload_bytes;
        assert_flood_stops(&relay, &mut desktop, &frame(BINARY, &vec![0; payload_bytes]).repeat(count));
    }
}

/// CVE-2019-9511 and CVE-2019-9517 (HTTP/2: a client that reads single bytes, and a window that is almost closed).
#[test]
fn reader_of_single_bytes_does_not_affect_other_clients() {
    let relay = quiet_relay(&[]);
    let mut bystanders = Bystanders::join(&relay);
    let mut desktop = relay.join("desktop", "abc");
    let mobile = Client::join_peer(narrowest_tcp(&relay), "mobile", "abc", &mut desktop);
    desktop.flood(|_| frame(BINARY, &[0; 1000]).repeat(60));

    let before = Footprint::of(&relay);
    let mut reader = mobile.writer();
    for _ in 0..200 {
        (0..100).for_each(|_| reader.read_exact(&mut [0]).unwrap());
        bystanders.are_served();
    }
    before.assert_took_at_most(2);
    before.assert_memory_grew_at_most(MIB);
}

/// HarperFast/harper#1566 with the relay's own messages: each join and leave of a peer gives a notice.
#[test]
fn client_that_reads_none_of_thousands_of_notices_is_closed() {
    let relay = quiet_relay(&[]);
    let mut bystanders = Bystanders::join(&relay);
    let mut mobile = Client::join(narrowest_tcp(&relay), "mobile", "abc");
    let before = Footprint::of(&relay);
    let is_mobile_there = |_: &usize| {
        let mut desktop = relay.join("desktop", "abc");
        desktop.send_close(1000, "");
        desktop.receive() != Received::Close(1000, String::new())
    };
    let desktops = (0..10_000).take_while(is_mobile_there).count();
    assert!(desktops < 10_000, "20,000 notices, and no end");
    bystanders.are_served();
    before.assert_memory_grew_at_most(MIB);
    while !matches!(mobile.receive(), Received::Close(1013, _)) {}
}
