//! Candidate paths: the ways in which clients may build a chain from what a server sends to a
//! trust anchor (RFC 5280 section 6; RFC 4158).
//!
//! Paths are not enumerated: their number grows exponentially with cross-signed certificates. Pin validation only needs
//! reachability, which takes linear time: can an anchor be reached from the leaf through a pinned key, and can one be
//! reached without passing a pinned key?

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::certificate::{Certificate, Issuance, Name};
use crate::pin::Pin;
use crate::published::keys::{ends_of_all, unknown_ends};
use crate::published::{CertificateIdentity, KeyGraph, KeyNode, PinValidation};
use crate::sorted::distinct;

/// The certificates that a server sends for one of its keys, the leaf first. At least one.
#[derive(Clone, Debug)]
pub struct Chain {
    certificates: Vec<Arc<Certificate>>,
    file: Option<Arc<CertificateFile>>,
}

/// The file of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CertificateFile {
    /// Its path, as the server loaded it.
    pub path: String,
    /// A directory that contains the private key, and most likely earlier keys; none if the private key is not in a
    /// file.
    pub keys: Option<String>,
}

impl Chain {
    /// The most certificates in a chain. OpenSSL's own clients accept fewer: 100 KiB of certificates.
    pub const MAX: usize = 256;

    /// A chain of `certificates`, or `None` if there are none or more than [`Chain::MAX`].
    #[must_use]
    pub fn new(certificates: Vec<Arc<Certificate>>) -> Option<Self> {
        let is_in_range = (1..=Self::MAX).contains(&certificates.len());
        is_in_range.then_some(Self { certificates, file: None })
    }

    /// The same chain, with the file from which the server loaded it.
    #[must_use]
    pub fn with_file(self, file: Option<Arc<CertificateFile>>) -> Self {
        Self { file, ..self }
    }

    /// The file from which the server loaded it, if that is known.
    #[must_use]
    pub fn file(&self) -> Option<&Arc<CertificateFile>> {
        self.file.as_ref()
    }

    /// The leaf: the certificate whose key the server holds.
    #[must_use]
    pub fn leaf(&self) -> &Arc<Certificate> {
        &self.certificates[0]
    }

    /// The certificates, the leaf first.
    #[must_use]
    pub fn certificates(&self) -> &[Arc<Certificate>] {
        &self.certificates
    }

    /// The hashes that distinguish these certificates from others of the same keys.
    #[must_use]
    pub fn identity(&self) -> CertificateIdentity {
        CertificateIdentity {
            slot: self.certificates[0].slot(),
            issuer: self.certificates[0].issuer_fingerprint(),
            authorities: self.certificates[1..].iter().map(|one| one.fingerprint()).collect(),
            leaf: Some(self.certificates[0].fingerprint()),
        }
    }
}

/// A certificate that clients trust.
#[derive(Clone, Debug)]
pub struct Anchor {
    /// The certificate.
    pub certificate: Arc<Certificate>,
    /// The file it came from, for messages.
    pub origin: Arc<str>,
}

/// Trust anchors, found by their subject.
#[derive(Debug, Default)]
pub struct Anchors {
    by_subject: HashMap<Name, Vec<Anchor>>,
}

impl Anchors {
    /// Anchors to be looked up by name; the same certificate twice counts once.
    #[must_use]
    pub fn new(anchors: impl IntoIterator<Item = Anchor>) -> Self {
        let mut by_subject: HashMap<Name, Vec<Anchor>> = HashMap::new();
        let mut known: HashSet<Box<[u8]>> = HashSet::new();
        for anchor in anchors {
            if known.insert(anchor.certificate.der().into()) {
                by_subject
                    .entry(anchor.certificate.subject_name().clone())
                    .or_default()
                    .push(anchor);
            }
        }
        Self { by_subject }
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Anchor> {
        self.by_subject.values().flatten()
    }

    fn named(&self, name: &Name) -> &[Anchor] {
        self.by_subject.get(name).map_or(&[], Vec::as_slice)
    }
}

/// The anchors that the clients of a server trust: the system's and those added to them.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// The system's store.
    pub system: Arc<Anchors>,
    /// The anchors that the configuration adds.
    pub added: Option<Arc<Anchors>>,
}

impl Trust {
    /// All certificates that are trusted.
    pub fn certificates(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        let added = self.added.iter().flat_map(|added| added.all());
        self.system.all().chain(added).map(|anchor| &anchor.certificate)
    }

