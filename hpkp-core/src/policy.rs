//! Pinning policies: as they are configured, and with the pins from their files.

use std::sync::Arc;

use crate::certificate::Certificate;
use crate::finding::{Code, Location, Text};
use crate::max_age::MaxAge;
use crate::other_hash::{self, HashOf, OtherHash};
use crate::path::Chain;
use crate::pin::{Pin, PinError};
use crate::report_uri::ReportUri;
use crate::spki::{self, SpkiError};
use crate::text::{Excerpt, ShellWord};

/// The most pins that a policy may have: Firefox stores no more (a record of 1,024 bytes) and
/// drops a larger policy as a whole.
pub const MAX_PINS: usize = 22;

/// The source of a pin.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PinSource {
    /// The pin itself.
    Literal(Pin),
    /// The first key in a file; in a bundle this is the leaf's.
    File(String),
    /// The key with this role in the loaded chains.
    Role(Role),
}

/// The role of a key in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The key of the leaf.
    Leaf,
    /// The key of the leaf's issuer, which the server sends.
    Intermediate,
}

impl Role {
    /// The keyword.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Leaf => "leaf",
            Self::Intermediate => "intermediate",
        }
    }

    /// The certificate with this role.
    fn of(self, chain: &Chain) -> Option<&Certificate> {
        match self {
            Self::Leaf => Some(chain.leaf()),
            Self::Intermediate => {
                let leaf = chain.leaf();
                let above = chain.certificates().iter().skip(1);
                above.map(Arc::as_ref).find(|above| leaf.may_be_issued_by(above))
            }
        }
    }
}

impl PinSource {
    /// Reads the value of a `pin` directive; `full_path` makes a path absolute as the server does.
    ///
    /// # Errors
    /// The code and what is wrong with the text.
    pub fn parse(
        text: &str,
        full_path: impl FnOnce(&str) -> String,
    ) -> Result<Self, (Code, String)> {
        if let Some(path) = text.strip_prefix("file:") {
            if path.is_empty() {
                return Err((Code::MalformedPin, "missing path after \"file:\"".to_owned()));
            }
            return Ok(Self::File(full_path(path)));
        }
        if let Some(role) = [Role::Leaf, Role::Intermediate].iter().find(|r| r.as_str() == text) {
            return Ok(Self::Role(*role));
        }
        text.parse().map(Self::Literal).map_err(|error| {
            let code = match error {
                PinError::OfNothing => Code::EmptyInputPin,
                _ => Code::MalformedPin,
            };
            (code, format!("invalid pin \"{}\": {error}", Excerpt::new(text)))
        })
    }
}

/// A `pin` directive.
#[derive(Clone, Debug)]
pub struct PinSetting {
    /// Its source.
    pub source: PinSource,
    /// Its place in the configuration.
    pub at: Location,
}

/// A policy as it is configured.
#[derive(Clone, Debug)]
pub struct PolicySpec {
    /// Its name.
    pub name: String,
    /// Where it is defined.
    pub at: Location,
    /// Its pins, in order.
    pub pins: Vec<PinSetting>,
    /// How long clients remember it.
    pub max_age: Option<MaxAge>,
    /// Whether it binds all hosts below (RFC 7469 section 2.1.3); none if not configured.
    pub include_subdomains: Option<bool>,
    /// Where violation reports go.
    pub report_uri: Option<ReportUri>,
}

impl PolicySpec {
    /// A policy of this name with nothing in it yet.
    #[must_use]
    pub fn new(name: String, at: Location) -> Self {
        Self {
            name,
            at,
            pins: Vec::new(),
            max_age: None,
            include_subdomains: None,
            report_uri: None,
        }
    }

    /// Reads the files that the policy names and takes the pins out of them.
    ///
    /// `read` gives a file's bytes, at most [`spki::MAX_FILE`] of them and one more.
    #[must_use]
    pub fn resolve(mut self, mut read: impl FnMut(&str) -> Result<Vec<u8>, String>) -> Policy {
        let is_completed = self.complete_unpinning();
        let mut pins: Vec<ResolvedPin> = Vec::new();
        let mut problems = Vec::new();
        let mut other_hashes = Vec::new();
        for setting in &self.pins {
            let pin = match &setting.source {
                PinSource::Literal(pin) => Ok(*pin),
                PinSource::File(path) => first_key(path, &mut read, &mut other_hashes),
                // The key differs from server to server; [`Policy::bound`] replaces the keyword.
                PinSource::Role(_) => continue,
            };
            match pin {
                Ok(pin) => pins.push(ResolvedPin { pin, at: setting.at.clone() }),
                Err((code, text)) => {
                    problems.push(PolicyProblem { code, text, at: setting.at.clone() });
                }
            }
        }
        let is_bound = self.roles().next().is_none();
        let key = self.name.clone();
        Policy {
            spec: self,
            key,
            is_bound,
            pins,
            problems,
            other_hashes: other_hashes.into(),
            is_completed,
        }
    }

