//! Which server block answers for a name: the server's own choice, followed, since at the time of
//! the check it has built no tables of its own yet.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::rc::Rc;

use super::{Certificates, Deployment};
use crate::path::Chain;
use crate::published::{HostName, Matching};

/// An address on which a server answers TLS.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its port, 0 where it has none: a Unix socket.
    pub port: u16,
    /// How the server chooses.
    pub choice: Choice,
    /// The blocks (positions in [`Deployment::hosts`]) among which it chooses, in its own order.
    pub hosts: Vec<usize>,
    /// The block that answers where none has the name.
    pub default: usize,
    /// Names that are regular expressions, in the order in which the server tries them, with their
    /// blocks.
    pub patterns: Vec<(usize, Rc<dyn NamePattern>)>,
    /// Whether clients come here by the port alone, and the block has no names but those in its
    /// certificates: a TLS server of nginx's `stream` or `mail`.
    pub by_port_alone: bool,
}

/// How a server chooses a block by its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Choice {
    /// nginx: the exact name, the longest wildcard at the start, the longest at the end, the first
    /// regular expression. `.example.com` is a name and a wildcard.
    Nginx,
    /// Apache httpd: the first block with a name or alias that fits; `*` and `?` stand for any
    /// characters and for one.
    Httpd,
}

/// A name that is a regular expression. The core has no engine of its own; a server lends its.
pub trait NamePattern: fmt::Debug {
    /// Whether it fits `name`, which is in lower case.
    fn fits(&self, name: &str) -> bool;
}

/// A host, or all hosts of one label below it for which there is no entry of their own.
pub(super) type Sample = (HostName, Matching);

/// A label that stands for any that no block names.
const ANY_LABEL: &str = "hpkp-any-label";

/// The names of one listener.
struct Table<'a> {
    listener: &'a Listener,
    /// With the position of the block in the listener's order.
    exact: HashMap<String, usize>,
    /// nginx: by the domain below which they fit.
    wildcard_start: HashMap<String, usize>,
    /// nginx: by what stands before the last dot.
    wildcard_end: HashMap<String, usize>,
    /// httpd: in order.
    globs: Vec<(usize, String)>,
    /// What the certificates of the default server are for: it answers for every name that no block
    /// has, whether or not it has names of its own.
    catch_all: BTreeSet<Sample>,
    /// The wildcards among them of a default server that has names. It is not led to all their hosts,
    /// which are well served by other machines; to those that this machine has elsewhere, it is.
    wildcards: BTreeSet<Sample>,
}

/// A block that answers on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    pub(super) host: usize,
    pub(super) port: u16,
}

pub(super) struct Routing<'a> {
    tables: Vec<Table<'a>>,
    /// Tables by the exact names that they have.
    by_name: HashMap<String, Vec<usize>>,
    /// Tables with names that are not exact.
    with_patterns: Vec<usize>,
    /// Tables by what the certificates of their default servers are for.
    by_certificate: HashMap<Sample, Vec<usize>>,
    /// The same for the wildcards of those that have names.
    by_wildcard: HashMap<Sample, Vec<usize>>,
    /// Blocks with patterns that fit some hosts of a wildcard certificate, by table. Which hosts
    /// these are cannot be told, so the blocks count for all.
    partly: HashMap<Sample, Vec<(usize, usize)>>,
    /// The names of each host that clients may see, with the ports.
    names: Vec<BTreeMap<Sample, BTreeSet<u16>>>,
}

