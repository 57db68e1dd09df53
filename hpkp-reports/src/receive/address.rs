//! The address of the client, and an anonymous mark that counts clients without storing addresses.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Mutex;

use axum::extract::Request;

use crate::output;
use crate::proxies::Proxies;
use crate::store::Entry;
use crate::time::day;

/// The peer of a connection, stored as an extension of each request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// The client's address: that of the peer or, from a trusted proxy, the address in `X-Forwarded-For`.
pub(super) fn client(request: &Request, proxies: &Proxies) -> IpAddr {
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
    let peer = peer.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)).to_canonical();
    if !proxies.contain(peer) {
        return peer;
    }
    let fields = request.headers().get_all("x-forwarded-for");
    let all: Vec<&str> = fields
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .collect();
    // Read from the right: the client may have forged the addresses further left.
    let mut addresses = all.iter().rev().map_while(|text| forwarded(text));
    addresses.find(|address| !proxies.contain(*address)).unwrap_or_else(|| {
        output::log_seldom("forwarded", || {
            "a trusted proxy, or a program on its machine, sends no X-Forwarded-For with an address: all its \
             clients count as one"
                .to_owned()
        });
        peer
    })
}

/// An address in `X-Forwarded-For`; some proxies add the port.
fn forwarded(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let address = text.parse::<IpAddr>().ok().or_else(with_port).or_else(bare)?;
    Some(address.to_canonical())
}

/// The network that counts as one client: an IPv6 customer usually has a network of 64 bits.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) => {
            let mut bytes = six.octets();
            bytes[8..].fill(0);
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
    }
}

/// Marks of clients: a hash with a secret that is new each day and is kept only in memory.
#[derive(Debug, Default)]
pub struct Marks(Mutex<(i64, RandomState)>);

impl Marks {
    /// The mark of a client on that day.
    #[must_use]
    pub fn of(&self, client: IpAddr, at: i64) -> u16 {
        let mut secret = match self.0.lock() {
            Ok(secret) => secret,
            Err(poisoned) => poisoned.into_inner(),
        };
        if secret.0 != day(at) {
            *secret = (day(at), RandomState::new());
        }
        let hash = secret.1.hash_one(network(client));
        u16::try_from(hash % u64::from(Entry::MARKS)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarded_addresses_are_read_with_and_without_port() {
        for (text, address) in [
            (" 192.0.2.1 ", Some("192.0.2.1")),
            ("192.0.2.1:4711", Some("192.0.2.1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]:4711", Some("2001:db8::1")),
            ("::ffff:192.0.2.1", Some("192.0.2.1")),
            ("unknown", None),
            ("", None),
        ] {
            assert_eq!(
                forwarded(text),
                address.map(|it| it.parse().expect("an address")),
                "{text}"
            );
        }
    }
}
