//! The certificate that a client gets of those that a host has: one for each kind of key, OpenSSL's slots.
//! Each is judged by itself: one that is as before stays so when another is changed. Only where one is
//! gone do its clients come to those that are left.

use crate::pin::Pin;
use crate::published::{Presented, Slot};

/// Whether two certificates are alike to clients that hold pins: the same key of the leaf as far as `leaf`
/// is about it, the same issuer, and the same CA certificates sent, in order. A renewal with the same key by
/// the same CA changes nothing.
pub(super) fn is_one(
    recorded: &Presented,
    presented: &Presented,
    leaf: impl Fn(Pin) -> bool,
) -> bool {
    let first = |one: &Presented| one.served.first().copied().flatten().filter(|pin| leaf(*pin));
    let has_same_authorities = match (&recorded.identity, &presented.identity) {
        (Some(a), Some(b)) => a.issuer == b.issuer && a.authorities == b.authorities,
        // The keys that are sent: all that a record of format 1 tells.
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
    /// All of them, this one too.
    pub(super) all: &'b [Presented],
}

impl Got<'_> {
    /// Each of `all`.
    pub(super) fn each(all: &[Presented]) -> impl Iterator<Item = Got<'_>> {
        all.iter().map(move |one| Got { one, all })
    }

    /// Whether clients of a certificate that is not to be had any more get this one: it is of the same
    /// slot, or nothing is left of that slot. In doubt they do.
    pub(super) fn takes_over(&self, gone: &Presented) -> bool {
        let is_left = |was: Slot| self.all.iter().any(|one| slot(one) == Some(was));
        match (slot(gone), slot(self.one)) {
            (Some(was), Some(is)) => was == is || !is_left(was),
            _ => true,
        }
    }

    /// Those of `before` in whose place clients get this one: itself, and what is gone and it takes over.
    /// Where it is the first of its slot, clients that prefer such a key got any of the others so far.
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

    /// Whether all clients that get this one, and that `before` let in, got it then too.
    pub(super) fn is_slot_unchanged(
        &self,
        before: &[Presented],
        let_in: impl Fn(&Presented) -> bool,
    ) -> bool {
        before.iter().any(|was| is_same(was, self.one))
            && self.predecessors(before).all(|was| is_same(was, self.one) || !let_in(was))
    }
}

/// Whether the same certificates are presented.
pub(super) fn same(recorded: &[Presented], presented: &[Presented]) -> bool {
    recorded.is_empty() == presented.is_empty()
        && Got::each(presented).all(|got| got.is_slot_unchanged(recorded, |_| true))
}
