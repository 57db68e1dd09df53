//! The records as they will be after the servers have taken a step. The core computes all dates
//! ([`State::retention`]).

use hpkp_core::pin::Pin;
use hpkp_core::published::state::{Record, Retention, Standing};
use hpkp_core::published::{
    Body, Ended, Event, HostName, KeyGraph, KeyNode, Lifetime, Matching, Origin, PinValidation,
    Published, Scope, State, Why, WriterName,
};
use hpkp_core::sorted::distinct;

use super::model::Policy;

/// Records, and their continuation.
#[derive(Clone, Debug)]
pub(super) struct Future {
    pub(super) state: State,
    pub(super) host: HostName,
    /// The only writer whose records of presented certificates count; `None` for all.
    pub(super) of_writer: Option<WriterName>,
}

/// Records that do not expire by themselves.
pub(super) type Blocking<'a> = Vec<(&'a Record<Published>, Retention)>;

/// Keys that clients must accept: those of one certificate, or of several certificates of which a client
/// may get any.
#[derive(Clone, Debug, Default)]
pub(super) struct Relied(Vec<Certificate>);

#[derive(Clone, Debug)]
struct Certificate {
    /// The leaf's key without its issuers, for clients that may compare it whatever CA issues the
    /// certificate.
    alone: KeyGraph,
    /// The keys for clients that compare only keys of CAs.
    whole: KeyGraph,
}

impl Relied {
    /// Adds the key of a leaf. `present` are the keys that are presented today; `same` says whether the CA
    /// stays the same.
    pub(super) fn and_leaf(mut self, pin: Pin, present: &KeyGraph, same: bool) -> Option<Self> {
        let node =
            |issuers: Vec<usize>, end| KeyNode { pin: Some(pin), served: true, end, issuers };
        let mut nodes = present.nodes().to_vec();
        let first = nodes.first_mut()?;
        *first = node(first.issuers.clone(), first.end);
        let alone = KeyGraph::new(vec![node(vec![], true)])?;
        let whole = if same { KeyGraph::new(nodes)? } else { alone.clone() };
        self.0.push(Certificate { alone, whole });
        Some(self)
    }

    /// Adds these keys of CAs above the leaf of `present`.
    pub(super) fn and_above(mut self, pins: &[Pin], present: &KeyGraph) -> Option<Self> {
        let mut nodes = present.nodes().to_vec();
        for (at, node) in nodes.iter_mut().enumerate() {
            node.pin = node.pin.filter(|other| at > 0 && pins.contains(other));
        }
        let graph = KeyGraph::new(nodes)?;
        self.0.push(Certificate { alone: graph.clone(), whole: graph });
        Some(self)
    }

    /// Whether clients that compare these pins accept each of the certificates.
    pub(super) fn meets(&self, scope: Scope, pins: &[Pin]) -> bool {
        self.0.iter().all(|certificate| {
            let graph = match scope {
                Scope::Chain | Scope::Leaf => &certificate.alone,
                Scope::PathCa | Scope::SentCa => &certificate.whole,
            };
            graph.meet(scope, |pin| pins.contains(&pin)) == PinValidation::Succeeds
        })
    }
}

impl Future {
    pub(super) const fn new(state: State, host: HostName) -> Self {
        Self { state, host, of_writer: None }
    }

    /// The policy that these servers publish together.
    pub(super) fn policy(&self, writers: &[WriterName]) -> Option<Policy> {
        let mut all: Option<Policy> = None;
        for record in writers.iter().flat_map(|writer| self.current(writer)) {
            let Lifetime::MaxAge(max_age) = record.body.lifetime else { continue };
            let one = Policy {
                pins: record.body.pins.clone(),
                max_age,
                include_subdomains: record.body.include_subdomains,
            };
            all = Some(match all {
                None => one.with([]),
                Some(all) => Policy {
                    max_age: all.max_age.max(max_age),
                    include_subdomains: all.include_subdomains || one.include_subdomains,
                    ..all.with(one.pins)
                },
            });
        }
        all
    }

