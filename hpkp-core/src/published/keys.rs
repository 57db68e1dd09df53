//! The graph of keys on the paths that clients may build from presented certificates, and pin validation on it.
//!
//! This is [`crate::path::Paths`] without its certificates, in a form that a record can hold, so that one machine can
//! check what another presents.

use std::fmt;

use crate::pin::Pin;

/// The keys on one certificate's candidate paths, the leaf's first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyGraph(Vec<KeyNode>);

/// A key on a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyNode {
    /// Its pin, or none where no pin can be formed.
    pub pin: Option<Pin>,
    /// Whether the server sends its certificate.
    pub served: bool,
    /// Whether a path may end here.
    pub end: bool,
    /// The nodes (by position) that issued it.
    pub issuers: Vec<usize>,
}

/// The kind of a leaf's key. A server has one certificate of each kind, and a client gets that of the
/// kind that it prefers: OpenSSL's slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// RSA.
    Rsa,
    /// RSA for signatures of RSASSA-PSS alone.
    RsaPss,
    /// DSA.
    Dsa,
    /// ECDSA on one of the curves that every client has: P-256 and P-384. A client that lacks the
    /// curve of another gets the certificate of another slot.
    Ec,
    /// Ed25519.
    Ed25519,
    /// Ed448.
    Ed448,
}

/// Which keys clients compare with the pins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Any key on the path that they validated: RFC 7469, OkHttp, TrustKit, Android.
    #[default]
    Chain,
    /// The leaf's key alone: curl, TLSA 3 1 1, `NSPinnedLeafIdentities`.
    Leaf,
    /// A CA's key on the path: `NSPinnedCAIdentities`.
    PathCa,
    /// The key of a CA that the server sent: TLSA 2 1 1.
    SentCa,
}

impl Scope {
    /// The names in records, in the command and in findings.
    pub const NAMES: &[(&str, Self)] = &[
        ("chain", Self::Chain),
        ("leaf", Self::Leaf),
        ("path-ca", Self::PathCa),
        ("sent-ca", Self::SentCa),
    ];

    /// Its name in records, in the command and in findings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        super::name_of(Self::NAMES, self)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The result of pin validation (RFC 7469 section 2.6) on the paths of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PinValidation {
    /// No path goes through a pinned key.
    Fails,
    /// Some paths do and others do not, so the result depends on the path that a client builds.
    DependsOnPath,
    /// Every path does.
    Succeeds,
}

impl PinValidation {
    /// Pin validation on the paths from the first of `count` nodes to an end, through the issuers for which `may_pass`
    /// is true. `is_pinned` tells whether the key of a node is pinned.
    ///
    /// At an end of `unknown` a path ends for clients with other trust anchors. It makes a result uncertain, and none
    /// better.
    pub(crate) fn of_paths<'n>(
        count: usize,
        issuers: impl Fn(usize) -> &'n [usize],
        may_pass: impl Fn(usize) -> bool,
        (is_end, unknown): (impl Fn(usize) -> bool, &[bool]),
        is_pinned: impl Fn(usize) -> bool,
    ) -> Self {
        // Every node is visited at most twice: once on a path without a pinned key, once on a path through one.
        let mut visited = vec![[false; 2]; count];
        let mut open = vec![(0, false)];
        let (mut met, mut missed) = (false, false);
        while let Some((at, through)) = open.pop() {
            let through = through || is_pinned(at);
            if std::mem::replace(&mut visited[at][usize::from(through)], true) {
                continue;
            }
            if is_end(at) {
                met |= through;
                missed |= !through;
            }
            missed |= unknown[at] && !through;
            let above = issuers(at).iter().filter(|issuer| may_pass(**issuer));
            open.extend(above.map(|issuer| (*issuer, through)));
        }
        match (met, missed) {
            (true, false) => Self::Succeeds,
            (true, true) => Self::DependsOnPath,
            (false, _) => Self::Fails,
        }
    }
}

impl KeyGraph {
    /// The most nodes.
    pub const MAX: usize = 1_024;