    /// Adds pins to a policy without pins that has max-age=0, and returns whether it did. Chromium ignores such a
    /// header unless it has a pin of a key in the chain and another pin. Which pins they are does not matter, since no
    /// client remembers them.
    fn complete_unpinning(&mut self) -> bool {
        if !self.is_unpinning() || !self.pins.is_empty() {
            return false;
        }
        let sources = [PinSource::Role(Role::Leaf), PinSource::Literal(Pin::of_spki(NO_KEY))];
        let settings = sources.map(|source| PinSetting { source, at: self.at.clone() });
        self.pins.extend(settings);
        true
    }

    /// Whether it has max-age=0, which tells clients to forget the host.
    pub(crate) fn is_unpinning(&self) -> bool {
        self.max_age.is_some_and(|age| age.seconds() == 0)
    }

    /// The keywords among its pins, each with its place in the configuration.
    pub(crate) fn roles(&self) -> impl Iterator<Item = (Role, &Location)> {
        self.pins.iter().filter_map(|setting| match setting.source {
            PinSource::Role(role) => Some((role, &setting.at)),
            PinSource::Literal(_) | PinSource::File(_) => None,
        })
    }

    pub(crate) fn binds_subdomains(&self) -> bool {
        self.include_subdomains == Some(true)
    }

    /// The number of different pin sources; a source that is configured twice counts once.
    pub(crate) fn distinct_sources(&self) -> usize {
        let sources: std::collections::HashSet<_> =
            self.pins.iter().map(|setting| &setting.source).collect();
        sources.len()
    }
}

/// The text whose hash is the second pin of a policy with max-age=0. No public key begins like that, so no key has this
/// pin.
const NO_KEY: &[u8] = b"hpkp: the pin of no key, for max-age=0";

fn first_key(
    path: &str,
    read: &mut impl FnMut(&str) -> Result<Vec<u8>, String>,
    other_hashes: &mut Vec<(Pin, HashOf, Arc<str>)>,
) -> Result<Pin, (Code, Text)> {
    let excerpt = Excerpt::new(path);
    let file = read(path).map_err(|error| {
        (
            Code::UnreadablePinSource,
            Text::new(format!("cannot read the pin file \"{excerpt}\": {error}")),
        )
    })?;
    let keys = spki::read(&file).map_err(|error| {
        let code = match error {
            SpkiError::PrivateKey => Code::PrivateKeyAsPinSource,
            SpkiError::InheritedParameters => Code::UnpinnableKey,
            SpkiError::TooLarge => Code::OversizedInput,
            _ => Code::UnreadablePinSource,
        };
        let text = Text::new(format!("cannot use the pin file \"{excerpt}\": {error}"));
        let from = match error {
            SpkiError::PrivateKey => Some("openssl pkey -in"),
            SpkiError::Pkcs1PublicKey => Some("openssl rsa -RSAPublicKey_in -in"),
            _ => None,
        };
        let fix = from.map(|from| {
            let path = ShellWord::new(path);
            format!("give the file of the public key instead: {from} {path} -pubout -out PUBLIC")
        });
        (code, fix.into_iter().fold(text, Text::fix))
    })?;
    let name: Arc<str> = excerpt.to_string().into();
    let others = other_hash::of_file(&file).into_iter();
    other_hashes.extend(others.map(|(pin, of): OtherHash| (pin, of, name.clone())));
    keys.first().map(|key| key.pin).ok_or_else(|| {
        let text = format!("the pin file \"{excerpt}\" contains no key");
        (Code::UnreadablePinSource, Text::new(text))
    })
}

/// A pin and the directive that it came from.
#[derive(Clone, Debug)]
pub struct ResolvedPin {
    /// The pin.
    pub pin: Pin,
    /// The place of its directive.
    pub at: Location,
}

