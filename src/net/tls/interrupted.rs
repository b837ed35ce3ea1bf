//! Reads and writes that a signal does not interrupt.

use std::io::{self, Read, Write};

use mio::net::TcpStream;

pub(super) fn read_uninterrupted(socket: &mut TcpStream, place: &mut [u8]) -> io::Result<usize> {
    loop {
        match socket.read(place) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

pub(super) fn write_uninterrupted(socket: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match socket.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
