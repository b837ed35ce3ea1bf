//! A client in memory, and the ways in which it sends the bytes of a row.

use apptuner_relay::relay::internals::connection::{Connection, FlushEnd};
use apptuner_relay::relay::{Readiness, Settings, Tick};
use bytes::BytesMut;

use self::stream::Wire;
use crate::echo::Echo;
use crate::frame::{CLOSE, TEXT, big_endian, close_payload, frame, take_frame};

#[path = "../../src/relay/tests/stream.rs"]
mod stream;

const NOW: Tick = Tick(1);

/// A parsed part of what a client received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Text(String),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
    /// The server has ended the stream.
    End,
}

pub(crate) fn text(text: &str) -> Received {
    Received::Text(text.to_owned())
}

/// The state of the connection after the bytes of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Then {
    Open,
    /// The client's close was answered with these, and the stream ended.
    Answered(u16, &'static str),
    /// The server closes with this code because the client broke a rule.
    Refused(u16),
}

/// The suite's number or our name, what is sent, what comes back before the end, and the state at the end.
pub(crate) type Row<'a> = (&'a str, Vec<u8>, Vec<Received>, Then);

/// Sizes of the pieces that bytes are sent in. 997 is the suite's: a prime that meets no boundary.
const PIECES: [usize; 3] = [usize::MAX, 1, 997];

/// Sends each row in every way, and requires exactly the expected answers and nothing more.
#[track_caller]
pub(crate) fn assert_answers(rows: &[Row<'_>]) {
    for (case, sent, received, then) in rows {
        for piece in PIECES {
            let mut client = Client::open();
            client.send(sent, piece);
            client.assert_received(received, *then, &format!("{case} in pieces of {piece}"));
        }
        let mut client = Client::open();
        client.send(&[&sent[..], &frame(TEXT, b"behind it")].concat(), usize::MAX);
        let mut received = received.clone();
        if let Then::Open = then {
            received.push(text("behind it"));
        }
        client.assert_received(&received, *then, &format!("{case} with a message behind it"));
    }
}

pub(crate) struct Client {
    echo: Echo,
    connection: Connection<Wire>,
    is_over: bool,
    is_gone: bool,
}

impl Client {
    /// A client that has just connected.
    pub(crate) fn connect(settings: Settings) -> Self {
        let connection = Connection::new(Wire::default(), NOW);
        let mut echo = Echo::default();
        echo.settings = settings;
        Self { echo, connection, is_over: false, is_gone: false }
    }

    /// A client that has completed its handshake.
    pub(crate) fn open() -> Self {
        Self::opened_with(Settings::default())
    }

    pub(crate) fn opened_with(settings: Settings) -> Self {
        let mut client = Self::connect(settings);
        client.connection.open(&client.echo.settings);
        client
    }

    /// Sends bytes in pieces. The server handles each piece before the next one comes.
    pub(crate) fn send(&mut self, bytes: &[u8], piece: usize) {
        for piece in bytes.chunks(piece) {
            self.connection.stream.to_relay.extend(piece);
            self.serve(Readiness::READABLE);
        }
    }

    /// Ends the client's direction of the stream.
    pub(crate) fn finish(&mut self) {
        self.connection.stream.is_client_done = true;
        self.serve(Readiness { is_read_closed: true, ..Readiness::READABLE });
    }

    fn serve(&mut self, readiness: Readiness) {
        if self.is_gone {
            return;
        }
        self.connection.note(readiness);
        let end = self.echo.serve(&mut self.connection, NOW);
        self.is_gone = end == FlushEnd::Gone;
        self.is_over |= matches!(end, FlushEnd::Shut | FlushEnd::Gone);
    }

    /// The HTTP head that was received, including the empty line.
    pub(crate) fn take_head(&mut self) -> String {
        let stream = &mut self.connection.stream;
        let end =
            stream.received().windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head") + 4;
        String::from_utf8(stream.take_received(end)).expect("ASCII")
    }

    /// Everything received since the last call. It must end with a whole message.
    pub(crate) fn take(&mut self) -> Vec<Received> {
        let input = &mut BytesMut::from(&self.connection.stream.take_all()[..]);
        let mut received = Vec::new();
        let mut message: Option<(u8, Vec<u8>)> = None;
        while let Some(frame) = take_frame(input) {
            match frame.opcode {
                0 => message.as_mut().expect("a message to continue").1.extend(&frame.payload),
                1 | 2 => {
                    assert_eq!(message.replace((frame.opcode, frame.payload.to_vec())), None);
                }
                8 => {
                    let (code, reason) = frame.payload.split_at(2);
                    let reason = String::from_utf8(reason.to_vec()).expect("UTF-8");
                    received.push(Received::Close(u16::try_from(big_endian(code)).unwrap(), reason));
                }
                // The server asks whether messages have arrived. The rows have no answers to that.
                9 => {}
                10 => received.push(Received::Pong(frame.payload.to_vec())),
                opcode => panic!("opcode {opcode}"),
            }
            if frame.opcode < 8 && frame.is_final {
                received.push(match message.take().expect("it was begun") {
                    (1, payload) => Received::Text(String::from_utf8(payload).expect("UTF-8")),
                    (_, payload) => Received::Binary(payload),
                });
            }
        }
        assert!(input.is_empty() && message.is_none(), "an unfinished frame or message");
        if self.is_over {
            received.push(Received::End);
        }
        received
    }

    #[track_caller]
    fn assert_received(mut self, expected: &[Received], then: Then, what: &str) {
        let mut received = self.take();
        let end = received.split_off(expected.len().min(received.len()));
        assert!(received == expected, "{what}: {}", shortened(&received));
        match (then, &end[..]) {
            (Then::Answered(code, reason), [Received::Close(got, got_reason), Received::End]) => {
                assert_eq!((*got, got_reason.as_str()), (code, reason), "{what}");
            }
            // After a framing error frames cannot be recognised, so the stream ends.
            (Then::Open, []) | (Then::Refused(1002), [Received::Close(1002, _), Received::End]) => {}
            // Otherwise they can be, and the client may answer the close.
            (Then::Refused(code), [Received::Close(got, _)]) if *got == code && code != 1002 => {
                self.send(&frame(CLOSE, &close_payload(code, "")), usize::MAX);
                assert_eq!(self.take(), [Received::End], "{what}: the client's answer ends it");
            }
            _ => panic!("{what}: {then:?}, but {}", shortened(&end)),
        }
        self.finish();
        assert!(self.is_gone, "{what}: the client ends the stream, and is gone");
        assert_eq!(self.take(), [Received::End], "{what}: nothing more comes");
    }
}

fn shortened(received: &[Received]) -> String {
    format!("{received:?}").chars().take(300).collect()
}
