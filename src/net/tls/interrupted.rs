//! Reads and writes that begin again when a signal interrupts them.

use std::io::{self, Write};

use mio::net::TcpStream;

use crate::net::platform;

pub(super) fn read_uninterrupted(socket: &mut TcpStream, place: &mut [u8]) -> io::Result<usize> {
    loop {
        match platform::read(socket, place) {
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
