//! What a client makes of what it is sent: the paths that it could build, what it compares with the
//! pins that it holds, and whether it gets in.

use crate::world::{CaCert, Key, Matching, Outside, ROOTS, Scope, Sent};

/// A step of a path above the leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    pub key: Key,
    pub is_sent: bool,
    pub certificate: CaCert,
}

/// What lies above the leaf on one path.
pub type Above = Vec<Step>;

/// What decides which path a client takes: who issued the leaf and what was sent with it. Shown the
/// same again, it takes the same path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sight {
    pub issuer: Option<usize>,
    pub cas: Vec<CaCert>,
}

impl Sight {
    pub fn of(sent: &Sent) -> Self {
        Self { issuer: sent.leaf.issuer, cas: sent.cas.clone() }
    }

    /// Every path that some client may build, whichever of the roots it trusts. A client that can
    /// build none has, at best, been told to trust what is sent.
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
        let mut seen = Vec::new();
        paths.retain(|path| {
            !seen.contains(path) && {
                seen.push(path.clone());
                true
            }
        });
        paths
    }

    /// Every path of what is sent alone, as far as it leads.
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

/// Whether pins are met by a leaf and what lies above it.
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

/// Which hosts pins held outside of headers bind.
pub fn binds(outside: &Outside, host: &str) -> bool {
    let own = match outside.matching {
        Matching::Exact => host == outside.host,
        Matching::OneLabel => one_label_below(host, outside.host),
        Matching::AnyDepth => host == outside.host || is_below(host, outside.host),
    };
    own || outside.include_subdomains && is_below(host, outside.host)
}
