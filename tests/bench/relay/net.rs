//! All clients of a test in one loop of non-blocking sockets. Anything unexpected is an error.

use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};

use crate::Result;
use crate::frame::{CLOSE, PONG, read_frame, write_frame};
use crate::process::Server;

/// Bytes per read.
const READ_BYTES: usize = 256 * 1024;
/// Bytes written to one client before it is the others' turn, so that a bundle does not delay noticing answers to
/// others.
const WRITE_BYTES: usize = READ_BYTES;
/// Connections that have not joined yet at any time. Fewer than a listener's backlog.
const OPENING_MAX: usize = 64;
/// Time for all clients to join.
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait of one turn, so that tests can check the clock.
const TURN: Duration = Duration::from_millis(10);
/// The answer to the sample key of RFC 6455, which every client sends.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What a client receives.
pub(crate) enum Received<'a> {
    /// A message of its peer.
    Message(&'a [u8]),
    /// A message of the relay itself. Error messages end the test instead.
    System(&'a [u8]),
    Pong,
    /// The client may send from now on.
    Joined,
    /// The answer to the client's close. Its connection has ended.
    Closed,
}

/// What a test does with received messages.
pub(crate) trait Receive {
    fn receive(&mut self, clients: &mut Clients, from: usize, received: Received<'_>) -> Result<()>;
}

/// For tests that only wait.
pub(crate) struct Ignore;

impl Receive for Ignore {
    fn receive(&mut self, _: &mut Clients, _: usize, _: Received<'_>) -> Result<()> {
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The answer to its upgrade has not arrived.
    Upgrading,
    /// Its `connected` has not arrived.
    Upgraded,
    Joined,
    /// It has sent a close.
    Closing,
    Closed,
}

struct Client {
    stream: TcpStream,
    phase: Phase,
    /// The start of an incomplete frame.
    input: Vec<u8>,
    /// The fragments so far of an incomplete message.
    fragments: Option<Vec<u8>>,
    output: Vec<u8>,
    /// Bytes of `output` that the kernel has taken.
    written: usize,
    /// Bytes that the kernel has taken in all.
    taken_bytes: u64,
    is_held: bool,
    is_touched: bool,
}

/// The desktop of session `n` is at index `2 * n`, and its mobile at the next one.
pub(crate) struct Clients {
    list: Vec<Client>,
    /// Clients with something to write, each at most once.
    touched: Vec<usize>,
}

impl Clients {
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Queues what `write` appends. It is sent after the current event.
    pub(crate) fn send(&mut self, id: usize, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.list[id].output);
        self.touch(id);
    }

    fn touch(&mut self, id: usize) {
        if !mem::replace(&mut self.list[id].is_touched, true) {
            self.touched.push(id);
        }
    }

    /// Begins an orderly close.
    pub(crate) fn close(&mut self, id: usize) {
        self.list[id].phase = Phase::Closing;
        self.send(id, |out| write_frame(CLOSE, &1000_u16.to_be_bytes(), out));
    }

    pub(crate) fn is_joined(&self, id: usize) -> bool {
        self.list[id].phase == Phase::Joined
    }

    pub(crate) fn is_closed(&self, id: usize) -> bool {
        self.list[id].phase == Phase::Closed
    }

    /// A held client is read only by [`Net::read`].
    pub(crate) fn hold(&mut self, id: usize) {
        self.list[id].is_held = true;
    }

    /// Queued bytes that the kernel has not taken.
    pub(crate) fn pending_bytes(&self, id: usize) -> usize {
        self.list[id].output.len() - self.list[id].written
    }

    pub(crate) fn taken_bytes(&self, id: usize) -> u64 {
        self.list[id].taken_bytes
    }

    /// Writes for all clients that have something to write. The rest of a long output follows in the next turn.
    fn flush(&mut self) -> Result<()> {
        let mut unfinished = Vec::new();
        while let Some(id) = self.touched.pop() {
            let client = &mut self.list[id];
            client.is_touched = false;
            if client.phase == Phase::Closed {
                continue;
            }
            let is_done =
                client.flush(WRITE_BYTES).map_err(|error| format!("client {id} cannot write: {error}"))?;
            if !is_done {
                unfinished.push(id);
            }
        }
        for id in unfinished {
            self.touch(id);
        }
        Ok(())
    }
}

impl Client {
    /// Writes about `bytes_max` bytes at most. Returns whether the kernel takes no more or nothing is left.
    fn flush(&mut self, bytes_max: usize) -> io::Result<bool> {
        let end = self.output.len().min(self.written + bytes_max);
        while self.written < end {
            match self.stream.write(&self.output[self.written..end]) {
                Ok(count) => {
                    self.written += count;
                    self.taken_bytes += count as u64;
                }
                Err(error) if is_not_ready(&error) => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        if end < self.output.len() {
            return Ok(false);
        }
        self.written = 0;
        self.output.clear();
        // Frees the memory of a bundle, which small messages do not need.
        self.output.shrink_to(READ_BYTES);
        Ok(true)
    }
}

/// Whether the error means that a socket has nothing to read, no room to write, or no connection yet.
fn is_not_ready(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected)
}

pub(crate) struct Net {
    poll: Poll,
    events: Events,
    scratch: Vec<u8>,
    server: SocketAddr,
    /// With the pipe there is no `connected`, and frames arrive as the peer has masked them.
    is_pipe: bool,
    opened: usize,
    pub(crate) clients: Clients,
}

impl Net {
    /// Without clients yet. All of them will connect to `server`.
    pub(crate) fn new(server: &Server) -> Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            scratch: vec![0; READ_BYTES],
            server: server.address,
            is_pipe: server.is_pipe,
            opened: 0,
            clients: Clients { list: Vec::new(), touched: Vec::new() },
        })
    }

    /// As [`new`](Self::new), with `pairs` sessions joined.
    pub(crate) fn with_pairs(server: &Server, pairs: usize) -> Result<Self> {
        let mut net = Self::new(server)?;
        net.open_pairs(pairs, None)?;
        Ok(net)
    }

    /// Adds `pairs` sessions, and waits until all their clients have joined. With a small `receive_buffer`, mobiles
    /// leave few bytes in the kernel when they read slowly.
    pub(crate) fn open_pairs(&mut self, pairs: usize, receive_buffer: Option<usize>) -> Result<()> {
        let deadline = Instant::now() + JOIN_TIMEOUT;
        let end = self.clients.len() + 2 * pairs;
        let mut opening = Vec::new();
        while self.clients.len() < end || !opening.is_empty() {
            while self.clients.len() < end && opening.len() < OPENING_MAX {
                let id = self.clients.len();
                self.open(id, receive_buffer.filter(|_| id % 2 == 1))?;
                opening.push(id);
            }
            self.turn(TURN, &mut Ignore)?;
            opening.retain(|&id| !self.clients.is_joined(id));
            if Instant::now() > deadline {
                return Err(format!("{} clients have not joined in time", opening.len()).into());
            }
        }
        // The last notices about peers.
        self.run_for(Duration::from_millis(50), &mut Ignore)
    }

    /// Connects client `id`, which is new or replaces a closed one, to a session of its own name.
    pub(crate) fn open(&mut self, id: usize, receive_buffer: Option<usize>) -> Result<()> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        // One source address has too few ports for all the connections that come and go.
        let host = u8::try_from(2 + self.opened % 250)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0)).into())?;
        // The connection is in progress. The socket becomes writable when it is complete.
        if let Err(error) = socket.connect(&self.server.into())
            && error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error())
        {
            return Err(error.into());
        }
        let mut stream = TcpStream::from_std(socket.into());
        self.poll.registry().register(&mut stream, Token(id), Interest::READABLE | Interest::WRITABLE)?;
        // The two clients of a session are opened one right after the other.
        let client_type = if id.is_multiple_of(2) { "desktop" } else { "mobile" };
        let request = format!(
            "GET /{client_type}/bench-{}-{} HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            id / 2,
            self.opened / 2
        );
        self.opened += 1;
        let client = Client {
            stream,
            phase: Phase::Upgrading,
            input: Vec::new(),
            fragments: None,
            output: request.into_bytes(),
            written: 0,
            taken_bytes: 0,
            is_held: false,
            is_touched: false,
        };
        match self.clients.list.get_mut(id) {
            Some(place) => *place = client,
            None => self.clients.list.push(client),
        }
        Ok(())
    }

    /// Drops all connections from index `start` on.
    pub(crate) fn drop_from(&mut self, start: usize) {
        self.clients.list.truncate(start);
        self.clients.touched.retain(|&id| id < start);
    }

    /// Makes turns for `time`.
    pub(crate) fn run_for(&mut self, time: Duration, receiver: &mut impl Receive) -> Result<()> {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            self.turn(TURN, receiver)?;
        }
        Ok(())
    }

    /// Waits for readiness for at most `wait`, and serves each ready client once.
    pub(crate) fn turn(&mut self, wait: Duration, receiver: &mut impl Receive) -> Result<()> {
        self.clients.flush()?;
        let mut events = mem::replace(&mut self.events, Events::with_capacity(0));
        let wait = if self.clients.touched.is_empty() { wait } else { Duration::ZERO };
        match self.poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        for event in &events {
            let Token(id) = event.token();
            if id >= self.clients.len() {
                continue;
            }
            if event.is_writable() {
                self.clients.touch(id);
            }
            if event.is_readable() && !self.clients.list[id].is_held {
                self.read_all(id, event.is_read_closed(), receiver)?;
            }
            self.clients.flush()?;
        }
        self.events = events;
        Ok(())
    }

    /// Reads all available bytes. A read that does not fill its buffer has emptied the socket, except for the end of
    /// the stream.
    fn read_all(&mut self, id: usize, is_to_end: bool, receiver: &mut impl Receive) -> Result<()> {
        loop {
            let count = self.read(id, READ_BYTES, receiver)?;
            if count == 0 || (count < READ_BYTES && !is_to_end) {
                return Ok(());
            }
        }
    }

    /// Reads at most `bytes_max` bytes of a client and passes on what they complete. Returns the number of bytes.
    pub(crate) fn read(&mut self, id: usize, bytes_max: usize, receiver: &mut impl Receive) -> Result<usize> {
        let client = &mut self.clients.list[id];
        if client.phase == Phase::Closed {
            return Ok(0);
        }
        let bytes_max = bytes_max.min(READ_BYTES);
        let count = match client.stream.read(&mut self.scratch[..bytes_max]) {
            Ok(0) => return Err(format!("the connection of client {id} has ended").into()),
            Ok(count) => count,
            Err(error) if is_not_ready(&error) => return Ok(0),
            Err(error) => return Err(format!("client {id} cannot read: {error}").into()),
        };
        if client.input.is_empty() {
            let mut scratch = mem::take(&mut self.scratch);
            let used = self.take_all(id, &mut scratch[..count], receiver)?;
            self.clients.list[id].input.extend_from_slice(&scratch[used..count]);
            self.scratch = scratch;
        } else {
            let mut input = mem::take(&mut client.input);
            input.extend_from_slice(&self.scratch[..count]);
            let used = self.take_all(id, &mut input, receiver)?;
            input.drain(..used);
            // Most clients have no incomplete frame, and then need no buffer.
            self.clients.list[id].input = if input.is_empty() { Vec::new() } else { input };
        }
        Ok(count)
    }

    /// Passes on all that is complete in `input`. Returns the number of bytes used.
    fn take_all(&mut self, id: usize, input: &mut [u8], receiver: &mut impl Receive) -> Result<usize> {
        let mut used = 0;
        if self.clients.list[id].phase == Phase::Upgrading {
            let Some(at) = input.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(0) };
            let head = str::from_utf8(&input[..at])?;
            if !head.starts_with("HTTP/1.1 101 ") || !head.contains(ACCEPT) {
                return Err(format!("instead of an upgrade, client {id} got: {head}").into());
            }
            used = at + 4;
            self.clients.list[id].phase = Phase::Upgraded;
            if self.is_pipe {
                self.join(id, receiver)?;
            }
        }
        while let Some(frame) = read_frame(&mut input[used..], self.is_pipe)? {
            let payload = &input[used..][frame.payload.clone()];
            match (frame.opcode, frame.is_final) {
                (0x0 | 0x1, is_final) => self.take_fragment(id, is_final, payload, receiver)?,
                (0x8, true) => return self.take_close(id, payload, receiver).map(|()| input.len()),
                (0x9, true) => self.clients.send(id, |out| write_frame(PONG, payload, out)),
                (0xA, true) => receiver.receive(&mut self.clients, id, Received::Pong)?,
                (opcode, _) => return Err(format!("client {id} got opcode {opcode}").into()),
            }
            used += frame.payload.end;
        }
        Ok(used)
    }

    fn join(&mut self, id: usize, receiver: &mut impl Receive) -> Result<()> {
        self.clients.list[id].phase = Phase::Joined;
        receiver.receive(&mut self.clients, id, Received::Joined)
    }

    fn take_fragment(
        &mut self,
        id: usize,
        is_final: bool,
        payload: &[u8],
        receiver: &mut impl Receive,
    ) -> Result<()> {
        match (self.clients.list[id].fragments.take(), is_final) {
            (None, true) => self.take_message(id, payload, receiver),
            (None, false) => {
                self.clients.list[id].fragments = Some(payload.to_vec());
                Ok(())
            }
            (Some(mut fragments), is_final) => {
                fragments.extend_from_slice(payload);
                if is_final {
                    return self.take_message(id, &fragments, receiver);
                }
                self.clients.list[id].fragments = Some(fragments);
                Ok(())
            }
        }
    }

    fn take_message(&mut self, id: usize, message: &[u8], receiver: &mut impl Receive) -> Result<()> {
        if !message.starts_with(br#"{"type":""#) {
            return receiver.receive(&mut self.clients, id, Received::Message(message));
        }
        let is_of_type = |name: &[u8]| message[9..].starts_with(name);
        if is_of_type(b"error\"") {
            return Err(format!("client {id} is told {}", String::from_utf8_lossy(message)).into());
        }
        if is_of_type(b"connected\"") {
            return self.join(id, receiver);
        }
        receiver.receive(&mut self.clients, id, Received::System(message))
    }

    fn take_close(&mut self, id: usize, payload: &[u8], receiver: &mut impl Receive) -> Result<()> {
        let client = &mut self.clients.list[id];
        if client.phase != Phase::Closing {
            let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default());
            return Err(format!("client {id} was closed: {reason}").into());
        }
        // The close frame must be sent before the stream ends.
        client.flush(WRITE_BYTES)?;
        client.phase = Phase::Closed;
        self.poll.registry().deregister(&mut client.stream)?;
        client.stream.shutdown(std::net::Shutdown::Both)?;
        receiver.receive(&mut self.clients, id, Received::Closed)
    }
}
