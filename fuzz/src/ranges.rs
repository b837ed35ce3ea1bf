//! Ranges of addresses as a list, compared bit by bit.

use std::net::IpAddr;

/// An address and the number of its first bits that count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    bits: Vec<bool>,
    prefix: usize,
}

/// Parses ADDRESS/BITS or ADDRESS. `None` if it is neither, or has a bit set after its prefix.
pub fn read(text: &str) -> Option<Range> {
    let Some((address, prefix)) = text.split_once('/') else {
        let bits = bits_as_written(text.parse().ok()?);
        return Some(Range { prefix: bits.len(), bits }.plain());
    };
    let bits = bits_as_written(address.parse().ok()?);
    let prefix = number(prefix)?;
    let is_trimmed = prefix <= bits.len() && bits.iter().skip(prefix).all(|&bit| !bit);
    is_trimmed.then(|| Range { bits, prefix }.plain())
}

fn number(digits: &str) -> Option<usize> {
    let mut number: Option<usize> = None;
    for digit in digits.chars() {
        let digit = digit.to_digit(10)? as usize;
        number = Some(number.unwrap_or(0).saturating_mul(10).saturating_add(digit));
    }
    number
}

/// Whether one of the ranges contains the address.
pub fn contain(ranges: &[Range], address: IpAddr) -> bool {
    let address = Range { bits: bits_as_written(address), prefix: 128 }.plain();
    ranges.iter().any(|range| {
        let is_same = |index: usize| range.bits[index] == address.bits[index];
        range.bits.len() == address.bits.len() && (0..range.prefix).all(is_same)
    })
}

impl Range {
    /// As IPv4, if it contains only mapped addresses.
    fn plain(self) -> Self {
        let is_mapped = self.bits.len() == 128
            && self.prefix >= 96
            && (0..96).all(|index| self.bits[index] == (index >= 80));
        if is_mapped { Self { bits: self.bits[96..].to_vec(), prefix: self.prefix - 96 } } else { self }
    }

    /// An address in the range, with the bits after its prefix taken from `tail`.
    pub fn member(&self, tail: u128) -> IpAddr {
        let mut bits = self.bits.clone();
        for index in self.prefix..bits.len() {
            bits[index] = tail >> (bits.len() - 1 - index) & 1 != 0;
        }
        address(&bits)
    }

    /// An address that differs from those in the range in the last bit of the prefix. `None` for an empty prefix.
    pub fn neighbour(&self) -> Option<IpAddr> {
        let mut bits = self.bits.clone();
        let last = self.prefix.checked_sub(1)?;
        bits[last] = !bits[last];
        Some(address(&bits))
    }
}

fn address(bits: &[bool]) -> IpAddr {
    let number = bits.iter().fold(0_u128, |number, &bit| number << 1 | u128::from(bit));
    if bits.len() == 32 { IpAddr::V4((number as u32).into()) } else { IpAddr::V6(number.into()) }
}

fn bits_as_written(address: IpAddr) -> Vec<bool> {
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    octets.into_iter().flat_map(|octet| (0..8).rev().map(move |bit| octet >> bit & 1 != 0)).collect()
}
