//! The pins that clients may hold, as the test itself remembers them: the expected result of the check comes only
//! from here.

use std::collections::BTreeSet;

use hpkp_core::pin::Pin;

use hpkp_tests::clock::DAY;

/// A set of pins that was published in a header.
#[derive(Clone, Debug)]
pub struct Published {
    pub pins: BTreeSet<Pin>,
    pub max_age: i64,
    pub since: i64,
    /// When another one took its place.
    pub replaced: Option<i64>,
}

impl Published {
    /// Whether a client may hold it. An old worker process may send it for a day after it was replaced.
    pub fn is_held(&self, now: i64) -> bool {
        self.replaced.is_none_or(|at| now <= at + self.max_age + DAY)
    }
}

/// A release of an app whose users compare any key of the path, and one of a script whose users compare
/// the leaf's (`curl --pinnedpubkey`), with the same pins.
#[derive(Clone, Debug)]
pub struct Release {
    pub number: usize,
    pub pins: BTreeSet<Pin>,
    pub withdrawn: bool,
}

/// All that clients may hold.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub published: Vec<Published>,
    pub releases: Vec<Release>,
}

impl Memory {
    /// A header with these pins is sent from now on, in the place of the last one.
    pub fn publish(&mut self, pins: &[Pin], max_age: i64, now: i64) {
        let pins: BTreeSet<Pin> = pins.iter().copied().collect();
        if let Some(last) = self.published.last_mut() {
            if last.replaced.is_none() && last.pins == pins && last.max_age == max_age {
                return;
            }
            last.replaced.get_or_insert(now);
        }
        self.published.push(Published { pins, max_age, since: now, replaced: None });
    }

    pub fn release(&mut self, pins: &[Pin]) -> usize {
        let number = self.releases.len() + 1;
        self.releases.push(Release {
            number,
            pins: pins.iter().copied().collect(),
            withdrawn: false,
        });
        number
    }

    /// Whether every client accepts a certificate with this path.
    pub fn accepts(&self, path: &[Pin], now: i64) -> bool {
        let headers = self.published.iter().filter(|set| set.is_held(now));
        let releases = self.releases.iter().filter(|release| !release.withdrawn);
        // The script looks at the leaf alone, so for its release the leaf must be pinned.
        headers.map(|set| &set.pins).all(|pins| path.iter().any(|key| pins.contains(key)))
            && releases.map(|release| &release.pins).all(|pins| pins.contains(&path[0]))
    }
}