    pub(crate) fn named<'a>(&'a self, name: &Name) -> impl Iterator<Item = &'a Anchor> {
        let added = self.added.as_deref().map_or(&[][..], |added| added.named(name));
        self.system.named(name).iter().chain(added)
    }
}

/// Verifies the signature of a certificate. The core has no cryptography of its own for this and
/// uses the server's library.
pub trait VerifySignature {
    /// Whether `issuer`'s key made the signature of `certificate`.
    fn is_signed_by(&self, certificate: &Certificate, issuer: &Certificate) -> bool;
}

/// The key of an issuer, or its certificate if the key has no pin. Certificates are compared by their
/// addresses, which do not change while a check runs.
#[derive(PartialEq, Eq, Hash)]
enum IssuerKey {
    Pin(Pin),
    Of(*const Certificate),
}

/// A [`VerifySignature`] that verifies the signature of a certificate only once for each key: a CA may have many
/// certificates with one key.
pub(crate) struct Verified<'v> {
    verify: &'v dyn VerifySignature,
    /// The results, by the certificate and the key of its issuer.
    known: RefCell<HashMap<(*const Certificate, IssuerKey), bool>>,
}

impl<'v> Verified<'v> {
    pub(crate) fn new(verify: &'v dyn VerifySignature) -> Self {
        Self { verify, known: RefCell::default() }
    }

    pub(crate) fn is_signed_by(
        &self,
        certificate: &Arc<Certificate>,
        issuer: &Arc<Certificate>,
    ) -> bool {
        let key = issuer.pin().map_or(IssuerKey::Of(Arc::as_ptr(issuer)), IssuerKey::Pin);
        let pair = (Arc::as_ptr(certificate), key);
        if let Some(answer) = self.known.borrow().get(&pair) {
            return *answer;
        }
        let answer = self.verify.is_signed_by(certificate, issuer);
        self.known.borrow_mut().insert(pair, answer);
        answer
    }
}

struct Node {
    certificate: Arc<Certificate>,
    /// Whether the server sends it.
    served: bool,
    /// The file of the trust anchor that is this certificate, or that has its subject and key.
    anchor: Option<Arc<str>>,
    /// The nodes that issued it.
    issuers: Vec<usize>,
    /// Whether a path from the leaf to an anchor goes through it.
    on_path: bool,
    /// Whether clients may use it: it has not expired, or every path has an expired certificate.
    usable: bool,
}

/// A certificate that clients may use on a path from the leaf to an anchor.
#[derive(Clone, Debug)]
pub struct PathCertificate {
    /// The certificate.
    pub certificate: Arc<Certificate>,
    /// Whether the server sends it.
    pub served: bool,
    /// The file of the trust anchor that is this certificate, or that has its subject and key.
    pub anchor: Option<Arc<str>>,
    /// Which of the others may have issued it, by position.
    pub issuers: Vec<usize>,
    /// Whether a path from the leaf to an anchor goes through it.
    pub on_path: bool,
}

/// All candidate paths of one chain.
pub struct Paths {
    /// The leaf is the first. Every node can be reached from it.
    nodes: Vec<Node>,
    /// Whether a path may end at each node.
    ends: Vec<bool>,
    /// Whether a path may end at each node for clients with other trust anchors alone.
    unknown_ends: Vec<bool>,
    /// Certificates that are served and lie on no path.
    superfluous: Vec<Arc<Certificate>>,
}

impl Paths {
    /// The candidate paths of one chain at `now`, in seconds since 1970 UTC.
    #[must_use]
    pub fn new(chain: &Chain, trust: &Trust, verify: &dyn VerifySignature, now: i64) -> Self {
        Self::build(chain, trust, &Verified::new(verify), now)
    }

    /// All certificates that can be reached from the leaf, the leaf first.
    #[must_use]
    pub fn certificates(&self) -> Vec<PathCertificate> {
        let of = |node: &Node| {
            // An issuer that is both sent and trusted is listed twice.
            let issuers = distinct(node.issuers.clone());
            PathCertificate {
                certificate: node.certificate.clone(),
                served: node.served,
                anchor: node.anchor.clone(),
                issuers,
                on_path: node.on_path,
            }
        };
        self.nodes.iter().map(of).collect()
    }