impl<'a> Routing<'a> {
    pub(super) fn new(deployment: &'a Deployment) -> Self {
        let tables: Vec<Table<'a>> =
            deployment.listeners.iter().map(|listener| Table::new(listener, deployment)).collect();
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        let mut by_certificate: HashMap<Sample, Vec<usize>> = HashMap::new();
        let mut by_wildcard: HashMap<Sample, Vec<usize>> = HashMap::new();
        for (index, table) in tables.iter().enumerate() {
            for name in table.exact.keys() {
                by_name.entry(name.clone()).or_default().push(index);
            }
            for sample in &table.catch_all {
                by_certificate.entry(sample.clone()).or_default().push(index);
            }
            for sample in &table.wildcards {
                by_wildcard.entry(sample.clone()).or_default().push(index);
            }
        }
        let with_patterns =
            (0..tables.len()).filter(|index| tables[*index].has_patterns()).collect();
        let names = vec![BTreeMap::new(); deployment.hosts.len()];
        let partly = HashMap::new();
        let mut routing =
            Self { tables, by_name, with_patterns, by_certificate, by_wildcard, partly, names };
        routing.find_names(deployment);
        routing
    }

    /// The names that clients may see: exact ones, and of blocks that answer for others too, those
    /// in their certificates, since a client can note no others.
    fn find_names(&mut self, deployment: &Deployment) {
        let mut samples: BTreeSet<Sample> = self
            .by_name
            .keys()
            .filter_map(|name| name.parse().ok())
            .map(|name| (name, Matching::Exact))
            .collect();
        samples.extend(self.by_certificate.keys().cloned());
        for &index in &self.with_patterns {
            let table = &self.tables[index];
            for (order, &host) in table.listener.hosts.iter().enumerate() {
                for sample in certified(deployment, host) {
                    if sample.1 == Matching::OneLabel {
                        let names = &deployment.hosts[host].names;
                        let choice = table.listener.choice;
                        let fits = names.iter().filter_map(|name| fitting(choice, name, &sample.0));
                        let fits: BTreeSet<Sample> = fits.collect();
                        if fits.contains(&sample) && table.may_lead_to(order, &sample) {
                            self.partly.entry(sample.clone()).or_default().push((index, host));
                        }
                        samples.extend(fits);
                    }
                    samples.insert(sample);
                }
            }
        }
        for sample in samples {
            for target in self.named(&sample) {
                let names = &mut self.names[target.host];
                let ports = names.entry(sample.clone()).or_default();
                ports.extend((target.port != 0).then_some(target.port));
            }
        }
    }

    /// The names of a host, with its ports.
    pub(super) fn names(&self, host: usize) -> &BTreeMap<Sample, BTreeSet<u16>> {
        &self.names[host]
    }

    /// The blocks that answer for a name because they have it, or because none has it and the
    /// default server's certificate is for it.
    pub(super) fn named(&self, sample: &Sample) -> BTreeSet<Target> {
        let target = |(table, host): (usize, usize)| {
            let port = self.tables[table].listener.port;
            Target { host, port }
        };
        self.answering(sample).map(target).collect()
    }

    /// The other blocks that clients of `host` meet under the name: where the block itself answers
    /// for some of the hosts of a pattern, its clients are not led to another.
    pub(super) fn beside(&self, host: usize, sample: &Sample) -> BTreeSet<usize> {
        let all: Vec<(usize, usize)> = self.answering(sample).collect();
        let own: BTreeSet<usize> =
            all.iter().filter(|(_, other)| *other == host).map(|(table, _)| *table).collect();
        let others = all.into_iter().filter(|(table, _)| !own.contains(table));
        others.map(|(_, other)| other).collect()
    }

    /// The tables in which a name leads to blocks, with these.
    fn answering(&self, sample: &Sample) -> impl Iterator<Item = (usize, usize)> {
        let name = any_of(sample);
        let exact = self.by_name.get(name.as_str()).into_iter().flatten();
        let covers = covering(sample);
        let caught = covers.iter().filter_map(|cover| self.by_certificate.get(cover)).flatten();
        let mut tables: BTreeSet<usize> =
            exact.chain(&self.with_patterns).chain(caught).copied().collect();
        let partly = self.partly.get(sample).into_iter().flatten().copied();
        let is_ours = tables.iter().any(|index| self.tables[*index].named(name.as_str()).is_some());
        if is_ours {
            let wild = covers.iter().filter_map(|cover| self.by_wildcard.get(cover)).flatten();
            tables.extend(wild);
        }
        let answering = tables.into_iter().filter_map(move |index| {
            let table = &self.tables[index];
            let host = table.named(name.as_str()).or_else(|| table.caught(&covers, is_ours))?;
            Some((index, host))
        });
        answering.chain(partly)
    }

