//! Client addresses and address ranges.
//!
//! An IPv4-mapped IPv6 address (`::ffff:192.0.2.1`, RFC 4291, section 2.5.5.2) is always treated as the IPv4 address,
//! so that no client passes a rule by writing its address in another form.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Length in bits of the prefix `::ffff:0:0`, which comes before the IPv4 address in a mapped address.
const MAPPED_PREFIX_BITS: u8 = 96;

/// The address of a client. An IPv4 address is stored in its mapped form. The default is the unspecified address `::`
/// (RFC 4291, section 2.5.2), which no client has.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct ClientAddress([u8; 16]);

impl ClientAddress {
    /// Stores `address`.
    #[must_use]
    pub const fn new(address: IpAddr) -> Self {
        Self(match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        })
    }

    /// The address. A mapped address is returned as IPv4.
    #[must_use]
    pub const fn plain(self) -> IpAddr {
        Ipv6Addr::from_bits(u128::from_be_bytes(self.0)).to_canonical()
    }

    /// The host that this address belongs to: what the limits per address count as one.
    #[must_use]
    pub const fn host(self) -> Host {
        match self.plain() {
            IpAddr::V4(address) => Host::V4(address.to_bits()),
            IpAddr::V6(address) => {
                let network = (address.to_bits() >> 64) as u64;
                Host::V6(network)
            }
        }
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plain().fmt(f)
    }
}

impl fmt::Debug for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plain().fmt(f)
    }
}

/// What the limits per address count as one client: an IPv4 address, or an IPv6 /64, which is usually one household.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// The address.
    V4(u32),
    /// The upper 64 bits of the address.
    V6(u64),
}

/// A set of address ranges. A lookup takes logarithmic time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// Disjoint, in ascending order.
    ranges: Vec<IpNet>,
}

impl Networks {
    /// The union of these ranges. They may overlap.
    #[must_use]
    pub fn new(ranges: &[IpNet]) -> Self {
        let plain: Vec<IpNet> = ranges.iter().map(|range| plain_range(*range)).collect();
        // `aggregate` merges ranges that overlap or adjoin, so the result is disjoint.
        let mut ranges = IpNet::aggregate(&plain);
        ranges.sort_unstable_by_key(IpNet::network);
        Self { ranges }
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether the address lies in one of the ranges.
    #[must_use]
    pub fn contains(&self, address: ClientAddress) -> bool {
        let address = address.plain();
        // The ranges are disjoint, so only the last one that starts at or before the address can contain it.
        let started = self.ranges.partition_point(|range| range.network() <= address);
        let last_started = started.checked_sub(1).and_then(|index| self.ranges.get(index));
        last_started.is_some_and(|range| range.contains(&address))
    }
}

/// Parses `192.0.2.0/24`, `2001:db8::/32`, or a single address.
///
/// # Errors
/// A sentence that says what is wrong and what to write instead.
pub fn parse_range(text: &str) -> Result<IpNet, Cow<'static, str>> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(plain_range(address.into()));
    }
    let range = split_range(text)
        .ok_or("not an address range; write ADDRESS/BITS, such as 192.0.2.0/24 or 2001:db8::/32")?;
    if range.trunc() != range {
        return Err(format!("has bits set behind its prefix; write {}", range.trunc()).into());
    }
    Ok(plain_range(range))
}

/// Parses ADDRESS/BITS with the parser of the standard library, which rejects leading zeros. That of `ipnet` accepts
/// 010.0.0.0 as 10.0.0.0, although other programs read it as octal.
fn split_range(text: &str) -> Option<IpNet> {
    let (address, bits) = text.split_once('/')?;
    // `parse` alone would accept a plus sign.
    let is_number = bits.bytes().all(|byte| byte.is_ascii_digit());
    let bits = Some(bits).filter(|_| is_number)?.parse().ok()?;
    IpNet::new(address.parse().ok()?, bits).ok()
}

/// Converts a range of mapped addresses to a range of IPv4 addresses. Leaves any other range as it is.
fn plain_range(range: IpNet) -> IpNet {
    let IpNet::V6(mapped) = range else { return range };
    let bits = mapped.prefix_len().checked_sub(MAPPED_PREFIX_BITS);
    let plain = mapped.addr().to_ipv4_mapped().zip(bits);
    plain.and_then(|(address, bits)| Ipv4Net::new(address, bits).ok()).map_or(range, IpNet::V4)
}

