//! Which of a host's certificates a client gets. A host has one certificate for each kind of key (OpenSSL's slots),
//! and each is judged by itself: a change of one does not affect the clients of another. Only if a certificate is
//! removed do its clients get one of the remaining certificates.

use crate::pin::Pin;
use crate::published::{Presented, Slot};

/// Whether two certificates are the same to clients that hold pins: the same leaf key if `leaf` is true for it, the
/// same issuer, and the same CA certificates sent, in order. A renewal with the same key by the same CA changes
/// nothing.
pub(super) fn is_one(
    recorded: &Presented,
    presented: &Presented,
    leaf: impl Fn(Pin) -> bool,
) -> bool {
    let first = |one: &Presented| one.served.first().copied().flatten().filter(|pin| leaf(*pin));
    let has_same_authorities = match (&recorded.identity, &presented.identity) {
        (Some(a), Some(b)) => a.issuer == b.issuer && a.authorities == b.authorities,
        // A record of format 1 has only the keys of the CA certificates that were sent.
        _ => {
            let above = |one: &Presented| one.served.get(1..).unwrap_or_default().to_vec();
            above(recorded) == above(presented)
        }
    };
    first(recorded) == first(presented) && has_same_authorities
}

pub(super) fn is_same(recorded: &Presented, presented: &Presented) -> bool {
    is_one(recorded, presented, |_| true)
}

fn slot(one: &Presented) -> Option<Slot> {
    one.identity.as_ref()?.slot
}

/// What a client gets: one of the certificates of a host.
#[derive(Clone, Copy)]
pub(super) struct Got<'b> {
    pub(super) one: &'b Presented,
    /// All certificates of the host, including this one.
    pub(super) all: &'b [Presented],
}

impl Got<'_> {
    /// Each of `all`.
    pub(super) fn each(all: &[Presented]) -> impl Iterator<Item = Got<'_>> {
        all.iter().map(move |one| Got { one, all })
    }

    /// Whether clients of a removed certificate get this one: it has the same slot, or no certificate of that slot is
    /// left. If a slot is not known, the clients get this one.
    pub(super) fn takes_over(&self, gone: &Presented) -> bool {
        let is_left = |was: Slot| self.all.iter().any(|one| slot(one) == Some(was));
        match (slot(gone), slot(self.one)) {
            (Some(was), Some(is)) => was == is || !is_left(was),
            _ => true,
        }
    }

    /// The certificates of `before` whose clients now get this one: the same certificate, and removed ones whose
    /// clients it takes over. If no earlier certificate has its slot, clients that prefer such a key may have got any
    /// of them.
    pub(super) fn predecessors<'b>(
        &self,
        before: &'b [Presented],
    ) -> impl Iterator<Item = &'b Presented> {
        let is_of_slot = |was: &Presented| {
            is_same(was, self.one) || slot(was).is_some() && slot(was) == slot(self.one)
        };
        let is_first = !before.iter().any(is_of_slot);
        before.iter().filter(move |was| {
            let is_gone = || !self.all.iter().any(|one| is_same(was, one));
            is_first || is_same(was, self.one) || is_gone() && self.takes_over(was)
        })
    }

    /// Whether all clients that get this certificate, and that `before` let in, got it before as well.
    pub(super) fn is_slot_unchanged(
        &self,
        before: &[Presented],
        let_in: impl Fn(&Presented) -> bool,
    ) -> bool {
        before.iter().any(|was| is_same(was, self.one))
            && self.predecessors(before).all(|was| is_same(was, self.one) || !let_in(was))
    }
}

/// Whether the presented certificates are the recorded ones.
pub(super) fn same(recorded: &[Presented], presented: &[Presented]) -> bool {
    recorded.is_empty() == presented.is_empty()
        && Got::each(presented).all(|got| got.is_slot_unchanged(recorded, |_| true))
}