    /// The blocks that answer where none has the name.
    pub(super) fn defaults(&self) -> impl Iterator<Item = Target> + '_ {
        self.tables.iter().map(|table| {
            let Listener { default, port, .. } = *table.listener;
            Target { host: default, port }
        })
    }
}

impl<'a> Table<'a> {
    fn new(listener: &'a Listener, deployment: &Deployment) -> Self {
        let mut table = Self {
            listener,
            exact: HashMap::new(),
            wildcard_start: HashMap::new(),
            wildcard_end: HashMap::new(),
            globs: Vec::new(),
            catch_all: BTreeSet::new(),
            wildcards: BTreeSet::new(),
        };
        for (order, host) in listener.hosts.iter().enumerate() {
            for name in &deployment.hosts[*host].names {
                table.add(order, &name.to_ascii_lowercase());
            }
        }
        let names = &deployment.hosts[listener.default].names;
        let is_named = names.iter().any(|name| name.parse::<HostName>().is_ok());
        let certified = certified(deployment, listener.default);
        (table.catch_all, table.wildcards) =
            certified.partition(|(_, matching)| !is_named || *matching == Matching::Exact);
        table
    }

    fn add(&mut self, order: usize, name: &str) {
        if self.listener.choice == Choice::Httpd {
            if name.contains(['*', '?']) {
                self.globs.push((order, name.to_owned()));
            } else {
                self.exact.entry(canonical(name)).or_insert(order);
            }
        } else if name.starts_with('~') {
            // They stand in `patterns`.
        } else if let Some(domain) = name.strip_prefix("*.") {
            self.wildcard_start.entry(canonical(domain)).or_insert(order);
        } else if let Some(domain) = name.strip_prefix('.') {
            self.exact.entry(canonical(domain)).or_insert(order);
            self.wildcard_start.entry(canonical(domain)).or_insert(order);
        } else if let Some(start) = name.strip_suffix(".*") {
            self.wildcard_end.entry(start.to_owned()).or_insert(order);
        } else {
            self.exact.entry(canonical(name)).or_insert(order);
        }
    }

    fn has_patterns(&self) -> bool {
        !(self.wildcard_start.is_empty()
            && self.wildcard_end.is_empty()
            && self.globs.is_empty()
            && self.listener.patterns.is_empty())
    }

    /// The block that has `name`.
    fn named(&self, name: &str) -> Option<usize> {
        let exact = self.exact.get(name).copied();
        if self.listener.choice == Choice::Httpd {
            let fits = |(_, glob): &&(usize, String)| glob_fits(glob.as_bytes(), name.as_bytes());
            let glob = self.globs.iter().find(fits).map(|(order, _)| *order);
            let first = exact.into_iter().chain(glob).min();
            return first.map(|order| self.listener.hosts[order]);
        }
        let dots = || name.match_indices('.').map(|(dot, _)| dot);
        let start = || self.below_wildcard(name);
        let end = || dots().rev().find_map(|dot| self.wildcard_end.get(&name[..dot]).copied());
        let order = exact.or_else(start).or_else(end);
        order.map(|order| self.listener.hosts[order]).or_else(|| {
            let patterns = &self.listener.patterns;
            patterns.iter().find(|(_, pattern)| pattern.fits(name)).map(|(host, _)| *host)
        })
    }

    /// nginx: the block with the longest wildcard at the start that fits.
    fn below_wildcard(&self, name: &str) -> Option<usize> {
        let mut dots = name.match_indices('.').map(|(dot, _)| dot);
        dots.find_map(|dot| self.wildcard_start.get(&name[dot + 1..]).copied())
    }