    /// A graph of `nodes`, or `None` if there are none or more than [`KeyGraph::MAX`], or if an issuer is not one of
    /// them.
    #[must_use]
    pub fn new(nodes: Vec<KeyNode>) -> Option<Self> {
        let known = 0..nodes.len();
        let is_whole = nodes.iter().all(|node| node.issuers.iter().all(|at| known.contains(at)));
        (is_whole && (1..=Self::MAX).contains(&nodes.len())).then_some(Self(nodes))
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&self) -> &[KeyNode] {
        &self.0
    }

    /// Pin validation for clients that compare keys of this scope. `pinned` tells whether a key is pinned.
    #[must_use]
    pub fn meet(&self, scope: Scope, pinned: impl Fn(Pin) -> bool) -> PinValidation {
        let has = |at: usize| self.0[at].pin.is_some_and(&pinned);
        match scope {
            Scope::Leaf if has(0) => PinValidation::Succeeds,
            Scope::Leaf => PinValidation::Fails,
            Scope::Chain => self.meet_at(false, has),
            // Every node except the leaf is a CA.
            Scope::PathCa | Scope::SentCa => {
                self.meet_at(scope == Scope::SentCa, |at| at > 0 && has(at))
            }
        }
    }

    /// Pin validation with the nodes (by position) for which `counts` is true as pinned keys: on all paths, or only on
    /// paths of certificates that the server sends.
    pub(crate) fn meet_at(
        &self,
        served_only: bool,
        counts: impl Fn(usize) -> bool,
    ) -> PinValidation {
        let may_pass = |at: usize| !served_only || self.0[at].served;
        let ends = self.ends(served_only);
        let issuers = |at: usize| &self.0[at].issuers[..];
        let unknown = unknown_ends(&ends, issuers, may_pass);
        let ends = (|at: usize| ends[at], &unknown[..]);
        PinValidation::of_paths(self.0.len(), issuers, may_pass, ends, counts)
    }

    /// Whether a path may end at each node. A client that uses only sent certificates needs no anchor: its path ends
    /// at a certificate whose issuer was not sent.
    fn ends(&self, served_only: bool) -> Vec<bool> {
        if !served_only {
            return self.0.iter().map(|node| node.end).collect();
        }
        ends_of_all(self.0.len(), |at| &self.0[at].issuers, |at| self.0[at].served)
    }
}

/// The nodes at which a path without a trust anchor can end, among `count` nodes of which clients use those that
/// `may_pass`. A path ends at a certificate without a known issuer. CAs that issued each other in a circle have no such
/// end: then each of them may be the last, except the leaf.
pub(crate) fn ends_of_all<'n>(
    count: usize,
    issuers: impl Fn(usize) -> &'n [usize],
    may_pass: impl Fn(usize) -> bool,
) -> Vec<bool> {
    let above = |at| issuers(at).iter().copied().filter(|issuer| may_pass(*issuer));
    let mut issued: Vec<Vec<usize>> = vec![Vec::new(); count];
    let mut open = Vec::new();
    for at in (0..count).filter(|at| may_pass(*at)) {
        above(at).for_each(|issuer| issued[issuer].push(at));
        open.extend(above(at).next().is_none().then_some(at));
    }
    let mut ends: Vec<bool> = (0..count).map(&may_pass).collect();
    if let Some(leaf) = ends.first_mut() {
        *leaf &= above(0).next().is_none();
    }
    // A certificate below such an end is not an end itself.
    while let Some(at) = open.pop() {
        let led_here = std::mem::take(&mut issued[at]);
        led_here.iter().for_each(|below| ends[*below] = false);
        open.extend(led_here);
    }
    ends
}