/// Whether the address is on the loopback interface. The limits per address do not apply there.
pub(super) fn is_loopback(address: ClientAddress) -> bool {
    address.plain().is_loopback()
}

/// The ranges of the loopback interface.
pub(super) fn loopback() -> [IpNet; 2] {
    [
        IpNet::V4(Ipv4Net::new_assert(std::net::Ipv4Addr::new(127, 0, 0, 0), 8)),
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> ClientAddress {
        ClientAddress::new(text.parse().unwrap())
    }

    fn networks(ranges: &[&str]) -> Networks {
        Networks::new(&ranges.iter().map(|range| parse_range(range).unwrap()).collect::<Vec<_>>())
    }

    #[test]
    fn a_mapped_address_equals_its_ipv4_address() {
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
        assert_eq!(address("::ffff:192.0.2.1").to_string(), "192.0.2.1");
        assert_eq!(address("::ffff:127.0.0.1").host(), address("127.0.0.1").host());
        assert!(is_loopback(address("::ffff:127.8.0.1")) && is_loopback(address("::1")));
        assert!(!is_loopback(address("192.0.2.1")) && !is_loopback(address("::2")));
        // The deprecated form without `ffff` is an IPv6 address like any other.
        assert_ne!(address("::192.0.2.1"), address("192.0.2.1"));
    }

    #[test]
    fn a_host_is_an_ipv4_address_or_an_ipv6_network_of_64_bits() {
        assert_ne!(address("192.0.2.1").host(), address("192.0.2.2").host());
        assert_eq!(address("2001:db8:0:1::1").host(), address("2001:db8:0:1:ffff::").host());
        assert_ne!(address("2001:db8:0:1::").host(), address("2001:db8:0:2::").host());
        assert_ne!(address("0.0.0.1").host(), address("0:0:0:1::").host());
    }

    #[test]
    fn ranges_contain_their_addresses_and_no_others() {
        let table: [(&[&str], &[&str], &[&str]); 6] = [
            (&[], &[], &["192.0.2.1", "::1"]),
            (&["192.0.2.7"], &["192.0.2.7", "::ffff:192.0.2.7"], &["192.0.2.6", "192.0.2.8", "::192.0.2.7"]),
            (&["192.0.2.0/24"], &["192.0.2.0", "192.0.2.255"], &["192.0.1.255", "192.0.3.0"]),
            (&["::ffff:192.0.2.0/120"], &["192.0.2.9", "::ffff:192.0.2.9"], &["192.0.3.0"]),
            (&["2001:db8::/32"], &["2001:db8::", "2001:db8:ffff::1"], &["2001:db9::", "2001:db7:ffff::"]),
            (
                &["10.1.0.0/16", "10.0.0.0/8", "10.1.2.3", "::/0", "192.0.2.0/25", "192.0.2.128/25"],
                &["10.255.0.1", "10.1.2.3", "192.0.2.127", "192.0.2.128", "::", "ffff::"],
                &["11.0.0.0", "9.255.255.255", "192.0.3.0"],
            ),
        ];
        for (ranges, inside, outside) in table {
            let networks = networks(ranges);
            assert_eq!(networks.is_empty(), ranges.is_empty());
            for text in inside {
                assert!(networks.contains(address(text)), "{text} is in {ranges:?}");
            }
            for text in outside {
                assert!(!networks.contains(address(text)), "{text} is not in {ranges:?}");
            }
        }
    }

    #[test]
    fn text_that_is_not_a_range_is_refused_with_a_remedy() {
        for (text, problem) in [
            ("", "not an address range"),
            ("relay.example.com", "not an address range"),
            ("192.0.2.0/33", "not an address range"),
            ("192.0.2/24", "not an address range"),
            ("010.0.0.0", "not an address range"),
            ("010.0.0.0/8", "not an address range"),
            ("::ffff:010.0.0.0/104", "not an address range"),
            ("10.0.0.0/+8", "not an address range"),
            ("10.0.0.0/", "not an address range"),
            ("192.0.2.0/24 ", "not an address range"),
            ("192.0.2.1/24", "write 192.0.2.0/24"),
            ("2001:db8::1/32", "write 2001:db8::/32"),
        ] {
            let error = parse_range(text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
