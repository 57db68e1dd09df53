//! The steps to each goal.

use hpkp_core::check::directory_options;
use hpkp_core::date;
use hpkp_core::max_age::MaxAge;
use hpkp_core::pin::Pin;
use hpkp_core::published::state::{Record, Retention};
use hpkp_core::published::{KeyGraph, Matching, PinValidation, Published, Scope};
use hpkp_core::sorted::distinct;

use super::blocked::why_blocked;
use super::future::{Future, Relied};
use super::model::{InUse, Key, Plan, Policy, Step, kind_name};
use super::site::Site;
use crate::arguments::Goal;
use crate::failure::Failure;
use crate::time::duration;

/// The plan for `goal`.
pub(super) fn plan(site: &Site, goal: Goal) -> Result<Plan, Failure> {
    let mut pins = site.pins.iter().map(|key| key.pin).chain(site.backups.iter().copied());
    if let Some(pin) = pins.find(|pin| site.future.state.is_compromised(*pin)) {
        return Err(Failure::no(format!("the key sha256/{pin} is compromised")));
    }
    let mut planner = Planner {
        site,
        future: site.future.clone(),
        same_ca: goal != Goal::Ca,
        plan: Plan {
            host: site.host.to_string(),
            goal: goal.as_str(),
            servers: site.writers.iter().map(ToString::to_string).collect(),
            policy_name: site.policy_name.clone(),
            steps: Vec::new(),
            notes: site.notes.clone(),
        },
    };
    planner.name_waived();
    planner.name_missing();
    planner.load();
    match goal {
        Goal::Backup => planner.use_backup(),
        Goal::NewKey => planner.use_new_key(),
        Goal::Ca => planner.use_other_ca(),
        Goal::Intermediate => planner.pin_intermediate(),
        Goal::Root => planner.pin_root(),
        Goal::MaxAge => planner.raise_max_age(),
        Goal::Subdomains => planner.add_subdomains(),
        Goal::GiveUp => planner.give_up(),
        // This goal is planned by `enforce` and needs no records.
        Goal::Enforce => Ok(()),
    }?;
    planner.name_expiring();
    Ok(planner.plan)
}

/// The commands that load a configuration.
const RELOADS: [&str; 2] = ["nginx -t && nginx -s reload", "apachectl -t && apachectl graceful"];

/// The position of a certificate in use, and the key of its successor.
#[derive(Clone, Copy, Debug)]
struct Target {
    place: usize,
    key: Key,
}

/// Whether every path of a certificate contains one of these keys.
fn covers(one: &InUse, pins: &[Pin]) -> bool {
    one.keys.meet(Scope::Chain, |other| pins.contains(&other)) == PinValidation::Succeeds
}

/// The kinds of the changed certificates, as words before their name; empty if there is only one
/// certificate.
fn kinds(changed: &[(i64, Target)], keys: &[Key]) -> String {
    if keys.len() == 1 {
        return String::new();
    }
    let kinds = changed.iter().filter_map(|(_, target)| keys[target.place].kind).map(kind_name);
    let kinds: Vec<&str> = kinds.collect();
    if kinds.len() == changed.len() { format!("{} ", kinds.join(" and ")) } else { String::new() }
}

/// The plan while steps are added.
struct Planner<'a> {
    site: &'a Site,
    /// The records after the steps that were added so far.
    future: Future,
    /// Whether the CA stays the same, so that clients that compare its keys accept the new certificate.
    same_ca: bool,
    plan: Plan,
}