    pub(crate) fn build(chain: &Chain, trust: &Trust, verified: &Verified<'_>, now: i64) -> Self {
        let mut graph = Graph::new(chain, trust, verified);
        // Breadth first, so that every node is visited once; `nodes` grows during the walk.
        let mut next = 0;
        while next < graph.nodes.len() {
            graph.add_issuers(next);
            next += 1;
        }
        graph.finish(chain, now)
    }

    /// Whether all of these paths contain a pinned key, or some, or none.
    pub(crate) fn validate(&self, is_pinned: impl Fn(Pin) -> bool) -> PinValidation {
        PinValidation::of_paths(
            self.nodes.len(),
            |at| &self.nodes[at].issuers,
            |at| self.nodes[at].usable,
            (|at| self.ends[at], &self.unknown_ends),
            |at| self.nodes[at].certificate.pin().is_some_and(&is_pinned),
        )
    }

    /// Whether a pinned key on a path belongs to a certificate that the server sends.
    pub(crate) fn sends_pinned(&self, is_pinned: impl Fn(Pin) -> bool) -> bool {
        let mut sent = self.nodes.iter().filter(|node| node.on_path && node.served);
        sent.any(|node| node.certificate.pin().is_some_and(&is_pinned))
    }

    /// The keys on candidate paths.
    pub(crate) fn pins(&self) -> impl Iterator<Item = Pin> + '_ {
        self.nodes.iter().filter(|node| node.on_path).filter_map(|node| node.certificate.pin())
    }

    /// The keys to be recorded: those on paths, and other keys that are sent, which some clients accept without an
    /// anchor. None if there are more than [`KeyGraph::MAX`].
    #[must_use]
    pub fn keys(&self) -> Option<KeyGraph> {
        let usable = || self.nodes.iter().enumerate().filter(|(_, node)| node.usable);
        let mut positions = vec![None; self.nodes.len()];
        for (position, (index, _)) in usable().enumerate() {
            positions[index] = Some(position);
        }
        let nodes = usable().map(|(index, node)| KeyNode {
            pin: node.certificate.pin(),
            served: node.served,
            end: self.ends[index],
            issuers: node.issuers.iter().filter_map(|issuer| positions[*issuer]).collect(),
        });
        KeyGraph::new(nodes.collect())
    }

    /// The certificates whose keys [`Paths::keys`] gives, in its order, and whether each is of a trust
    /// anchor.
    pub(crate) fn usable(&self) -> impl Iterator<Item = (&Arc<Certificate>, bool)> {
        let usable = self.nodes.iter().filter(|node| node.usable);
        usable.map(|node| (&node.certificate, node.anchor.is_some()))
    }

    /// The certificates that are served and lie on no path.
    #[must_use]
    pub fn superfluous(&self) -> &[Arc<Certificate>] {
        &self.superfluous
    }

    /// The certificates on candidate paths, one line each.
    pub(crate) fn describe(&self) -> impl Iterator<Item = String> + '_ {
        let is_shown = |(at, node): &(usize, &Node)| node.on_path || self.unknown_ends[*at];
        self.nodes.iter().enumerate().filter(is_shown).map(|(at, node)| {
            let pin = node
                .certificate
                .pin()
                .map_or_else(|| "key without a pin".to_owned(), |pin| format!("sha256/{pin}"));
            let role = match (&node.anchor, node.served) {
                _ if self.unknown_ends[at] => {
                    "sent, leads to no root that is known here".to_owned()
                }
                (Some(file), true) => format!("sent, trusted in {file}"),
                (Some(file), false) => format!("not sent, trusted in {file}"),
                (None, _) => "sent".to_owned(),
            };
            let Node { certificate, .. } = node;
            format!(
                "on the path: {pin}, {}, issued by {} ({role})",
                certificate.subject(),
                certificate.issuer()
            )
        })
    }

    /// Whether a path ends at a certificate that is trusted.
    pub(crate) fn reaches_an_anchor(&self) -> bool {
        self.nodes.iter().any(|node| node.anchor.is_some())
    }
}

/// The graph while it grows.
struct Graph<'a> {
    trust: &'a Trust,
    verified: &'a Verified<'a>,
    served_by_subject: HashMap<&'a Name, Vec<&'a Arc<Certificate>>>,
    nodes: Vec<Node>,
    index: HashMap<&'a [u8], usize>,
}

