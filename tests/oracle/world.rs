//! The world of the oracle: keys, CAs and their certificates, server blocks and whole configurations. All are plain
//! values, so that a history can be printed, repeated and minimised.

use std::fmt;

/// A key. Keys of CAs and leaves have certificates; spare keys are offline backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// The key of the CA with this number.
    Ca(usize),
    /// A server's key on an elliptic curve.
    Leaf(usize),
    /// A server's RSA key.
    Rsa(usize),
    /// A key that no server uses yet.
    Spare(usize),
}

pub const LEAVES: usize = 5;
pub const RSAS: usize = 2;
pub const SPARES: usize = 2;

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ca(ca) => f.write_str(AUTHORITIES[*ca]),
            Self::Leaf(number) => write!(f, "leaf{number}"),
            Self::Rsa(number) => write!(f, "rsa{number}"),
            Self::Spare(number) => write!(f, "spare{number}"),
        }
    }
}

/// The names of the CAs. The first two are roots that clients may trust.
pub const AUTHORITIES: [&str; 5] = ["root0", "root1", "inter0", "inter1", "sub0"];
pub const ROOTS: [usize; 2] = [0, 1];

/// A CA certificate: its subject, its issuer, and its number among several with both the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CaCert {
    pub subject: usize,
    pub issuer: usize,
    pub edition: usize,
}

/// The CA certificates. Both roots have issued one for `inter0`, the first root two; the second root has cross-signed
/// the first.
pub const CA_CERTS: [CaCert; 8] = [
    CaCert { subject: 0, issuer: 0, edition: 0 },
    CaCert { subject: 1, issuer: 1, edition: 0 },
    CaCert { subject: 2, issuer: 0, edition: 0 },
    CaCert { subject: 2, issuer: 0, edition: 1 },
    CaCert { subject: 2, issuer: 1, edition: 0 },
    CaCert { subject: 3, issuer: 1, edition: 0 },
    CaCert { subject: 0, issuer: 1, edition: 0 },
    CaCert { subject: 4, issuer: 2, edition: 0 },
];

impl fmt::Display for CaCert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}<-{}", AUTHORITIES[self.subject], AUTHORITIES[self.issuer])?;
        if self.edition > 0 {
            write!(f, "(new)")?;
        }
        Ok(())
    }
}

/// A server's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeafCert {
    pub key: Key,
    /// `None` for a self-signed certificate.
    pub issuer: Option<usize>,
    pub names: Vec<&'static str>,
    /// The number of the renewal.
    pub edition: usize,
}

/// The chain that a server sends: a leaf and CA certificates.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sent {
    pub leaf: LeafCert,
    pub cas: Vec<CaCert>,
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let issuer = self.leaf.issuer.map_or("itself", |issuer| AUTHORITIES[issuer]);
        write!(f, "{}<-{issuer}#{} for {:?}", self.leaf.key, self.leaf.edition, self.leaf.names)?;
        for ca in &self.cas {
            write!(f, " + {ca}")?;
        }
        Ok(())
    }
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    pub pins: Vec<Key>,
    pub days: i64,
    pub include_subdomains: bool,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pins: Vec<String> = self.pins.iter().map(ToString::to_string).collect();
        write!(f, "pins {} for {} d", pins.join(" "), self.days)?;
        f.write_str(if self.include_subdomains { " with hosts below" } else { "" })
    }
}

/// The port of a server that is not a web server: clients reach it by the port alone.
pub const STREAM: u16 = 853;

/// A server block.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Block {
    /// Empty for an nginx server without a name.
    pub names: Vec<&'static str>,
    pub ports: Vec<u16>,
    /// One or two chains; of two, the first has a key on an elliptic curve.
    pub slots: Vec<Sent>,
    pub policy: Option<Policy>,
    /// nginx's `default_server`.
    pub is_default: bool,
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let default = if self.is_default { " default" } else { "" };
        write!(f, "{:?} on {:?}{default}:", self.names, self.ports)?;
        for sent in &self.slots {
            write!(f, " [{sent}]")?;
        }
        self.policy.as_ref().map_or(Ok(()), |policy| write!(f, " {policy}"))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Nginx,
    Httpd,
}

/// The configuration of one server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    pub kind: Kind,
    pub blocks: Vec<Block>,
    /// Names that the operator has declared as not served here.
    pub not_served_here: Vec<&'static str>,
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)?;
        for block in &self.blocks {
            write!(f, "\n        {block}")?;
        }
        if !self.not_served_here.is_empty() {
            write!(f, "\n        not served here: {:?}", self.not_served_here)?;
        }
        Ok(())
    }
}

/// All hosts to which clients connect. The last two are in no configuration.
pub const HOSTS: [&str; 11] = [
    "example.com",
    "www.example.com",
    "a.example.com",
    "b.example.com",
    "c.example.com",
    "x.a.example.com",
    "y.a.example.com",
    "w.x.a.example.com",
    "other.test",
    "z.example.com",
    "z.a.example.com",
];

/// Hosts below those, which no server has: for pins of a pattern, and clients that ignore names.
pub const BELOW: [&str; 8] = [
    "z.www.example.com",
    "z.b.example.com",
    "z.c.example.com",
    "z.x.a.example.com",
    "z.y.a.example.com",
    "z.w.x.a.example.com",
    "z.other.test",
    "z.z.example.com",
];

/// The hosts that configurations have.
pub const NAMED: [&str; 9] = {
    let [a, b, c, d, e, f, g, h, i, ..] = HOSTS;
    [a, b, c, d, e, f, g, h, i]
};

pub const PORTS: [u16; 3] = [443, 8443, STREAM];

/// Pins held outside of headers, as of an app, a TLSA record or a curl command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Outside {
    pub host: &'static str,
    pub matching: Matching,
    pub include_subdomains: bool,
    pub scope: Scope,
    pub port: Option<u16>,
    pub pins: Vec<Key>,
    /// Days from now until the pins expire; `None` if they do not expire.
    pub days: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Matching {
    Exact,
    OneLabel,
    AnyDepth,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    Chain,
    Leaf,
    PathCa,
    SentCa,
}

impl fmt::Display for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pins: Vec<String> = self.pins.iter().map(ToString::to_string).collect();
        write!(f, "{} {:?}", self.host, self.matching)?;
        f.write_str(if self.include_subdomains { " with hosts below" } else { "" })?;
        if let Some(port) = self.port {
            write!(f, " port {port}")?;
        }
        write!(f, " {:?} pins {}", self.scope, pins.join(" "))?;
        self.days.map_or(Ok(()), |days| write!(f, " for {days} d"))
    }
}
