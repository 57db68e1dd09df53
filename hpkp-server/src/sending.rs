//! The header fields of each host, precomputed. A request only asks whether the certificate that its connection has
//! presented satisfies the host's policy, and sends shared bytes.

use std::collections::HashMap;
use std::sync::Arc;

use hpkp_core::check::{Deployment, Host, HostVerdict, Sending, Verdict};
use hpkp_core::header::{Header, Kind};

use crate::openssl::SslCtx;
use crate::presented::{Origin, SessionData, ShortPin, short};

/// A context's address. It is compared, never followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContextAddress(usize);

impl From<*const SslCtx> for ContextAddress {
    fn from(context: *const SslCtx) -> Self {
        Self(context.addr())
    }
}

/// A field that a host sends. Without a header it is withheld on every connection.
#[derive(Debug)]
pub struct Field {
    kind: Kind,
    header: Option<Arc<Header>>,
    /// The pins of the policy. One of them must be a key on the paths of the presented certificate.
    pins: Arc<[ShortPin]>,
    /// The contexts on whose connections the field is sent if the session does not tell what was presented. Sorted, and
    /// empty if there is no header.
    contexts: Arc<[ContextAddress]>,
    /// Whether the field is also sent for certificates that are chosen during the handshake: they are guarded, or the
    /// operator has configured it.
    unguarded: bool,
}

impl Field {
    /// Which field it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The field's value, or `None` if it is withheld on every connection.
    #[inline]
    #[must_use]
    pub fn value(&self) -> Option<&str> {
        self.header.as_deref().map(Header::value)
    }

    /// Whether the field is sent on a connection with these session data. A certificate that was chosen during the
    /// handshake has not been checked: its successor may lock out clients that note the field, and it is not known
    /// whether one of the pins is a backup, without which clients ignore the field.
    #[must_use]
    pub fn is_sent_with(&self, session_data: SessionData<'_>) -> bool {
        let is_backup = |pin: &ShortPin| session_data.pins().all(|presented| presented != pin);
        let may_send = match session_data.origin() {
            Some(Origin::Loaded) => true,
            Some(Origin::Chosen) => self.unguarded && self.pins.iter().any(is_backup),
            None => false,
        };
        self.header.is_some() && may_send && session_data.pins().any(|pin| self.pins.contains(pin))
    }

    /// Whether the field is sent on a connection that uses `context`, if it is not known which certificate was
    /// presented: all certificates of the context must satisfy the policy.
    #[inline]
    #[must_use]
    pub fn is_sent_on(&self, context: ContextAddress) -> bool {
        match &*self.contexts {
            [only] => *only == context,
            many => is_one_of(context, many),
        }
    }
}

/// Not inlined, because most policies have only one context and do not need the search.
#[inline(never)]
fn is_one_of(context: ContextAddress, sorted: &[ContextAddress]) -> bool {
    sorted.binary_search(&context).is_ok()
}

/// The fields of every host of a verdict. `addresses` are those of the deployment's contexts.
#[must_use]
pub fn fields(
    deployment: &Deployment,
    verdict: &Verdict,
    addresses: &[ContextAddress],
) -> Vec<Vec<Field>> {
    // Hosts with the same policy share one list of positions, so they share one list of addresses.
    let mut known: HashMap<*const [usize], Arc<[ContextAddress]>> = HashMap::new();
    let mut contexts = |positions: &Arc<[usize]>| {
        let entry = known.entry(Arc::as_ptr(positions));
        let contexts = entry.or_insert_with(|| {
            let mut contexts: Vec<ContextAddress> =
                positions.iter().filter_map(|position| addresses.get(*position)).copied().collect();
            contexts.sort_unstable();
            contexts.into()
        });
        contexts.clone()
    };
    let policies = deployment.policies_by_name();
    let mut short_pins: HashMap<&str, Arc<[ShortPin]>> = HashMap::new();
    let mut pins = |name: &str| {
        let Some((&name, policy)) = policies.get_key_value(name) else { return Arc::default() };
        let of = || policy.distinct_pins().into_iter().map(short).collect();
        short_pins.entry(name).or_insert_with(of).clone()
    };
    let mut field = |kind, policy: Option<&str>, sending: &Option<Sending>, unguarded: bool| {
        let (policy, sending) = (policy?, sending.as_ref()?);
        Some(Field {
            kind,
            header: sending.header.clone(),
            pins: pins(policy),
            contexts: match sending.header {
                Some(_) => contexts(&sending.contexts),
                None => Arc::default(),
            },
            unguarded,
        })
    };
    let of = |(position, (host, verdict)): (usize, (&Host, &HostVerdict))| {
        let [enforced, report_only] = [&host.enforced, &host.report_only]
            .map(|policy_use| policy_use.as_ref().map(|policy_use| policy_use.policy.as_str()));
        let unguarded =
            deployment.unguarded.contains(&position) || deployment.guarded.contains(&position);
        let enforced = field(Kind::Enforced, enforced, &verdict.enforced, unguarded);
        let report_only = field(Kind::ReportOnly, report_only, &verdict.report_only, false);
        enforced.into_iter().chain(report_only).collect()
    };
    deployment.hosts.iter().zip(&verdict.hosts).enumerate().map(of).collect()
}
