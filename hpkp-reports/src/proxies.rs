//! Trusted proxies: addresses and networks.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use serde::Deserialize;

use crate::output::of_item;

/// The bits before the IPv4 address in an IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2).
const MAPPED: u8 = 96;

/// Trusted proxies.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct Proxies(Vec<Network>);

/// An address, or a network of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Network(IpNet);

impl Proxies {
    /// Whether no proxy is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an address belongs to a trusted proxy.
    #[must_use]
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.0.contains(&address))
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let address = || text.parse::<IpAddr>().map(IpNet::from).ok();
        let network = address().or_else(|| text.parse().ok());
        let Some(network) = network else {
            let what =
                "invalid address or network (expected 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32)";
            return Err(of_item(&text, what));
        };
        let network = canonical(network);
        if network.prefix_len() == 0 {
            return Err(of_item(&text, "the header of everybody would be trusted"));
        }
        if network.addr() != network.network() {
            let what =
                format!("not the first address of its network, which is {}", network.trunc());
            return Err(of_item(&text, &what));
        }
        Ok(Self(network))
    }
}

/// Converts a network of IPv4-mapped IPv6 addresses to IPv4.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(six) = network else { return network };
    let four = six.addr().to_ipv4_mapped().zip(six.prefix_len().checked_sub(MAPPED));
    let four = four.and_then(|(address, length)| Ipv4Net::new(address, length).ok());
    four.map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(networks: &[&str]) -> Result<Proxies, String> {
        let networks = networks.iter().map(|text| Network::try_from((*text).to_owned()));
        networks.collect::<Result<_, _>>().map(Proxies)
    }

    #[test]
    fn addresses_and_networks_match_in_ipv4_and_ipv6() {
        let list =
            ["192.0.2.7", "10.0.0.0/8", "2001:db8:1::/48", "2001:db8::7", "::ffff:172.16.0.0/108"];
        let proxies = proxies(&list).expect("valid");
        let contain = |text: &str| proxies.contain(text.parse().expect("an address"));
        for address in [
            "192.0.2.7",
            "10.255.0.1",
            "2001:db8:1:f::1",
            "2001:db8::7",
            "172.31.0.1",
            "::ffff:10.0.0.1",
        ] {
            assert!(contain(address), "{address}");
        }
        for address in
            ["192.0.2.8", "11.0.0.1", "2001:db8:2::1", "2001:db8::8", "172.32.0.1", "::1"]
        {
            assert!(!contain(address), "{address}");
        }
    }

    #[test]
    fn invalid_and_all_including_networks_are_refused() {
        for (text, part) in [
            ("10.0.0.0/33", "invalid"),
            ("10.0.0/8", "invalid"),
            ("proxy.example.net", "invalid"),
            ("", "invalid"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("0.0.0.0/0", "everybody"),
            ("::/0", "everybody"),
            ("::ffff:0.0.0.0/96", "everybody"),
        ] {
            let error = proxies(&[text]).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
