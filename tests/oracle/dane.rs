//! A DANE client: which certificates its TLSA records match, path by path (RFC 6698, RFC 7671, and the observed
//! behaviour of OpenSSL).

use std::fmt;

use crate::client::{Above, Sight, Step};
use crate::nature;
use crate::world::{CaCert, Key, LeafCert, Sent};

/// All records of one owner: a host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dane {
    pub host: &'static str,
    pub port: u16,
    pub records: Vec<Record>,
    /// Days from now until the zone has the records no longer; `None` if that is open.
    pub days: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub usage: u8,
    pub selector: u8,
    pub matching: u8,
    pub of: Certified,
}

/// The certificate or key from which a record was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certified {
    Leaf(LeafCert),
    Ca(CaCert),
    /// A key for which there is no certificate yet.
    Key(Key),
}

impl Certified {
    pub fn key(&self) -> Key {
        match self {
            Self::Leaf(leaf) => leaf.key,
            Self::Ca(ca) => Key::Ca(ca.subject),
            Self::Key(key) => *key,
        }
    }
}

/// Whether a client accepts a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Yes,
    No,
    /// Clients differ, or their behaviour is not known.
    Unsure,
}

impl Record {
    /// Whether clients know these parameters.
    fn is_usable(&self) -> bool {
        self.usage < 4 && self.selector < 2 && self.matching < 3
    }

    fn is_of_leaf(&self, leaf: &LeafCert) -> bool {
        match (self.selector, &self.of) {
            (0, of) => matches!(of, Certified::Leaf(own) if own == leaf),
            (_, of) => of.key() == leaf.key,
        }
    }

    fn is_of_step(&self, step: &Step) -> bool {
        match (self.selector, &self.of) {
            (0, of) => matches!(of, Certified::Ca(own) if *own == step.certificate),
            (_, of) => of.key() == step.key,
        }
    }
}

impl Dane {
    /// The records that count: usable ones, without a digest where a stronger one is there for the same
    /// usage and selector (RFC 7671 section 9).
    fn counted(&self) -> Vec<&Record> {
        let usable: Vec<&Record> = self.records.iter().filter(|one| one.is_usable()).collect();
        let strongest = |usage, selector| {
            let same = usable.iter().filter(|one| (one.usage, one.selector) == (usage, selector));
            same.map(|one| one.matching).max()
        };
        let counts = |one: &&&Record| {
            one.matching == 0 || Some(one.matching) == strongest(one.usage, one.selector)
        };
        usable.iter().filter(counts).copied().collect()
    }

    fn has(&self, usages: &[u8]) -> bool {
        self.counted().iter().any(|one| usages.contains(&one.usage))
    }

    pub fn ignores_names(&self) -> bool {
        self.has(&[3])
    }

    /// Whether its clients distinguish a renewal with the same key from the old certificate.
    pub fn sees_renewals(&self) -> bool {
        let mut of_leaf = self.counted().into_iter().filter(|one| [1, 3].contains(&one.usage));
        of_leaf.any(|one| one.selector == 0)
    }

    /// Whether a record of the leaf matches, so that its clients accept the leaf with any name.
    pub fn is_met_by_leaf(&self, sent: &Sent) -> bool {
        self.counted().iter().any(|one| one.usage == 3 && one.is_of_leaf(&sent.leaf))
    }

    /// The paths that its clients may take. Clients with records of usages 2 and 3 only use the sent certificates
    /// alone.
    pub fn paths(&self, sight: &Sight) -> Vec<Above> {
        if self.has(&[0, 1]) { sight.paths() } else { sight.sent_paths() }
    }

    /// Whether a client that gets `sent` and takes this path accepts it.
    pub fn outcome(&self, sent: &Sent, above: &Above) -> Outcome {
        let counted = self.counted();
        let leaf = |usage| {
            let mut of = counted.iter().filter(|one| one.usage == usage);
            of.any(|one| one.is_of_leaf(&sent.leaf))
        };
        // A client without usable records behaves as without records (at best, as in RFC 7671 section 10.1).
        if counted.is_empty() || leaf(3) {
            return Outcome::Yes;
        }
        if !nature::is_for(sent, self.host) {
            return Outcome::No;
        }
        let on_path =
            |one: &&&Record| one.usage == 0 && above.iter().any(|step| one.is_of_step(step));
        if leaf(1) || counted.iter().any(|one| on_path(&one)) {
            return Outcome::Yes;
        }
        let anchors = counted.iter().filter(|one| one.usage == 2);
        let outcomes: Vec<Outcome> = anchors.map(|one| self.by_anchor(one, sent, above)).collect();
        let best = |outcome| outcomes.contains(&outcome).then_some(outcome);
        best(Outcome::Yes).or_else(|| best(Outcome::Unsure)).unwrap_or(Outcome::No)
    }

    fn by_anchor(&self, record: &Record, sent: &Sent, above: &Above) -> Outcome {
        let is_mixed = self.has(&[0, 1]);
        if above.iter().any(|step| step.is_sent && record.is_of_step(step)) {
            // A client may have taken this certificate from its own store.
            return if is_mixed { Outcome::Unsure } else { Outcome::Yes };
        }
        if record.matching != 0 {
            // A client may have reached the same CA by another certificate of it.
            let is_of = |ca: &CaCert| {
                record.of == Certified::Ca(*ca) || record.of.key() == Key::Ca(ca.subject)
            };
            return match is_mixed && sent.cas.iter().any(is_of) {
                true => Outcome::Unsure,
                false => Outcome::No,
            };
        }
        // The record contains the whole trust anchor, so it need not be sent (RFC 7671 section 5.2.2). Nothing verifies
        // signatures in this world, so whether the anchor fits is not known.
        let issuer = |at: usize| match at {
            0 => sent.leaf.issuer,
            at => Some(above[at - 1].certificate.issuer),
        };
        let signs = |at: usize| issuer(at).map(Key::Ca) == Some(record.of.key());
        if (0..=above.len()).any(signs) { Outcome::Unsure } else { Outcome::No }
    }
}

impl fmt::Display for Dane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} TLSA", self.host, self.port)?;
        for Record { usage, selector, matching, of } in &self.records {
            write!(f, " ({usage} {selector} {matching} ")?;
            match of {
                Certified::Leaf(leaf) => {
                    write!(f, "{}#{} for {:?})", leaf.key, leaf.edition, leaf.names)?
                }
                Certified::Ca(ca) => write!(f, "{ca})")?,
                Certified::Key(key) => write!(f, "{key})")?,
            }
        }
        self.days.map_or(Ok(()), |days| write!(f, " for {days} d"))
    }
}
