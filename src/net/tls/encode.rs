//! Encrypting with rustls: if the output buffer is too short, rustls says how many bytes it needs, and the call is
//! repeated with a longer one.

use rustls::unbuffered::{EncodeError, EncryptError, InsufficientSizeError};

/// The number of bytes written. `None` if the key has encrypted as much as it may; the error is the number of bytes
/// that rustls needs.
#[expect(clippy::needless_pass_by_value, reason = "it takes what rustls returns")]
pub(super) fn encoded(result: Result<usize, EncryptError>) -> Result<Option<usize>, usize> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => Err(required_size),
        Err(EncryptError::EncryptExhausted) => Ok(None),
    }
}

/// As [`encoded`], for handshake messages and alerts. `None` if rustls has given them out before.
#[expect(clippy::needless_pass_by_value, reason = "it takes what rustls returns")]
pub(super) fn encoded_handshake(result: Result<usize, EncodeError>) -> Result<Option<usize>, usize> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => Err(required_size),
        Err(EncodeError::AlreadyEncoded) => Ok(None),
    }
}

/// Appends to `bytes` what `encode` writes. If `encode` needs more room, its error is the number of bytes needed.
pub(super) fn append_encoded(
    bytes: &mut Vec<u8>,
    mut encode: impl FnMut(&mut [u8]) -> Result<Option<usize>, usize>,
) {
    let start = bytes.len();
    // The first call has no room at all: it only asks for the size.
    loop {
        match encode(bytes.get_mut(start..).unwrap_or_default()) {
            Ok(count) => return bytes.truncate(start + count.unwrap_or(0)),
            Err(required) => bytes.resize(start + required, 0),
        }
    }
}
