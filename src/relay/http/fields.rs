//! Header fields, and the lists and tokens in them (RFC 9110, section 5).

use std::str;

use httparse::Header;

/// The values of all fields with this name. httparse has removed the white space around them.
pub(super) fn values<'h>(fields: &[Header<'h>], name: &str) -> impl DoubleEndedIterator<Item = &'h [u8]> {
    fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

/// The value of the field with this name, if there is exactly one.
pub(super) fn only_value<'h>(fields: &[Header<'h>], name: &str) -> Option<&'h [u8]> {
    let mut values = values(fields, name);
    values.next().filter(|_| values.next().is_none())
}

/// The elements of the lists in all fields with this name, without empty ones (RFC 9110, section 5.6.1.2).
pub(super) fn elements<'h>(
    fields: &'h [Header<'h>],
    name: &str,
) -> impl DoubleEndedIterator<Item = &'h [u8]> {
    values(fields, name).flat_map(split_list).filter(|element| !element.is_empty())
}

/// The elements of one list, including empty ones. White space in a field is only SP and HTAB.
pub(super) fn split_list(value: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// Parses `1*DIGIT`. `None` if it does not fit.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    // `parse` alone would accept a sign.
    let is_number = digits.iter().all(u8::is_ascii_digit);
    str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

/// The element, if it is a token (RFC 9110, section 5.6.2) and so safe to echo.
pub(super) fn token(element: &[u8]) -> Option<String> {
    let is_token = element.iter().copied().all(is_token_byte);
    str::from_utf8(element).ok().filter(|_| is_token).map(str::to_owned)
}

/// Whether the byte is a `tchar` (RFC 9110, section 5.6.2).
pub(super) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.')
        || matches!(byte, b'^' | b'_' | b'`' | b'|' | b'~')
}