impl Planner<'_> {
    /// Notes the clients that were given up, which the plan ignores.
    fn name_waived(&mut self) {
        for (record, retention) in self.site.future.waived(self.site.now) {
            let until = match retention {
                Retention::Until(time) => format!("until {}", date::format(time)),
                Retention::WhilePublished(seconds) => {
                    format!("until {} after their publication ends", duration(seconds))
                }
                Retention::Indefinite => "for good: these pins do not expire".to_owned(),
            };
            self.plan.notes.push(format!(
                "the plan leaves out clients that were given up (record {}, waived): they refuse a certificate that \
                 does not match their pins, {until}",
                record.id
            ));
        }
    }

    /// Notes missing records, without which the check refuses every change.
    fn name_missing(&mut self) {
        let state = &self.site.future.state;
        for (writer, _) in state.writers().filter(|(_, is_own)| *is_own) {
            for sight in state.lost(writer) {
                self.plan.notes.push(format!(
                    "records of {} that {writer} has read are missing: the plan does not know what their clients hold, \
                     and the servers refuse each step until the file is in peers/ again",
                    sight.writer
                ));
            }
        }
    }

    /// Notes the certificates that expire before the plan replaces their keys.
    fn name_expiring(&mut self) {
        for one in &self.site.certificates {
            let pin = one.leaf.pin;
            let replaces =
                |step: &&Step| !step.keys.is_empty() && step.keys.iter().all(|key| key.pin != pin);
            let replaced = self.plan.steps.iter().find(replaces);
            let (Some(step), Some(end)) = (replaced, one.not_after) else { continue };
            if end < step.from {
                self.plan.notes.push(format!(
                    "the certificate with the key sha256/{pin} expires {}, before its key may be replaced: renew it \
                     with the same key",
                    date::format(end)
                ));
            }
        }
    }

    /// Adds a step that loads the configuration, if it is not on record yet. Clients may hold its pins at
    /// any time.
    fn load(&mut self) {
        let Some((file, policy)) = &self.site.not_loaded else { return };
        self.plan.notes.push(format!(
            "{file} is not on record in its present form: the plan starts from it, so load it first (it \
             was compared with the records, and a reload would pass)"
        ));
        let what = "load the present configuration, which is not on record yet";
        self.step(self.site.now, what, self.site.keys(), policy.clone());
    }

    fn use_backup(&mut self) -> Result<(), Failure> {
        if !self.site.pins.is_empty() {
            return self.use_keys(&self.targets()?, "the backup key");
        }
        let place = match (self.site.named, &self.site.certificates[..]) {
            (Some(place), _) => place,
            (None, [_]) => 0,
            (None, _) => {
                return Err(Failure::usage(
                    "certificates of several kinds of keys are in use, and a pin does not tell for which of them a \
                     backup key is; give the backup key with --pin FILE (its CSR or public key), once for each \
                     certificate that is to change",
                ));
            }
        };
        let key = Key { pin: self.backup(place)?, kind: None };
        self.use_keys(&[Target { place, key }], "the backup key")
    }

    /// The backup pin whose key may be used first.
    fn backup(&self, place: usize) -> Result<Pin, Failure> {
        // A next key is stored on the server, so it is no backup.
        let is_next = |pin: Pin| self.site.next_keys.iter().any(|key| key.pin == pin);
        let is_sound = |pin: &&Pin| {
            !self.site.is_in_use(**pin)
                && !self.site.future.state.is_compromised(**pin)
                && !is_next(**pin)
        };
        let backups = self.site.policy.iter().flat_map(|policy| &policy.pins).filter(is_sound);
        let dated = backups.map(|pin| {
            let keys = self.leaf(Relied::default(), place, *pin);
            let date = keys.and_then(|keys| self.date(&keys, self.site.now));
            (date.unwrap_or(i64::MAX), *pin)
        });
        dated.min().map(|(_, pin)| pin).ok_or_else(|| {
            Failure::no(format!(
                "no pin on record for {} is of a backup key; make a key (hpkp key new) and plan --to new-key",
                self.site.host
            ))
        })
    }

    fn use_new_key(&mut self) -> Result<(), Failure> {
        if self.site.pins.is_empty() {
            let host = &self.site.host;
            return Err(Failure::usage(format!(
                "give the new key with --pin, or make the next key of {host} first: hpkp key next {host}"
            )));
        }
        self.use_keys(&self.targets()?, "the new key")
    }

    fn use_other_ca(&mut self) -> Result<(), Failure> {
        let leaves = self.site.keys();
        let is_new = |key: &Key| leaves.iter().all(|leaf| leaf.pin != key.pin);
        match &self.site.pins[..] {
            [_, ..] if self.site.pins.iter().all(is_new) => {
                self.use_keys(&self.targets()?, "the new key, issued by the other CA")
            }
            [] => match self.site.named {
                Some(place) => self.same_keys_of_other_ca(&[place]),
                None => self.same_keys_of_other_ca(&(0..leaves.len()).collect::<Vec<_>>()),
            },
            pins => {
                let place = |key: &Key| leaves.iter().position(|leaf| leaf.pin == key.pin);
                let places: Option<Vec<usize>> = pins.iter().map(place).collect();
                let mixed = "make one plan for the keys that stay and another one for the new keys";
                self.same_keys_of_other_ca(&places.ok_or_else(|| Failure::usage(mixed))?)
            }
        }
    }

    /// Assigns the given keys to certificates.
    fn targets(&self) -> Result<Vec<Target>, Failure> {
        let site = self.site;
        let mut targets: Vec<Target> = Vec::new();
        for key in &site.pins {
            let same_kind = |one: &InUse| key.kind.is_some() && one.leaf.kind == key.kind;
            let place = match (&site.certificates[..], site.named) {
                ([_], _) => Some(0),
                (all, _) if all.iter().any(same_kind) => all.iter().position(same_kind),
                (_, named) => named,
            };
            let place = place.ok_or_else(|| {
                Failure::usage(format!(
                    "certificates of several kinds of keys are in use; sha256/{} does not tell which of them it \
                     replaces: give the key as a file (its CSR or public key), or name the certificate that is \
                     to change with --cert",
                    key.pin
                ))
            })?;
            let kept = |other: &(usize, &InUse)| other.0 != place && key.kind.is_some();
            let mut others = site.certificates.iter().enumerate().filter(kept);
            if others.any(|(_, other)| other.leaf.kind == key.kind) {
                return Err(Failure::usage(format!(
                    "sha256/{} is of the same kind as the key of another certificate in use; a server has one \
                     certificate of each kind",
                    key.pin
                )));
            }
            if targets.iter().any(|other| other.place == place || other.key.pin == key.pin) {
                return Err(Failure::usage("two of the keys of --pin are for one certificate"));
            }
            if site.certificates.iter().any(|one| one.leaf.pin == key.pin) {
                return Err(Failure::usage(format!("sha256/{} is a key in use", key.pin)));
            }
            targets.push(Target { place, key: *key });
        }
        Ok(targets)
    }

    /// Keeps the keys and changes the CA. Clients must know the leaves' pins first, since pins of the old
    /// CA will no longer match.
    fn same_keys_of_other_ca(&mut self, places: &[usize]) -> Result<(), Failure> {
        let site = self.site;
        let leaves: Vec<Pin> = places.iter().map(|at| site.certificates[*at].leaf.pin).collect();
        let mut relied = Relied::default();
        for (place, pin) in places.iter().zip(&leaves) {
            relied = self.leaf(relied, *place, *pin)?;
        }
        // Pins of CAs that other certificates still need are not removed.
        let stays = |pin: &Pin| {
            let others = site.certificates.iter().enumerate();
            let mut others = others.filter(|(at, _)| !places.contains(at));
            others.any(|(_, one)| one.keys.nodes().iter().any(|node| node.pin == Some(*pin)))
        };
        let above: Vec<Pin> = site.above().filter(|pin| !stays(pin)).collect();
        let policy = site.policy.as_ref();
        let kept = policy.map(|policy| policy.without(&above).with(leaves.iter().copied()));
        let last = kept.map(|policy| self.with_backup(policy, &[])).transpose()?;
        self.publish_first(&leaves, last.as_ref());
        let at = self.date(&relied, site.now)?;
        let what = match places.len() {
            1 => "install the certificate of the present key, issued by the other CA",
            _ => "install the certificates of the present keys, issued by the other CA",
        };
        self.change(at, site.keys(), what);
        self.replace(at, site.keys(), last, "remove the pins of the old CA");
        Ok(())
    }

    /// Changes certificates to other keys.
    fn use_keys(&mut self, targets: &[Target], what: &str) -> Result<(), Failure> {
        let site = self.site;
        let mut keys = site.keys();
        let pins: Vec<Pin> = targets.iter().map(|target| target.key.pin).collect();
        let old: Vec<Pin> = targets.iter().map(|target| keys[target.place].pin).collect();
        let policy = site.policy.as_ref();
        let last = policy.map(|policy| policy.without(&old).with(pins.iter().copied()));
        let last = last.map(|policy| self.with_backup(policy, &pins)).transpose()?;
        self.publish_first(&pins, last.as_ref());
        let mut dated: Vec<(i64, Target)> = Vec::new();
        for target in targets {
            let relied = self.leaf(Relied::default(), target.place, target.key.pin)?;
            dated.push((self.date(&relied, site.now)?, *target));
        }
        dated.sort_by_key(|(at, target)| (*at, target.place));
        let mut last_change = site.now;
        // Certificates that may change at the same time are changed in one step.
        for same in dated.chunk_by(|one, other| one.0 == other.0) {
            for (_, target) in same {
                let kind = target.key.kind.or(keys[target.place].kind);
                keys[target.place] = Key { pin: target.key.pin, kind };
            }
            let (at, of) = (same[0].0, kinds(same, &keys));
            let certificates = if same.len() > 1 { "certificates" } else { "certificate" };
            let text = match same.len() {
                1 => format!("install the {of}{certificates} of {what}"),
                _ => format!("install the {of}{certificates} of {}", what.replace("key", "keys")),
            };
            self.change(at, keys.clone(), &text);
            last_change = at;
        }
        let text = match old.len() {
            1 => "remove the old pin, once you are sure not to go back",
            _ => "remove the old pins, once you are sure not to go back",
        };
        self.replace(last_change, keys, last, text);
        self.ends(last_change, &old);
        Ok(())
    }

    fn pin_intermediate(&mut self) -> Result<(), Failure> {
        let sent = |one: &InUse| {
            let nodes = one.keys.nodes();
            let issuers = nodes[0].issuers.iter().filter_map(|at| nodes.get(*at));
            issuers.filter(|node| node.served).find_map(|node| node.pin)
        };
        self.pin_authority(sent, "the intermediate")
    }

    fn pin_root(&mut self) -> Result<(), Failure> {
        let root = |one: &InUse| {
            let ends = one.keys.nodes().iter().skip(1).filter(|node| node.end);
            ends.filter_map(|node| node.pin).max_by_key(|pin| covers(one, &[*pin]))
        };
        self.plan.notes.push(
            "clients build the path by themselves: one with another trust store may end at another root, \
             and wget2 compares only what the server sends"
                .to_owned(),
        );
        self.pin_authority(root, "the root")
    }

    /// Replaces the pins of the leaves by those of CAs.
    fn pin_authority(
        &mut self,
        find: impl Fn(&InUse) -> Option<Pin>,
        what: &str,
    ) -> Result<(), Failure> {
        let (site, leaves) = (self.site, self.site.keys());
        let leaves: Vec<Pin> = leaves.iter().map(|key| key.pin).collect();
        let given: Vec<Pin> = site.pins.iter().map(|key| key.pin).collect();
        let mut pins = given.clone();
        for one in site.certificates.iter().filter(|_| given.is_empty()) {
            pins.push(find(one).ok_or_else(|| {
                Failure::no(format!(
                    "{what} of the certificate is not known; give the chain with --cert"
                ))
            })?);
        }
        let pins = distinct(pins);
        let shown =
            || pins.iter().map(|pin| format!("sha256/{pin}")).collect::<Vec<_>>().join(", ");
        let mut relied = Relied::default();
        for one in &site.certificates {
            let is_above = pins.iter().all(|pin| !leaves.contains(pin)) && covers(one, &pins);
            let with = is_above.then(|| relied.and_above(&pins, &one.keys)).flatten();
            relied = with.ok_or_else(|| {
                Failure::no(format!(
                    "not every path of the certificate goes through the key {}",
                    shown()
                ))
            })?;
        }
        let policy = self.policy()?;
        let last = policy.without(&leaves).with(pins.iter().copied());
        let last = self.with_backup(last, &pins)?;
        self.publish_first(&pins, Some(&last));
        let at = self.date(&relied, site.now)?;
        let own = if leaves.len() > 1 {
            "pins of the certificates' own keys"
        } else {
            "pin of the certificate's own key"
        };
        let text =
            format!("remove the {own}; from now on any key may be used that {what} certifies");
        self.replace(at, site.keys(), Some(last), &text);
        Ok(())
    }

    fn raise_max_age(&mut self) -> Result<(), Failure> {
        let policy = self.policy()?;
        let max_age = self.site.max_age.ok_or_else(|| Failure::usage("give --max-age"))?;
        if max_age <= policy.max_age {
            let present = duration(i64::from(policy.max_age.seconds()));
            return Err(Failure::usage(format!("max_age is {present} already")));
        }
        let state = &self.site.future.state;
        let of_host = state.presents().filter(|one| one.body.host == self.site.host);
        let presented = of_host.flat_map(|one| &one.body.certificates);
        let leaves = distinct(presented.filter_map(|one| *one.served.first()?));
        // If the records show only as many keys as there are certificates, no key was ever changed.
        if leaves.len() <= self.site.certificates.len() {
            return Err(Failure::no(format!(
                "the records of {} show no rotation yet; change the key once while max_age is short: hpkp plan \
                 {} --to backup {}",
                self.site.host,
                self.site.host,
                directory_options(&self.site.directories)
            )));
        }
        if max_age > MaxAge::USER_AGENTS_CAP {
            self.plan.notes.push("clients remember pins for 60 days at most".to_owned());
        }
        let policy = Policy { max_age, ..policy };
        self.replace(self.site.now, self.site.keys(), Some(policy), "raise max_age");
        let writers = self.site.writers.iter();
        let records = writers.flat_map(|writer| self.future.current(writer));
        let clock = self.future.state.clock(self.site.now);
        if let Some(Retention::WhilePublished(seconds)) =
            records.filter_map(|record| self.future.state.retention(record, &clock)).max()
        {
            let wait = duration(seconds);
            self.plan.notes.push(format!("from then on each rotation waits for {wait}"));
        }
        Ok(())
    }

    fn add_subdomains(&mut self) -> Result<(), Failure> {
        let policy = self.policy()?;
        let host = self.site.host.as_str();
        let missing = self.missing_below(&policy);
        if !missing.is_empty() {
            let shown = missing.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
            return Err(Failure::no(format!(
                "{} of the hosts below {host} presents a key that is not pinned: {shown}; first add a pin of \
                 each of their keys to the policy",
                missing.len()
            )));
        }
        self.plan.notes.push(format!(
            "the records know only the hosts below {host} that servers with these records present; clients will \
             refuse every other host below it that does not present a pinned key"
        ));
        let policy = Policy { include_subdomains: true, ..policy };
        self.replace(self.site.now, self.site.keys(), Some(policy), "add include_subdomains");
        Ok(())
    }

    /// The recorded hosts below that present no key of the policy.
    fn missing_below(&self, policy: &Policy) -> Vec<String> {
        let state = &self.site.future.state;
        let fails = |keys: &KeyGraph| {
            let paths = keys.meet(Scope::Chain, |pin| policy.pins.contains(&pin));
            paths != PinValidation::Succeeds
        };
        let mut missing = Vec::new();
        for record in state.presents().filter(|record| state.is_presented(record)) {
            let (body, domain) = (&record.body, &self.site.host);
            let is_pattern = body.matching != Matching::Exact;
            let is_below = body.host.parents().any(|parent| parent == domain.as_str())
                || is_pattern && body.host == *domain;
            if is_below && body.certificates.iter().any(|one| fails(&one.keys)) {
                missing.push(format!("{}{}", if is_pattern { "*." } else { "" }, body.host));
            }
        }
        distinct(missing)
    }

    /// Notes other names for which the same key is presented.
    fn shared(&mut self, keys: &[Key]) {
        let (state, site) = (&self.site.future.state, self.site);
        let changes = |pin: Pin| {
            site.certificates.iter().any(|one| one.leaf.pin == pin)
                && keys.iter().all(|key| key.pin != pin)
        };
        let has_leaf =
            |keys: &KeyGraph| keys.nodes().first().and_then(|node| node.pin).is_some_and(changes);
        let others =
            state.presents().filter(|one| state.is_presented(one) && one.body.host != site.host);
        let others =
            others.filter(|one| one.body.certificates.iter().any(|one| has_leaf(&one.keys)));
        let names = distinct(others.map(|one| one.body.host.to_string()));
        if !names.is_empty() {
            let note = format!(
                "the same key is presented for other names, which need a plan of their own: {}",
                names.join(", ")
            );
            if !self.plan.notes.contains(&note) {
                self.plan.notes.push(note);
            }
        }
    }

    fn give_up(&mut self) -> Result<(), Failure> {
        let now = self.site.now;
        if let Some(policy) = &self.site.policy {
            if let Some(none) = MaxAge::from_seconds(0) {
                let policy = Policy { max_age: none, ..policy.clone() };
                let text =
                    "tell clients to forget the pins; the certificate must keep a pinned key";
                self.replace(now, self.site.keys(), Some(policy), text);
            }
        }
        let at = self.future.free(now, |_| false).map_err(|blocking| self.blocked(&blocking))?;
        if self.site.policy.is_some() {
            self.future.publish(at, None);
        }
        self.step(at, "remove the policy; from now on any key may be used", Vec::new(), None);
        Ok(())
    }

    fn policy(&self) -> Result<Policy, Failure> {
        self.site.policy.clone().ok_or_else(|| {
            let host = &self.site.host;
            Failure::no(format!(
                "no server on record sends pins for {host}, so there is no policy to change"
            ))
        })
    }

    /// Adds the key of one certificate.
    fn leaf(&self, relied: Relied, place: usize, pin: Pin) -> Result<Relied, Failure> {
        let present = &self.site.certificates[place].keys;
        let with = relied.and_leaf(pin, present, self.same_ca);
        with.ok_or_else(|| Failure::no("the certificate in use has no key"))
    }

    /// The time from which clients accept these keys.
    fn date(&self, target: &Relied, at: i64) -> Result<i64, Failure> {
        self.future.date(target, at).map_err(|blocking| self.blocked(&blocking))
    }

    /// A policy with at least one backup pin besides `targets` (RFC 7469 section 4.3).
    fn with_backup(&self, policy: Policy, targets: &[Pin]) -> Result<Policy, Failure> {
        let policy = policy.with(self.site.backups.iter().copied());
        // Keys that are presented before or after the change are no backups.
        let above: Vec<Pin> = self.site.above().collect();
        let is_backup = |pin: &Pin| {
            !targets.contains(pin) && !self.site.leaves.contains(pin) && !above.contains(pin)
        };
        if policy.pins.iter().any(is_backup) {
            return Ok(policy);
        }
        Err(Failure::usage(
            "no backup pin would be left; make the next backup key (hpkp key new) and give it with --backup",
        ))
    }

    /// Adds a step that publishes the new pins together with the present ones, unless all servers already
    /// send all of `pins`.
    fn publish_first(&mut self, pins: &[Pin], last: Option<&Policy>) {
        let Some(policy) = &self.site.policy else { return };
        let mut current = self.site.writers.iter().flat_map(|writer| self.future.current(writer));
        if current.all(|record| pins.iter().all(|pin| record.body.pins.contains(pin))) {
            return;
        }
        let added = last.into_iter().flat_map(|last| last.pins.iter().copied());
        let policy = policy.with(added.chain(pins.iter().copied()));
        let text = match pins.len() {
            1 => "publish the new pin beside the present ones",
            _ => "publish the new pins beside the present ones",
        };
        self.replace(self.site.now, self.site.keys(), Some(policy), text);
    }

    /// Adds a step that changes only the policy.
    fn replace(&mut self, at: i64, keys: Vec<Key>, policy: Option<Policy>, what: &str) {
        let Some(policy) = policy else { return };
        let writers = self.site.writers.iter();
        let mut current = writers.flat_map(|writer| self.future.current(writer));
        if current.all(|record| policy.is_of(&record.body)) {
            return;
        }
        let missing =
            if policy.include_subdomains { self.missing_below(&policy) } else { Vec::new() };
        if !missing.is_empty() {
            self.plan.notes.push(format!(
                "before step {}, these hosts below must present a pinned key: {}",
                self.plan.steps.len() + 1,
                missing.join(", ")
            ));
        }
        self.future.publish(at, Some(&policy));
        self.step(at, what, keys, Some(policy));
    }

    /// Adds a step that changes the certificate.
    fn change(&mut self, at: i64, keys: Vec<Key>, what: &str) {
        self.shared(&keys);
        let is_first = !self.plan.steps.iter().any(|step| step.commands.len() > RELOADS.len());
        if is_first && !self.site.future.is_bound(self.site.now) {
            self.plan.notes.push(format!(
                "no pins on record bind {}: pins that clients have from elsewhere must be recorded first (hpkp \
                 published import, add)",
                self.site.host
            ));
        }
        if is_first && self.same_ca && self.future.compares_ca(at) {
            self.plan.notes.push(
                "some clients compare keys of the CA: the new certificate must come from the present one"
                    .to_owned(),
            );
        }
        let policy = self.plan.steps.last().and_then(|step| step.policy.clone());
        let policy = policy.or_else(|| self.site.policy.clone());
        self.step(at, what, keys.clone(), policy);
        let command = format!(
            "hpkp published {} why {} --cert fullchain.pem",
            directory_options(&self.site.directories),
            self.site.host
        );
        let is_next = |key: &&Key| self.site.next_keys.iter().any(|next| next.pin == key.pin);
        let next = keys.iter().find(is_next).map(|_| {
            let options = directory_options(&self.site.directories);
            format!("hpkp key next {} --csr next.csr {options}", self.site.host)
        });
        if let Some(step) = self.plan.steps.last_mut() {
            step.commands.splice(0..0, next.into_iter().chain([command]));
        }
    }

    fn step(&mut self, from: i64, what: &str, keys: Vec<Key>, policy: Option<Policy>) {
        let commands = RELOADS.map(str::to_owned).to_vec();
        self.plan.steps.push(Step { from, what: what.to_owned(), keys, policy, commands });
    }

    /// Notes when clients have forgotten the old pins.
    fn ends(&mut self, at: i64, old: &[Pin]) {
        if self.site.policy.is_none() {
            return;
        }
        if let Ok(time) =
            self.future.free(at, |body| !old.iter().any(|old| body.pins.contains(old)))
        {
            let pin = if old.len() > 1 { "an old pin" } else { "the old pin" };
            self.plan.notes.push(format!(
                "no client holds {pin} after {}, if each step is taken on its date",
                date::format(time)
            ));
        }
    }

    /// Why the host's pins do not expire by themselves.
    fn blocked(&self, blocking: &[(&Record<Published>, Retention)]) -> Failure {
        Failure::no(why_blocked(blocking, &directory_options(&self.site.directories)))
    }
}
