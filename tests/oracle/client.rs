//! Pin validation from a client's side: the certificate paths that it could build from the sent chain, and whether its
//! pins match on them.

use crate::world::{CaCert, Key, Matching, Outside, ROOTS, Scope, Sent};

/// A step of a path above the leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    pub key: Key,
    pub is_sent: bool,
    pub certificate: CaCert,
}

/// The certificates above the leaf on one path.
pub type Above = Vec<Step>;

/// The input that decides which path a client takes: the issuer of the leaf and the sent CA certificates. For the same
/// input, a client takes the same path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sight {
    pub issuer: Option<usize>,
    pub cas: Vec<CaCert>,
}

impl Sight {
    pub fn of(sent: &Sent) -> Self {
        Self { issuer: sent.leaf.issuer, cas: sent.cas.clone() }
    }

    /// Every path that some client may build, whichever of the roots it trusts. If no path leads to a root, clients can
    /// at best be configured to trust the sent certificates.
    pub fn paths(&self) -> Vec<Above> {
        let Some(issuer) = self.issuer else { return vec![vec![]] };
        let mut all = Vec::new();
        self.extend(issuer, &mut Vec::new(), &mut all);
        let (anchored, sent): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|(_, anchored)| *anchored);
        let mut paths: Vec<Above> = if anchored.is_empty() { sent } else { anchored }
            .into_iter()
            .map(|(path, _)| path)
            .collect();
        let mut known = Vec::new();
        paths.retain(|path| {
            !known.contains(path) && {
                known.push(path.clone());
                true
            }
        });
        paths
    }

    /// Every path of sent certificates only, up to the last one.
    pub fn sent_paths(&self) -> Vec<Above> {
        let mut all = Vec::new();
        let mut open: Vec<Above> = vec![vec![]];
        while let Some(path) = open.pop() {
            let wanted = match path.last() {
                None => self.issuer,
                Some(Step { certificate: CaCert { subject, issuer, .. }, .. }) => {
                    (subject != issuer).then_some(*issuer)
                }
            };
            let is_new = |ca: &&CaCert| path.iter().all(|step| step.key != Key::Ca(ca.subject));
            let next: Vec<&CaCert> =
                self.cas.iter().filter(|ca| Some(ca.subject) == wanted).filter(is_new).collect();
            for certificate in &next {
                let key = Key::Ca(certificate.subject);
                let step = Step { key, is_sent: true, certificate: **certificate };
                open.push([&path[..], &[step]].concat());
            }
            if next.is_empty() {
                all.push(path);
            }
        }
        all
    }

    fn extend(&self, wanted: usize, path: &mut Above, all: &mut Vec<(Above, bool)>) {
        if path.iter().any(|step| step.key == Key::Ca(wanted)) {
            return;
        }
        let is_root = ROOTS.contains(&wanted);
        let sent: Vec<&CaCert> = self.cas.iter().filter(|ca| ca.subject == wanted).collect();
        if is_root {
            // The key counts, whichever of its certificates is sent.
            let certificate = CaCert { subject: wanted, issuer: wanted, edition: 0 };
            let is_sent = !sent.is_empty();
            path.push(Step { key: Key::Ca(wanted), is_sent, certificate });
            all.push((path.clone(), true));
            path.pop();
        }
        for ca in &sent {
            path.push(Step { key: Key::Ca(wanted), is_sent: true, certificate: **ca });
            if ca.issuer != ca.subject {
                self.extend(ca.issuer, path, all);
            }
            path.pop();
        }
        if sent.is_empty() && !is_root {
            all.push((path.clone(), false));
        }
    }
}

/// Whether pins match a leaf or a certificate above it.
pub fn meets(pins: &[Key], scope: Scope, leaf: Key, above: &Above) -> bool {
    match scope {
        Scope::Leaf => pins.contains(&leaf),
        Scope::PathCa => above.iter().any(|step| pins.contains(&step.key)),
        Scope::SentCa => above.iter().any(|step| step.is_sent && pins.contains(&step.key)),
        Scope::Chain => pins.contains(&leaf) || above.iter().any(|step| pins.contains(&step.key)),
    }
}

/// Whether a client notes a header (RFC 7469 section 2.5): a pin on its path and one that is not.
pub fn notes(pins: &[Key], leaf: Key, above: &Above) -> bool {
    let is_there = |pin: &Key| *pin == leaf || above.iter().any(|step| step.key == *pin);
    pins.iter().any(is_there) && !pins.iter().all(is_there)
}

/// Whether `host` lies below `domain`.
pub fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

pub fn one_label_below(host: &str, domain: &str) -> bool {
    host.split_once('.').is_some_and(|(_, above)| above == domain)
}

/// Whether pins held outside of headers bind `host`.
pub fn binds(outside: &Outside, host: &str) -> bool {
    let own = match outside.matching {
        Matching::Exact => host == outside.host,
        Matching::OneLabel => one_label_below(host, outside.host),
        Matching::AnyDepth => host == outside.host || is_below(host, outside.host),
    };
    own || outside.include_subdomains && is_below(host, outside.host)
}