/// What is wrong with one of a policy's files.
#[derive(Clone, Debug)]
pub struct PolicyProblem {
    /// The code of the finding.
    pub code: Code,
    /// What is wrong.
    pub text: Text,
    /// The directive.
    pub at: Location,
}

impl PolicyProblem {
    /// A keyword without a pin: the chain has no such certificate, or if `found`, its key has no pin.
    fn of_role(role: Role, found: bool, at: &Location) -> Self {
        let keyword = role.as_str();
        let (code, text) = if found {
            let text = format!(
                "pin \"{keyword}\" cannot be formed: the key has inherited parameters (RFC 7469 section \
                 2.4)"
            );
            (Code::UnpinnableKey, Text::new(text))
        } else {
            let text = format!(
                "pin \"{keyword}\" cannot be formed: the server sends no certificate of the leaf's issuer"
            );
            let remedy = "add that certificate to the file of the server certificate, or give the pin itself";
            (Code::UnreadablePinSource, Text::new(text).fix(remedy))
        };
        Self { code, text, at: at.clone() }
    }
}

/// A policy whose files have been read.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(crate) spec: PolicySpec,
    /// The name under which hosts use it.
    key: String,
    /// Whether its keywords have been replaced with pins.
    pub(crate) is_bound: bool,
    /// Its pins in the order of the directives, with duplicates.
    pub(crate) pins: Vec<ResolvedPin>,
    pub(crate) problems: Vec<PolicyProblem>,
    /// Whether its pins were added because it has max-age=0 and no configured pin.
    pub(crate) is_completed: bool,
    /// Hashes of objects in its files that people use by mistake in place of pins, each with the file.
    pub(crate) other_hashes: Arc<[(Pin, HashOf, Arc<str>)]>,
}

impl Policy {
    /// The name under which hosts use the policy: its name and, if its keywords were replaced, the
    /// pins.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.key
    }

    /// The policy with its keywords replaced by the keys of these chains, before its other pins.
    pub(crate) fn bound(&self, chains: &[&Chain]) -> Self {
        let mut bound = Self { is_bound: true, pins: Vec::new(), ..self.clone() };
        for (role, at) in self.spec.roles() {
            let mut pins: Vec<Pin> = Vec::new();
            for chain in chains {
                match role.of(chain).map(Certificate::pin) {
                    Some(Some(pin)) if pins.contains(&pin) => {}
                    Some(Some(pin)) => pins.push(pin),
                    found => bound.problems.push(PolicyProblem::of_role(role, found.is_some(), at)),
                }
            }
            // A configured backup pin that has become the key in use is no duplicate to report.
            let is_new = |pin: &Pin| !self.has(*pin) && !bound.has(*pin);
            let pins: Vec<Pin> = pins.into_iter().filter(is_new).collect();
            bound.pins.extend(pins.into_iter().map(|pin| ResolvedPin { pin, at: at.clone() }));
        }
        for resolved in &bound.pins {
            bound.key.push_str(&format!(" {}", resolved.pin));
        }
        bound.key.extend(bound.problems.iter().map(|problem| problem.code.as_str()));
        bound.pins.extend(self.pins.iter().cloned());
        bound
    }

    /// Whether some of its pins follow the loaded certificate.
    #[must_use]
    pub fn has_keywords(&self) -> bool {
        self.spec.roles().next().is_some()
    }

    /// How long clients remember it.
    #[must_use]
    pub fn max_age(&self) -> Option<MaxAge> {
        self.spec.max_age
    }

    /// Whether it binds all hosts below (RFC 7469 section 2.1.3).
    #[must_use]
    pub fn binds_subdomains(&self) -> bool {
        self.spec.binds_subdomains()
    }

    /// The policy's name in messages.
    pub(crate) fn label(&self) -> Excerpt<'_> {
        Excerpt::new(&self.spec.name)
    }

    /// The pins, each once, in the order of the directives.
    #[must_use]
    pub fn distinct_pins(&self) -> Vec<Pin> {
        let mut known = std::collections::HashSet::new();
        self.pins.iter().map(|resolved| resolved.pin).filter(|pin| known.insert(*pin)).collect()
    }

    /// The pins, each once, sorted as in records.
    pub(crate) fn sorted_pins(&self) -> Vec<Pin> {
        let mut pins = self.distinct_pins();
        pins.sort_unstable();
        pins
    }

    /// Whether `pin` is one of its pins.
    #[must_use]
    pub fn has(&self, pin: Pin) -> bool {
        self.pins.iter().any(|resolved| resolved.pin == pin)
    }
}
