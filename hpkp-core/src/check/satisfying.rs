//! The contexts all of whose certificates satisfy a policy.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::path::Paths;
use crate::pin::Pin;
use crate::policy::Policy;
use crate::published::PinValidation;

/// Contexts by the keys that they present. Policies with the same pins of presented keys share one list of contexts:
/// with a wildcard certificate, the contexts of thousands of hosts.
pub(super) struct Satisfying<'a> {
    paths: &'a [Vec<Paths>],
    /// The contexts by the pins on the paths of their first chain.
    by_pin: HashMap<Pin, Vec<usize>>,
    /// Every pin on a path.
    presented: HashSet<Pin>,
    known: HashMap<BTreeSet<Pin>, Arc<[usize]>>,
}

impl<'a> Satisfying<'a> {
    /// Of contexts, each with the paths of its chains.
    pub(super) fn new(paths: &'a [Vec<Paths>]) -> Self {
        let mut by_pin: HashMap<Pin, Vec<usize>> = HashMap::new();
        for (context, paths) in paths.iter().enumerate() {
            let pins: HashSet<Pin> = paths.first().into_iter().flat_map(Paths::pins).collect();
            for pin in pins {
                by_pin.entry(pin).or_default().push(context);
            }
        }
        let presented = paths.iter().flatten().flat_map(Paths::pins).collect();
        Self { paths, by_pin, presented, known: HashMap::new() }
    }

    /// The positions of the contexts that satisfy `policy`, sorted.
    pub(super) fn contexts(&mut self, policy: &Policy) -> Arc<[usize]> {
        let pins = policy.pins.iter().map(|resolved| resolved.pin);
        let pins: BTreeSet<Pin> = pins.filter(|pin| self.presented.contains(pin)).collect();
        let Self { paths, by_pin, .. } = self;
        let contexts = self.known.entry(pins).or_insert_with_key(|pins| {
            let candidates: BTreeSet<usize> =
                pins.iter().filter_map(|pin| by_pin.get(pin)).flatten().copied().collect();
            let is_met =
                |paths: &Paths| paths.validate(|pin| pins.contains(&pin)) != PinValidation::Fails;
            candidates.into_iter().filter(|context| paths[*context].iter().all(is_met)).collect()
        });
        contexts.clone()
    }
}

/// `contexts`, which are sorted, with `more`.
pub(super) fn with(contexts: &Arc<[usize]>, more: &[usize]) -> Arc<[usize]> {
    if more.iter().all(|context| contexts.binary_search(context).is_ok()) {
        return contexts.clone();
    }
    let all: BTreeSet<usize> = contexts.iter().chain(more).copied().collect();
    all.into_iter().collect()
}
