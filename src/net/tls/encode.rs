//! How rustls is asked to encrypt: it says how much room it needs, and is asked again.

use rustls::unbuffered::{EncodeError, EncryptError, InsufficientSizeError};

/// What rustls has encrypted; or else `None` if it refuses, and as an error how much room it needs.
#[expect(clippy::needless_pass_by_value, reason = "it takes what rustls returns")]
pub(super) fn encoded(result: Result<usize, EncryptError>) -> Result<Option<usize>, usize> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => Err(required_size),
        Err(EncryptError::EncryptExhausted) => Ok(None),
    }
}

/// The same of what is not data.
#[expect(clippy::needless_pass_by_value, reason = "it takes what rustls returns")]
pub(super) fn encoded_handshake(result: Result<usize, EncodeError>) -> Result<Option<usize>, usize> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => Err(required_size),
        Err(EncodeError::AlreadyEncoded) => Ok(None),
    }
}

/// Makes room behind `bytes` for what `encode` writes; it says how much it needs if that is not enough.
pub(super) fn append_encoded(
    bytes: &mut Vec<u8>,
    mut encode: impl FnMut(&mut [u8]) -> Result<Option<usize>, usize>,
) {
    let start = bytes.len();
    loop {
        match encode(bytes.get_mut(start..).unwrap_or_default()) {
            Ok(count) => return bytes.truncate(start + count.unwrap_or(0)),
            Err(required) => bytes.resize(start + required, 0),
        }
    }
}
