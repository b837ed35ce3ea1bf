//! Reads and writes that a signal does not interrupt.

use std::io::{self, Read, Write};

use crate::net::socket::Socket;

pub(super) fn read_uninterrupted(socket: &mut Socket, place: &mut [u8]) -> io::Result<usize> {
    loop {
        match socket.read(place) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

pub(super) fn write_uninterrupted(socket: &mut Socket, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match socket.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