impl<'a> Graph<'a> {
    fn new(chain: &'a Chain, trust: &'a Trust, verified: &'a Verified<'a>) -> Self {
        let mut served_by_subject: HashMap<_, Vec<_>> = HashMap::new();
        for certificate in chain.certificates() {
            served_by_subject.entry(certificate.subject_name()).or_default().push(certificate);
        }
        let mut graph =
            Self { trust, verified, served_by_subject, nodes: Vec::new(), index: HashMap::new() };
        graph.node(chain.leaf(), true);
        graph
    }

    /// The node of `certificate`, made where it is new.
    fn node(&mut self, certificate: &'a Arc<Certificate>, served: bool) -> usize {
        if let Some(&index) = self.index.get(certificate.der()) {
            self.nodes[index].served |= served;
            return index;
        }
        let anchor = self
            .trust
            .named(certificate.subject_name())
            .find(|anchor| {
                anchor.certificate.same_subject_and_key(certificate)
                    || anchor.certificate.der() == certificate.der()
            })
            .map(|anchor| anchor.origin.clone());
        self.nodes.push(Node {
            certificate: certificate.clone(),
            served,
            anchor,
            issuers: Vec::new(),
            on_path: false,
            usable: true,
        });
        self.index.insert(certificate.der(), self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    fn add_issuers(&mut self, index: usize) {
        let certificate = self.nodes[index].certificate.clone();
        let name = certificate.issuer_name();
        let served = self.served_by_subject.get(name).cloned().unwrap_or_default();
        let trust = self.trust;
        let candidates: Vec<(&'a Arc<Certificate>, bool, Issuance)> = served
            .into_iter()
            .map(|issuer| (issuer, true))
            .chain(trust.named(name).map(|anchor| (&anchor.certificate, false)))
            // A certificate with the same subject and key is a variant of this one, not its issuer.
            .filter(|(issuer, _)| !issuer.same_subject_and_key(&certificate))
            .map(|(issuer, served)| (issuer, served, certificate.issued_by(issuer)))
            .filter(|(.., issuance)| *issuance != Issuance::No)
            .collect();
        // If the key identifiers point to a single key, that key is the issuer's. If they are missing or differ, or fit
        // several keys, the signature decides.
        let keys: HashSet<Option<Pin>> =
            candidates.iter().map(|(issuer, ..)| issuer.pin()).collect();
        for (issuer, served, issuance) in candidates {
            let decided = issuance == Issuance::Yes && keys.len() == 1;
            if decided || self.verified.is_signed_by(&certificate, issuer) {
                let issuer = self.node(issuer, served);
                self.nodes[index].issuers.push(issuer);
            }
        }
    }

    fn finish(self, chain: &Chain, now: i64) -> Paths {
        let mut nodes = self.nodes;
        let ends = if nodes.iter().any(|node| node.anchor.is_some()) {
            nodes.iter().map(|node| node.anchor.is_some()).collect()
        } else {
            ends_of_all(nodes.len(), |at| &nodes[at].issuers, |_| true)
        };
        // Clients take no path with an expired certificate. If all paths have one, expiry is ignored: it is not the
        // task of pins to report an expired certificate.
        for node in &mut nodes {
            node.usable = node.certificate.not_after() >= now;
        }
        mark_on_path(&mut nodes, &ends);
        if !nodes[0].on_path {
            nodes.iter_mut().for_each(|node| node.usable = true);
            mark_on_path(&mut nodes, &ends);
        }
        let superfluous = chain
            .certificates()
            .iter()
            .filter(|certificate| {
                !nodes
                    .iter()
                    .any(|node| node.on_path && node.certificate.der() == certificate.der())
            })
            .cloned()
            .collect();
        let unknown_ends = unknown_ends(&ends, |at| &nodes[at].issuers, |at| nodes[at].usable);
        Paths { nodes, ends, unknown_ends, superfluous }
    }
}

/// Marks the usable nodes on paths from the leaf to an end.
fn mark_on_path(nodes: &mut [Node], ends: &[bool]) {
    let mut from_leaf = vec![false; nodes.len()];
    let mut open = vec![0];
    while let Some(index) = open.pop() {
        if nodes[index].usable && !std::mem::replace(&mut from_leaf[index], true) {
            open.extend(&nodes[index].issuers);
        }
    }
    let mut issued: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        for &issuer in &node.issuers {
            issued[issuer].push(index);
        }
    }
    let mut open: Vec<usize> = (0..nodes.len()).filter(|index| ends[*index]).collect();
    while let Some(index) = open.pop() {
        if from_leaf[index] && !std::mem::replace(&mut nodes[index].on_path, true) {
            open.extend(&issued[index]);
        }
    }
}
