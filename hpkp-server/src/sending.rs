//! What each host sends, precomputed: a request asks one question, whether the certificate that its
//! connection has presented satisfies the host's policy, and gets shared bytes.

use std::collections::HashMap;
use std::sync::Arc;

use hpkp_core::check::{Deployment, Host, HostVerdict, Sending, Verdict};
use hpkp_core::header::{Header, Kind};

use crate::openssl::SslCtx;
use crate::presented::{Origin, Seen, ShortPin, short};

/// A context's address. It is compared, never followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContextAddress(usize);

impl From<*const SslCtx> for ContextAddress {
    fn from(context: *const SslCtx) -> Self {
        Self(context.addr())
    }
}

/// A field that a host sends, or withholds on every connection where there is no header.
#[derive(Debug)]
pub struct Field {
    kind: Kind,
    header: Option<Arc<Header>>,
    /// The pins of the policy: one of them must be of a key on the paths of what was presented.
    pins: Arc<[ShortPin]>,
    /// Where a session does not say what was presented: on whose connections it is sent all the same.
    /// Sorted, and empty where there is no header.
    contexts: Arc<[ContextAddress]>,
    /// Whether it is sent for certificates that are chosen during the handshake, too: where they are
    /// guarded, or the operator says so.
    unguarded: bool,
}

impl Field {
    /// Which field it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The field's value, or `None` where it is withheld on every connection.
    #[inline]
    #[must_use]
    pub fn value(&self) -> Option<&str> {
        self.header.as_deref().map(Header::value)
    }

    /// Whether the field is sent on a connection that has presented this. A certificate that was not
    /// loaded is none that has been checked: its successor may lock out whoever notes the field. Nor has
    /// anybody checked that one of the pins is a backup, without which clients ignore the field.
    #[must_use]
    pub fn is_sent_with(&self, seen: Seen<'_>) -> bool {
        let is_backup = |pin: &ShortPin| seen.pins().all(|presented| presented != pin);
        let may_send = match seen.origin() {
            Some(Origin::Loaded) => true,
            Some(Origin::Chosen) => self.unguarded && self.pins.iter().any(is_backup),
            None => false,
        };
        self.header.is_some() && may_send && seen.pins().any(|pin| self.pins.contains(pin))
    }

    /// Whether the field is sent on a connection that uses `context`, where nothing says what was
    /// presented: where all certificates of the context satisfy the policy.
    #[inline]
    #[must_use]
    pub fn is_sent_on(&self, context: ContextAddress) -> bool {
        match &*self.contexts {
            [only] => *only == context,
            many => is_one_of(context, many),
        }
    }
}

/// Out of line: most policies have one context, and the search would burden that case.
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
    // Hosts with one policy share one list of positions; they shall share the addresses too.
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