/// The nodes at which paths end that lead to none of `ends`: certificates are sent whose issuer is neither sent nor
/// trusted here. Some other client may trust it, which is why servers send a certificate by a root that not all trust
/// stores have.
pub(crate) fn unknown_ends<'n>(
    ends: &[bool],
    issuers: impl Fn(usize) -> &'n [usize],
    may_pass: impl Fn(usize) -> bool,
) -> Vec<bool> {
    let count = ends.len();
    let mut issued: Vec<Vec<usize>> = vec![Vec::new(); count];
    for at in 0..count {
        issuers(at).iter().for_each(|issuer| issued[*issuer].push(at));
    }
    let mut leads_to_end = vec![false; count];
    let mut open: Vec<usize> = (0..count).filter(|at| ends[*at]).collect();
    while let Some(at) = open.pop() {
        if !std::mem::replace(&mut leads_to_end[at], true) {
            open.extend(&issued[at]);
        }
    }
    ends_of_all(count, issuers, |at| may_pass(at) && !leads_to_end[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(number: u8) -> Pin {
        Pin::from_bytes([number; Pin::BYTES])
    }

    fn node(number: u8, served: bool, end: bool, issuers: &[usize]) -> KeyNode {
        KeyNode { pin: Some(pin(number)), served, end, issuers: issuers.to_vec() }
    }

    /// A leaf (1) below an intermediate (2) that two roots (3, 4) have certified, and below a fifth certificate that is
    /// sent and leads to no known anchor. It can make a result uncertain, but none better.
    fn cross_signed() -> KeyGraph {
        KeyGraph::new(vec![
            node(1, true, false, &[1, 4]),
            node(2, true, false, &[2, 3]),
            node(3, false, true, &[]),
            node(4, false, true, &[]),
            node(5, true, false, &[]),
        ])
        .unwrap()
    }

    #[test]
    fn each_scope_compares_the_keys_of_its_clients() {
        use PinValidation::{DependsOnPath, Fails, Succeeds};
        use Scope::{Chain, Leaf, PathCa, SentCa};
        for (scope, pins, expected) in [
            (Chain, &[1][..], Succeeds),
            (Chain, &[2], DependsOnPath),
            (Chain, &[2, 5], Succeeds),
            (Chain, &[3], DependsOnPath),
            (Chain, &[3, 4], DependsOnPath),
            (Chain, &[5], Fails),
            (Chain, &[9], Fails),
            (Leaf, &[1], Succeeds),
            (Leaf, &[2, 3, 4, 5], Fails),
            (PathCa, &[1], Fails),
            (PathCa, &[2], DependsOnPath),
            (PathCa, &[2, 5], Succeeds),
            (PathCa, &[4], DependsOnPath),
            (PathCa, &[5], Fails),
            (SentCa, &[1], Fails),
            (SentCa, &[2], DependsOnPath),
            (SentCa, &[5], DependsOnPath),
            (SentCa, &[2, 5], Succeeds),
            (SentCa, &[3, 4], Fails),
        ] {
            let met = cross_signed().meet(scope, |p| pins.iter().any(|number| p == pin(*number)));
            assert_eq!(met, expected, "{scope:?} {pins:?}");
        }
    }

    /// CAs that issued each other: whether the leaf is below another CA too or not, no client goes round.
    #[test]
    fn a_circle_of_sent_authorities() {
        let circle = |above: &[usize]| {
            vec![
                node(1, true, false, above),
                node(2, true, false, &[2]),
                node(3, true, false, &[1]),
                node(4, true, true, &[]),
            ]
        };
        for (above, pins, expected) in [
            (&[1][..], &[2][..], PinValidation::Succeeds),
            (&[1], &[3], PinValidation::DependsOnPath),
            (&[1], &[9], PinValidation::Fails),
            (&[1, 3], &[4], PinValidation::DependsOnPath),
            (&[1, 3], &[2, 4], PinValidation::Succeeds),
        ] {
            let graph = KeyGraph::new(circle(above)).unwrap();
            let met = graph.meet(Scope::SentCa, |p| pins.iter().any(|number| p == pin(*number)));
            assert_eq!(met, expected, "{above:?} {pins:?}");
        }
    }

    #[test]
    fn a_graph_without_nodes_or_with_a_missing_issuer_is_refused() {
        assert_eq!(KeyGraph::new(vec![]), None);
        assert_eq!(KeyGraph::new(vec![node(1, true, true, &[1])]), None);
        assert!(KeyGraph::new(vec![node(1, true, true, &[])]).is_some());
    }
}