    /// Whether a pattern that fits some of the hosts may lead to a block that does not have all of
    /// them, since no pattern that is asked before has all.
    fn may_lead_to(&self, order: usize, sample: &Sample) -> bool {
        let name = any_of(sample);
        let name = name.as_str();
        if self.named(name) == Some(self.listener.hosts[order]) {
            return false;
        }
        match self.listener.choice {
            Choice::Nginx => self.below_wildcard(name).is_none(),
            Choice::Httpd => {
                let mut before = self.globs.iter().take_while(|(other, _)| *other < order);
                !before.any(|(_, glob)| {
                    let rest = glob.strip_prefix('*');
                    rest.is_some_and(|rest| {
                        (rest.is_empty() || rest.starts_with('.'))
                            && !rest.contains(['*', '?'])
                            && name.ends_with(rest)
                    })
                })
            }
        }
    }

    /// The default server, where its certificates are for a name, which stand in one of `covers`.
    fn caught(&self, covers: &[Sample], is_ours: bool) -> Option<usize> {
        let has =
            |cover| self.catch_all.contains(cover) || is_ours && self.wildcards.contains(cover);
        covers.iter().any(has).then_some(self.listener.default)
    }
}

/// A name without its trailing dot, in A-labels where it is a host's.
fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_owned()
}

/// A name of a sample.
pub(super) fn any_of(sample: &Sample) -> HostName {
    match sample.1 {
        Matching::OneLabel => sample.0.below(ANY_LABEL),
        _ => sample.0.clone(),
    }
}

/// The hosts one label below `domain` that a name with a pattern may fit: one, or some that cannot be
/// told.
fn fitting(choice: Choice, name: &str, domain: &HostName) -> Option<Sample> {
    let some = || (domain.clone(), Matching::OneLabel);
    let name = name.to_ascii_lowercase();
    if choice == Choice::Nginx {
        if name.starts_with('~') {
            return Some(some());
        }
        let start = name.strip_suffix(".*")?;
        let host = format!("{}.{domain}", start.split('.').next()?);
        let is_fit = host.strip_prefix(start).is_some_and(|rest| rest.starts_with('.'));
        return Some((host.parse().ok().filter(|_| is_fit)?, Matching::Exact));
    }
    let wildcard = name.rfind(['*', '?'])?;
    let label = name.split('.').next()?;
    if !label.contains(['*', '?']) {
        let host = format!("{label}.{domain}");
        let is_fit = glob_fits(name.as_bytes(), host.as_bytes());
        return Some((host.parse().ok().filter(|_| is_fit)?, Matching::Exact));
    }
    let (tail, domain) = (&name[wildcard + 1..], format!(".{domain}"));
    (tail.ends_with(&domain) || domain.ends_with(tail)).then(some)
}

/// The names in certificates that are for `sample`: itself, and of an exact one the wildcard.
fn covering(sample: &Sample) -> Vec<Sample> {
    let parent = sample.0.parents().next().filter(|_| sample.1 == Matching::Exact);
    let wildcard = parent.and_then(|parent| Some((parent.parse().ok()?, Matching::OneLabel)));
    [sample.clone()].into_iter().chain(wildcard).collect()
}

/// The names in the certificates that a host presents.
fn certified(deployment: &Deployment, host: usize) -> impl Iterator<Item = Sample> + '_ {
    let contexts = deployment.hosts[host].contexts.iter();
    contexts
        .filter_map(|context| match &deployment.contexts[*context].certificates {
            Certificates::Loaded(chains) => Some(chains),
            _ => None,
        })
        .flatten()
        .map(Chain::leaf)
        .flat_map(|leaf| leaf.dns_names())
        .filter_map(|name| match name.strip_prefix("*.") {
            Some(domain) => Some((domain.parse().ok()?, Matching::OneLabel)),
            None => Some((name.parse().ok()?, Matching::Exact)),
        })
}