    /// The servers that send pins for the host.
    pub(super) fn writers(&self) -> Vec<WriterName> {
        let records = self.state.published().filter(|record| self.is_own(&record.body));
        let mut writers = distinct(records.map(|record| record.writer.clone()));
        writers.retain(|writer| !self.current(writer).is_empty());
        writers
    }

    /// The records that a server publishes for the host.
    pub(super) fn current(&self, writer: &WriterName) -> Vec<&Record<Published>> {
        let last = self.state.last_accepted(writer).published;
        last.into_values().flatten().filter(|record| self.is_own(&record.body)).collect()
    }

    fn is_own(&self, body: &Published) -> bool {
        let is_of_host = body.host == self.host || body.matching == Matching::OneLabel;
        body.origin == Origin::Header && is_of_host && body.binds(&self.host)
    }

    /// Replaces the policy that the servers publish for the host.
    pub(super) fn publish(&mut self, at: i64, policy: Option<&Policy>) {
        for writer in self.writers() {
            let current = self.current(&writer);
            let Some(template) = current.first().map(|record| record.body.clone()) else {
                continue;
            };
            let mut ids: Vec<_> = current.iter().map(|record| record.id).collect();
            ids.sort_unstable();
            let ended = Ended { ids, why: Why::Replaced, when: None };
            self.append(at, &writer, Body::Ended(ended));
            if let Some(policy) = policy {
                let published = Published {
                    pins: policy.pins.clone(),
                    lifetime: Lifetime::MaxAge(policy.max_age),
                    include_subdomains: policy.include_subdomains,
                    since: None,
                    ..template
                };
                self.append(at, &writer, Body::Published(published));
            }
        }
    }

    fn append(&mut self, at: i64, writer: &WriterName, body: Body) {
        let seq = self.state.last_seq(writer).saturating_add(1);
        self.state.take(Event::new(at, seq, writer.clone(), body), Standing::Own);
    }

    /// Whether clients hold pins for the host.
    pub(super) fn is_bound(&self, at: i64) -> bool {
        self.state.live(at).any(|live| live.record.body.binds(&self.host))
    }

    /// Whether some clients compare only keys of CAs.
    pub(super) fn compares_ca(&self, at: i64) -> bool {
        let mut bodies = self.state.live(at).map(|live| &live.record.body);
        bodies.any(|body| {
            matches!(body.scope, Scope::PathCa | Scope::SentCa) && body.binds(&self.host)
        })
    }

    /// The records of the host's pins that were waived.
    pub(super) fn waived(&self, at: i64) -> Vec<(&Record<Published>, Retention)> {
        let live = self.state.live(at);
        let waived =
            live.filter(|live| live.waiver.is_some() && live.record.body.binds(&self.host));
        waived.map(|live| (live.record, live.retention)).collect()
    }

    /// The time from which all clients of the host accept these keys, if no further step is taken after
    /// `at`.
    ///
    /// # Errors
    /// See [`Future::free`].
    pub(super) fn date(&self, relied: &Relied, at: i64) -> Result<i64, Blocking<'_>> {
        self.free(at, |body| {
            body.tlsa.as_ref().is_none_or(|set| !set.names_leaf_certificate())
                && relied.meets(body.scope, &body.pins)
        })
    }

    /// The time from which no client holds pins of the host that are not `met`, if no further step is taken
    /// after `at`.
    ///
    /// # Errors
    /// The records that do not expire by themselves.
    pub(super) fn free(
        &self,
        at: i64,
        met: impl Fn(&Published) -> bool,
    ) -> Result<i64, Blocking<'_>> {
        let (mut from, mut blocking) = (at, Vec::new());
        for live in self.state.live(at) {
            let body = &live.record.body;
            // Clients of a waived record were given up, and the check lets them be locked out.
            if live.waiver.is_some() || !body.binds(&self.host) || met(body) {
                continue;
            }
            match live.retention {
                Retention::Until(time) => from = from.max(time),
                other => blocking.push((live.record, other)),
            }
        }
        if blocking.is_empty() { Ok(from) } else { Err(blocking) }
    }
}
