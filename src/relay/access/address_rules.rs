//! The address rules: which client addresses are served.

use ipnet::IpNet;

use super::operator_file::{FileProblem, read_lines};
use crate::relay::address::{ClientAddress, Networks, parse_range};

/// Allowed and denied ranges. If there are allowed ranges, all other addresses are denied. A denied range wins over
/// an allowed one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressRules {
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
}

impl AddressRules {
    /// Parses lines of the form `allow RANGE` or `deny RANGE`. Their order does not matter.
    ///
    /// # Errors
    /// What is wrong with which line, or that there is no rule.
    pub fn parse(text: &str) -> Result<Self, FileProblem> {
        let mut rules = Self::default();
        read_lines(text, "rule; write lines of the form: allow RANGE, or: deny RANGE", |words| {
            let ranges = match words.first() {
                Some(&"allow") => &mut rules.allow,
                Some(&"deny") => &mut rules.deny,
                Some(_) | None => return Err("begins with neither allow nor deny".into()),
            };
            let &[_, range] = words else {
                return Err("not of the form: allow RANGE, or: deny RANGE".into());
            };
            ranges.push(parse_range(range)?);
            Ok(())
        })?;
        Ok(rules)
    }
}

/// The rules of the settings and of a file together, in a form for fast lookups.
#[derive(Debug)]
pub(crate) struct ServedAddresses {
    allow: Networks,
    deny: Networks,
}

impl ServedAddresses {
    pub(crate) fn new(allow: &[IpNet], deny: &[IpNet], rules: &AddressRules) -> Self {
        Self {
            allow: Networks::new(&[allow, &rules.allow].concat()),
            deny: Networks::new(&[deny, &rules.deny].concat()),
        }
    }

    /// Whether clients from this address are served.
    pub(crate) fn contains(&self, address: ClientAddress) -> bool {
        !self.deny.contains(address) && (self.allow.is_empty() || self.allow.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_served(rules: &str, address: &str) -> bool {
        let rules = AddressRules::parse(rules).unwrap();
        ServedAddresses::new(&[], &[], &rules).contains(ClientAddress::new(address.parse().unwrap()))
    }

    #[test]
    fn a_denied_address_is_not_served_and_with_any_allow_only_allowed_ones_are() {
        for (rules, address, is_in) in [
            ("deny 192.0.2.0/24", "192.0.2.1", false),
            ("deny 192.0.2.0/24", "::ffff:192.0.2.1", false),
            ("deny 192.0.2.0/24", "198.51.100.1", true),
            ("deny 192.0.2.0/24", "2001:db8::1", true),
            ("allow 192.0.2.0/24", "192.0.2.1", true),
            ("allow 192.0.2.0/24", "198.51.100.1", false),
            ("allow 192.0.2.0/24\ndeny 192.0.2.7", "192.0.2.7", false),
            ("deny 192.0.2.7 # the order does not matter\n\nallow 192.0.2.0/24", "192.0.2.7", false),
            ("allow ::/0", "192.0.2.1", false),
            ("allow ::/0", "2001:db8::1", true),
        ] {
            assert_eq!(is_served(rules, address), is_in, "{rules}: {address}");
        }
    }

    #[test]
    fn rules_of_the_configuration_and_of_the_file_add_up() {
        let range = |text| [parse_range(text).unwrap()];
        let rules = AddressRules::parse("allow 10.0.0.0/8\ndeny 192.0.2.7").unwrap();
        let both = ServedAddresses::new(&range("192.0.2.0/24"), &range("10.1.0.0/16"), &rules);
        for (address, is_in) in [
            ("10.0.0.1", true),
            ("10.1.0.1", false),
            ("192.0.2.1", true),
            ("192.0.2.7", false),
            ("::1", false),
        ] {
            assert_eq!(both.contains(ClientAddress::new(address.parse().unwrap())), is_in, "{address}");
        }
    }

    #[test]
    fn an_error_names_the_line_and_the_problem() {
        for (text, problem) in [
            ("", "holds no rule"),
            ("# deny ::/0", "holds no rule"),
            ("block 10.0.0.0/8", "line 1: begins with neither allow nor deny"),
            ("allow", "line 1: not of the form"),
            ("\nallow 10.0.0.0/8 192.0.2.0/24", "line 2: not of the form"),
            ("deny everybody", "line 1: not an address range"),
        ] {
            let error = AddressRules::parse(text).unwrap_err();
            assert!(error.starts_with(problem), "{text}: {error}");
        }
    }
}
