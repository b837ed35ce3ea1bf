//! The lower bound: joins the two clients of a session by copying bytes, without frames, checks or queues.
//!
//! Its cost per message is what the kernel needs for any program with one thread. Every upgrade is answered with the
//! one accept key that the clients of this benchmark expect. Bytes for a peer that is not connected are dropped.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

/// The flag that makes the benchmark's program run as the pipe.
pub(crate) const PIPE_FLAG: &str = "--be-the-pipe";

const BUFFER_BYTES: usize = 64 * 1024;
const LISTENER: Token = Token(usize::MAX);
const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// One client's end of a pipe.
struct End {
    stream: TcpStream,
    /// The request head so far. `None` once it is answered.
    head: Option<Vec<u8>>,
    session: String,
    peer: Option<usize>,
    /// Bytes that its socket has not taken. Its peer is not read until they are sent.
    rest: Vec<u8>,
}

#[derive(Default)]
struct Pipe {
    ends: Slab<End>,
    /// The first client of each session, until its peer comes.
    alone: HashMap<String, usize>,
    buffer: Vec<u8>,
}

/// Serves until the process is killed.
pub(crate) fn run() -> io::Result<()> {
    let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    eprintln!("Listening on ws://{}", listener.local_addr()?);
    let mut pipe = Pipe { buffer: vec![0; BUFFER_BYTES], ..Pipe::default() };
    let mut events = Events::with_capacity(1024);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            Ok(()) | Err(_) => {}
        }
        for event in &events {
            if event.token() == LISTENER {
                pipe.accept(&listener, &poll)?;
                continue;
            }
            let Token(id) = event.token();
            if event.is_writable() {
                pipe.write_rest(id);
            }
            if event.is_readable() {
                pipe.read(id, event.is_read_closed());
            }
        }
    }
}

impl Pipe {
    fn accept(&mut self, listener: &TcpListener, poll: &Poll) -> io::Result<()> {
        while let Ok((mut stream, _)) = listener.accept() {
            stream.set_nodelay(true)?;
            let entry = self.ends.vacant_entry();
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut stream, Token(entry.key()), interest)?;
            let (head, session) = (Some(Vec::new()), String::new());
            entry.insert(End { stream, head, session, peer: None, rest: Vec::new() });
        }
        Ok(())
    }

    /// Copies bytes until there are no more, or until the peer takes no more.
    fn read(&mut self, id: usize, is_to_end: bool) {
        while let Some(end) = self.ends.get(id) {
            let peer = end.peer;
            if peer.is_some_and(|peer| !self.ends[peer].rest.is_empty()) {
                return;
            }
            match self.ends[id].stream.read(&mut self.buffer) {
                Ok(count) if count > 0 => {
                    if self.ends[id].head.is_some() {
                        self.read_head(id, count);
                    } else if let Some(peer) = peer {
                        self.write(peer, count);
                    }
                    if count < BUFFER_BYTES && !is_to_end {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Ok(_) | Err(_) => return self.remove(id),
            }
        }
    }

    /// Writes the first `count` bytes of the buffer, and keeps what the socket does not take.
    fn write(&mut self, id: usize, count: usize) {
        let end = &mut self.ends[id];
        let mut written = 0;
        while written < count {
            match end.stream.write(&self.buffer[written..count]) {
                Ok(taken) => written += taken,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    end.rest.extend_from_slice(&self.buffer[written..count]);
                    return;
                }
                Err(_) => return self.remove(id),
            }
        }
    }

    fn write_rest(&mut self, id: usize) {
        let Some(end) = self.ends.get_mut(id).filter(|end| !end.rest.is_empty()) else { return };
        while !end.rest.is_empty() {
            match end.stream.write(&end.rest) {
                Ok(taken) => drop(end.rest.drain(..taken)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.remove(id),
            }
        }
        if let Some(peer) = end.peer {
            self.read(peer, true);
        }
    }

    /// Answers a complete request, and joins the client to the one that waits under the same session ID.
    fn read_head(&mut self, id: usize, count: usize) {
        let end = &mut self.ends[id];
        let mut head = end.head.take().unwrap_or_default();
        head.extend_from_slice(&self.buffer[..count]);
        if !head.ends_with(b"\r\n\r\n") {
            end.head = Some(head);
            return;
        }
        let head = String::from_utf8_lossy(&head);
        end.session =
            head.split(' ').nth(1).and_then(|path| path.rsplit('/').next()).unwrap_or("").to_owned();
        // A new socket has room for the answer.
        if end.stream.write(ANSWER).is_err() {
            return self.remove(id);
        }
        match self.alone.remove(&end.session) {
            Some(peer) => {
                end.peer = Some(peer);
                self.ends[peer].peer = Some(id);
            }
            None => drop(self.alone.insert(end.session.clone(), id)),
        }
    }

    fn remove(&mut self, id: usize) {
        let Some(end) = self.ends.try_remove(id) else { return };
        match end.peer {
            Some(peer) => self.ends[peer].peer = None,
            // Only a client without a peer is still in `alone`.
            None if self.alone.get(&end.session) == Some(&id) => drop(self.alone.remove(&end.session)),
            None => {}
        }
    }
}
