//! What each host sends, precomputed: a request asks one question, whether the context of its
//! connection satisfies the host's policy, and gets shared octets.

use std::collections::HashMap;
use std::sync::Arc;

use hpkp_core::check::{Sending, Verdict};
use hpkp_core::header::{Header, Kind};

use crate::openssl::SslCtx;

/// A context's address. It is compared, never followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    /// On whose connections it is sent: sorted, and empty where there is no header.
    contexts: Arc<[ContextAddress]>,
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

    /// Whether the field is sent on a connection that uses `context`.
    #[inline]
    #[must_use]
    pub fn is_sent_on(&self, context: ContextAddress) -> bool {
        match &*self.contexts {
            [only] => *only == context,
            many => is_one_of(context, many),
        }
    }

    /// The field's value on a connection that uses `context`, or `None` where it is withheld.
    #[inline]
    #[must_use]
    pub fn value_on(&self, context: ContextAddress) -> Option<&str> {
        self.value().filter(|_| self.is_sent_on(context))
    }
}

/// Out of line: most policies have one context, and the search would burden that case.
#[inline(never)]
fn is_one_of(context: ContextAddress, sorted: &[ContextAddress]) -> bool {
    sorted.binary_search(&context).is_ok()
}

/// The fields of every host of a verdict. `addresses` are those of the deployment's contexts.
#[must_use]
pub fn fields(verdict: &Verdict, addresses: &[ContextAddress]) -> Vec<Vec<Field>> {
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
    let mut field = |kind, sending: &Option<Sending>| {
        sending.as_ref().map(|sending| Field {
            kind,
            header: sending.header.clone(),
            contexts: match sending.header {
                Some(_) => contexts(&sending.contexts),
                None => Arc::default(),
            },
        })
    };
    verdict
        .hosts
        .iter()
        .map(|host| {
            field(Kind::Enforced, &host.enforced)
                .into_iter()
                .chain(field(Kind::ReportOnly, &host.report_only))
                .collect()
        })
        .collect()
}
