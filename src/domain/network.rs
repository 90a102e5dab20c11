//! IP networks: a key's allowlist, and the trusted proxies.

use std::{net::IpAddr, str::FromStr};

use diesel::{deserialize::FromSqlRow, expression::AsExpression};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::text::deserialize_parsed;

/// Maximum number of networks in a key's allowlist.
pub const MAX_NETWORKS: usize = 64;

/// Network in its canonical form: the host bits are zero, a single address is a network of one address, and an
/// IPv4-mapped IPv6 network (RFC 4291 section 2.5.5.2) is the IPv4 network that it maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    /// Parses `203.0.113.7`, `203.0.113.0/24` or `2001:db8::/32`. The error says what would be accepted.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const REMEDY: &str =
            "must be an IPv4 or IPv6 address or network, such as 203.0.113.7 or 2001:db8::/32";
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| REMEDY)?;
        let length = match length {
            None => IpNet::from(address).max_prefix_len(),
            // The standard library would also accept a sign.
            Some(length) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
                length.parse().map_err(|_| REMEDY)?
            }
            Some(_) => return Err(REMEDY),
        };
        let network = match (address, address.to_canonical(), length.checked_sub(96)) {
            (IpAddr::V6(_), mapped @ IpAddr::V4(_), Some(length)) => IpNet::new(mapped, length),
            _ => IpNet::new(address, length),
        };
        Ok(Self(network.map_err(|_| REMEDY)?.trunc()))
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_parsed(deserializer, Self::parse)
    }
}

/// List of distinct networks, in the order in which they were given.
#[derive(Debug, Clone, Default, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = diesel::sql_types::Text)]
pub struct Networks {
    networks: Box<[Network]>,
    /// Networks separated by spaces, as in the database.
    pub(crate) text: String,
}

impl Networks {
    /// Creates a list of these networks without duplicates.
    pub fn new(networks: &[Network]) -> Self {
        let mut distinct: Vec<Network> = Vec::with_capacity(networks.len());
        for network in networks {
            if !distinct.contains(network) {
                distinct.push(*network);
            }
        }
        let text: Vec<_> = distinct
            .iter()
            .map(|network| network.0.to_string())
            .collect();
        Self {
            networks: distinct.into(),
            text: text.join(" "),
        }
    }

    /// Parses the form in the database.
    pub(crate) fn from_stored(text: &str) -> Result<Self, &'static str> {
        Self::parse_each(text.split_ascii_whitespace())
    }

    fn parse_each<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Self, &'static str> {
        let networks: Result<Vec<_>, _> = texts.map(Network::parse).collect();
        networks.map(|networks| Self::new(&networks))
    }

    /// Returns the number of heap bytes that the list uses.
    pub(crate) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.networks) + self.text.capacity()
    }

    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// Returns whether one of the networks contains the address. An IPv4-mapped address counts as IPv4.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks
            .iter()
            .any(|network| network.0.contains(&address))
    }
}

impl Serialize for Networks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.text.split_ascii_whitespace())
    }
}

/// Proxies whose information about a client's address is trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(pub Networks);

/// Parses networks separated by commas; an empty text is no network.
impl FromStr for TrustedProxies {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        Networks::parse_each(parts)
            .map(Self)
            .map_err(|remedy| format!("{remedy}; separate several with commas"))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> String {
        Network::parse(text).map_or_else(|_| "rejected".to_owned(), |network| network.0.to_string())
    }

    fn networks(list: &[&str]) -> Networks {
        Networks::new(
            &list
                .iter()
                .map(|text| Network::parse(text).unwrap())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn network_is_parsed_into_its_canonical_form() {
        for (given, expected) in [
            ("203.0.113.7", "203.0.113.7/32"),
            ("203.0.113.7/24", "203.0.113.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:DB8:0:0::1", "2001:db8::1/128"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("::/0", "::/0"),
            ("::ffff:203.0.113.7", "203.0.113.7/32"),
            ("::ffff:203.0.113.7/120", "203.0.113.0/24"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::ffff:0:0/95", "::fffe:0:0/95"),
        ] {
            assert_eq!(canonical(given), expected, "{given}");
        }
        for bad in [
            "",
            "/",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "10.0.0",
            "10.0.0.256",
            "010.0.0.1",
            "10.0.0.0/255.0.0.0",
            "::1/129",
            "fe80::1%eth0",
            "[::1]",
            "localhost",
            "10.0.0.1 ",
            "::ffff:10.0.0.1/129",
            "10.0.0.0/99999999999999999999",
        ] {
            assert_eq!(canonical(bad), "rejected", "{bad}");
        }
    }

    #[test]
    fn duplicate_network_counts_once() {
        let given = networks(&["10.0.0.1", "10.0.0.1/32", "::ffff:10.0.0.1"]);
        assert_eq!(given.text, "10.0.0.1/32");
        assert_eq!(serde_json::to_string(&given).unwrap(), r#"["10.0.0.1/32"]"#);
    }

    #[test]
    fn trusted_proxies_are_separated_by_commas_and_may_be_empty() {
        let parse = |text: &str| text.parse::<TrustedProxies>().map(|proxies| proxies.0.text);
        assert_eq!(
            parse("10.0.0.0/8, ::1"),
            Ok("10.0.0.0/8 ::1/128".to_owned())
        );
        assert_eq!(parse(""), Ok(String::new()));
        assert!(parse("10.0.0.0/8;::1").is_err());
    }

    proptest! {
        #[test]
        fn ipv4_address_is_matched_by_its_prefix(network: u32, address: u32, length in 0u8..=32) {
            let list = networks(&[&format!("{}/{length}", Ipv4Addr::from_bits(network))]);
            let expected = length == 0 || (network ^ address) >> (32 - length) == 0;
            let address = Ipv4Addr::from_bits(address);
            prop_assert_eq!(list.contain(address.into()), expected);
            prop_assert_eq!(list.contain(address.to_ipv6_mapped().into()), expected);
            // The IPv4-mapped IPv6 form is the same network.
            let mapped = Ipv4Addr::from_bits(network).to_ipv6_mapped();
            prop_assert_eq!(&networks(&[&format!("{mapped}/{}", length + 96)]), &list);
        }

        #[test]
        fn ipv6_address_is_matched_by_its_prefix(network: u128, address: u128, length in 0u8..=128) {
            let list = networks(&[&format!("{}/{length}", Ipv6Addr::from_bits(network))]);
            let expected = length == 0 || (network ^ address) >> (128 - length) == 0;
            prop_assert_eq!(list.contain(Ipv6Addr::from_bits(address).into()), expected);
            // A random address is hardly ever in the network: try one that shares its prefix.
            let near = network ^ (address >> length.min(127));
            let expected = length == 0 || (network ^ near) >> (128 - length) == 0;
            prop_assert_eq!(list.contain(Ipv6Addr::from_bits(near).into()), expected);
        }

        #[test]
        fn stored_networks_are_parsed_unchanged(bits in prop::collection::vec((any::<u128>(), 0u8..=128), 0..8)) {
            let texts: Vec<_> =
                bits.iter().map(|(bits, length)| format!("{}/{length}", Ipv6Addr::from_bits(*bits))).collect();
            let list = networks(&texts.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert_eq!(Networks::from_stored(&list.text), Ok(list));
        }
    }
}