/// Whether a pattern of httpd's fits: `*` is any characters, `?` is one.
fn glob_fits(glob: &[u8], name: &[u8]) -> bool {
    // Where the last `*` stood, and how much of the name it has taken.
    let (mut at, mut pos, mut star) = (0, 0, None);
    while pos < name.len() {
        match glob.get(at) {
            Some(b'*') => {
                star = Some((at, pos));
                at += 1;
            }
            Some(octet) if *octet == b'?' || *octet == name[pos] => {
                at += 1;
                pos += 1;
            }
            _ => match star {
                Some((star_at, taken)) => {
                    star = Some((star_at, taken + 1));
                    at = star_at + 1;
                    pos = taken + 1;
                }
                None => return false,
            },
        }
    }
    glob[at..].iter().all(|octet| *octet == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Host;

    fn host(names: &[&str]) -> Host {
        Host {
            label: names.first().copied().unwrap_or_default().to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            tls: true,
            contexts: vec![],
            check: crate::finding::Check::Refuse,
            enforced: None,
            report_only: None,
            accepted: vec![],
            serving: vec![],
        }
    }

    #[derive(Debug)]
    struct Contains(&'static str);

    impl NamePattern for Contains {
        fn fits(&self, name: &str) -> bool {
            name.contains(self.0)
        }
    }

    fn deployment(choice: Choice, names: &[&[&str]]) -> Deployment {
        Deployment {
            hosts: names.iter().map(|names| host(names)).collect(),
            listeners: vec![Listener {
                port: 443,
                choice,
                hosts: (0..names.len()).collect(),
                default: 0,
                patterns: vec![(5, Rc::new(Contains("api")))],
                by_port_alone: false,
            }],
            ..Deployment::default()
        }
    }

    fn chosen(deployment: &Deployment, name: &str) -> Option<usize> {
        let routing = Routing::new(deployment);
        let targets = routing.named(&(name.parse().unwrap(), Matching::Exact));
        targets.first().map(|target| target.host)
    }

    #[test]
    fn nginx_takes_the_exact_name_then_the_longest_wildcard_then_a_regular_expression() {
        let deployment = deployment(
            Choice::Nginx,
            &[
                &["_"],
                &["*.example.com"],
                &["*.a.example.com", "www.*"],
                &["x.a.Example.com.", "www.example.*"],
                &[".dot.example"],
                &["~api"],
            ],
        );
        for (name, host) in [
            ("x.a.example.com", Some(3)),
            ("y.a.example.com", Some(2)),
            ("z.y.a.example.com", Some(2)),
            ("a.example.com", Some(1)),
            ("example.com", None),
            ("www.example.com", Some(1)),
            ("www.example.net", Some(3)),
            ("www.other.net", Some(2)),
            ("dot.example", Some(4)),
            ("b.a.dot.example", Some(4)),
            ("my-api.test", Some(5)),
            ("my-api.example.com", Some(1)),
            ("other.test", None),
        ] {
            assert_eq!(chosen(&deployment, name), host, "{name}");
        }
    }

    #[test]
    fn httpd_takes_the_first_block_that_fits() {
        let mut deployment = deployment(
            Choice::Httpd,
            &[&["first.example"], &["a.example", "*.b.example"], &["x.b.example", "?.c.example"]],
        );
        deployment.listeners[0].patterns.clear();
        for (name, host) in [
            ("first.example", Some(0)),
            ("x.b.example", Some(1)),
            ("y.x.b.example", Some(1)),
            ("b.example", None),
            ("z.c.example", Some(2)),
            ("zz.c.example", None),
        ] {
            assert_eq!(chosen(&deployment, name), host, "{name}");
        }
    }

    #[test]
    fn globs() {
        for (glob, name, fits) in [
            ("*", "a", true),
            ("a*b", "ab", true),
            ("a*b", "axxb", true),
            ("a*b*c", "a.b.b.c", true),
            ("a*b", "abx", false),
            ("a?", "a", false),
            ("", "a", false),
            ("a", "a", true),
        ] {
            assert_eq!(glob_fits(glob.as_bytes(), name.as_bytes()), fits, "{glob} {name}");
        }
    }
}
