//! The steps to each goal.

use hpkp_core::date;
use hpkp_core::max_age::MaxAge;
use hpkp_core::pin::Pin;
use hpkp_core::published::state::{Record, Retention};
use hpkp_core::published::{KeyGraph, Matching, PinValidation, Published, Scope};
use hpkp_core::text::{Excerpt, ShellWord};

use super::future::{Future, Target};
use super::model::{Plan, Policy, Step};
use super::site::Site;
use crate::arguments::Goal;
use crate::failure::Failure;
use crate::time::duration;

/// The plan for `goal`.
pub(super) fn plan(site: &Site, goal: Goal) -> Result<Plan, Failure> {
    let mut pins = [site.pin, site.backup].into_iter().flatten();
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
            steps: Vec::new(),
            notes: Vec::new(),
        },
    };
    planner.name_waived();
    match goal {
        Goal::Backup => planner.use_backup(),
        Goal::NewKey => planner.use_new_key(),
        Goal::Ca => planner.use_other_ca(),
        Goal::Intermediate => planner.pin_intermediate(),
        Goal::Root => planner.pin_root(),
        Goal::MaxAge => planner.raise_max_age(),
        Goal::Subdomains => planner.add_subdomains(),
        Goal::GiveUp => planner.give_up(),
    }?;
    Ok(planner.plan)
}

/// A plan in the making.
struct Planner<'a> {
    site: &'a Site,
    /// The records after the steps so far.
    future: Future,
    /// Whether the CA stays, on which clients may rely that compare its keys.
    same_ca: bool,
    plan: Plan,
}

impl Planner<'_> {
    /// The clients for which the plan does nothing.
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

    fn use_backup(&mut self) -> Result<(), Failure> {
        let target = match self.site.pin {
            Some(pin) => pin,
            None => self.backup()?,
        };
        self.use_key(target, "the backup key")
    }

    /// The backup pin whose key may be used first.
    fn backup(&self) -> Result<Pin, Failure> {
        let is_sound = |pin: &&Pin| {
            !self.site.is_in_use(**pin) && !self.site.future.state.is_compromised(**pin)
        };
        let backups = self.site.policy.iter().flat_map(|policy| &policy.pins).filter(is_sound);
        let dated = backups.map(|pin| {
            let date = self.leaf(*pin).and_then(|target| self.date(&target, self.site.now));
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
        let target = self.site.pin.ok_or_else(|| {
            Failure::usage("give the new key with --pin; to make one: hpkp key new")
        })?;
        self.use_key(target, "the new key")
    }

    fn use_other_ca(&mut self) -> Result<(), Failure> {
        match self.site.pin {
            Some(pin) if pin != self.site.leaf => {
                self.use_key(pin, "the new key, issued by the other CA")
            }
            _ => self.same_key_of_other_ca(),
        }
    }

    /// The key stays; clients must know its own pin, since they will not meet those of the CA.
    fn same_key_of_other_ca(&mut self) -> Result<(), Failure> {
        let leaf = self.site.leaf;
        let target = self.leaf(leaf)?;
        let above: Vec<Pin> = self.site.above().collect();
        let kept = self.site.policy.as_ref().map(|policy| policy.with([leaf]).without(&above));
        let last = kept.map(|policy| self.with_backup(policy, leaf)).transpose()?;
        let mut now = self.site.now;
        self.publish_first(leaf, last.as_ref());
        now = self.date(&target, now)?;
        self.change(now, leaf, "the present key, issued by the other CA");
        self.replace(now, leaf, last, "remove the pins of the old CA");
        Ok(())
    }

    /// To a certificate with another key.
    fn use_key(&mut self, target: Pin, what: &str) -> Result<(), Failure> {
        let (site, old) = (self.site, self.site.leaf);
        if target == old {
            return Err(Failure::usage(format!("sha256/{target} is the key in use")));
        }
        let last = site.policy.as_ref().map(|policy| policy.without(&[old]).with([target]));
        let last = last.map(|policy| self.with_backup(policy, target)).transpose()?;
        let keys = self.leaf(target)?;
        self.publish_first(target, last.as_ref());
        let at = self.date(&keys, site.now)?;
        self.change(at, target, what);
        self.replace(at, target, last, "remove the old pin, once you are sure not to go back");
        self.ends(at, old);
        Ok(())
    }

    fn pin_intermediate(&mut self) -> Result<(), Failure> {
        let nodes = self.site.present.nodes();
        let issuers = nodes[0].issuers.iter().filter_map(|at| nodes.get(*at));
        let sent = issuers.filter(|node| node.served).find_map(|node| node.pin);
        self.pin_authority(sent, "the intermediate")
    }

    fn pin_root(&mut self) -> Result<(), Failure> {
        let ends = self.site.present.nodes().iter().skip(1).filter(|node| node.end);
        let roots = ends.filter_map(|node| node.pin);
        let root = roots.max_by_key(|pin| self.covers(*pin));
        self.plan.notes.push(
            "clients build the path by themselves: one with another trust store may end at another root, \
             and wget2 compares only what the server sends"
                .to_owned(),
        );
        self.pin_authority(root, "the root")
    }

    fn covers(&self, pin: Pin) -> bool {
        let paths = self.site.present.meet(Scope::Chain, |other| other == pin);
        paths == PinValidation::Succeeds
    }

    /// The pin of a CA's key takes the place of the leaf's.
    fn pin_authority(&mut self, found: Option<Pin>, what: &str) -> Result<(), Failure> {
        let (site, leaf) = (self.site, self.site.leaf);
        let pin = site.pin.or(found).ok_or_else(|| {
            Failure::no(format!(
                "{what} of the certificate is not known; give the chain with --cert"
            ))
        })?;
        let above = Target::above(pin, &site.present).filter(|_| pin != leaf && self.covers(pin));
        let target = above.ok_or_else(|| {
            Failure::no(format!(
                "not every path of the certificate goes through the key sha256/{pin}"
            ))
        })?;
        let policy = self.policy()?;
        let last = self.with_backup(policy.without(&[leaf]).with([pin]), pin)?;
        self.publish_first(pin, Some(&last));
        let at = self.date(&target, site.now)?;
        let text = format!(
            "remove the pin of the certificate's own key; from now on any key may be used that {what} certifies"
        );
        self.replace(at, leaf, Some(last), &text);
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
        let mut leaves: Vec<Pin> = presented.filter_map(|one| *one.served.first()?).collect();
        leaves.sort_unstable();
        leaves.dedup();
        if leaves.len() < 2 {
            return Err(Failure::no(format!(
                "the records of {} show no rotation yet; change the key once while max_age is short: hpkp plan \
                 {} --to backup -d {}",
                self.site.host,
                self.site.host,
                ShellWord::new(&self.site.directory)
            )));
        }
        if max_age > MaxAge::USER_AGENTS_CAP {
            self.plan.notes.push("clients remember pins for 60 days at most".to_owned());
        }
        let policy = Policy { max_age, ..policy };
        self.replace(self.site.now, self.site.leaf, Some(policy), "raise max_age");
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
        self.replace(self.site.now, self.site.leaf, Some(policy), "add include_subdomains");
        Ok(())
    }

    /// The hosts below, as far as they are on record, that present no key of the policy.
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
        missing.sort();
        missing.dedup();
        missing
    }

    /// Other names whose clients see the change too.
    fn shared(&mut self) {
        let (state, site) = (&self.site.future.state, self.site);
        let has_leaf =
            |keys: &KeyGraph| keys.nodes().first().and_then(|node| node.pin) == Some(site.leaf);
        let others =
            state.presents().filter(|one| state.is_presented(one) && one.body.host != site.host);
        let others =
            others.filter(|one| one.body.certificates.iter().any(|one| has_leaf(&one.keys)));
        let mut names: Vec<String> = others.map(|one| one.body.host.to_string()).collect();
        names.sort();
        names.dedup();
        if !names.is_empty() {
            self.plan.notes.push(format!(
                "the same key is presented for other names, which need a plan of their own: {}",
                names.join(", ")
            ));
        }
    }

    fn give_up(&mut self) -> Result<(), Failure> {
        let now = self.site.now;
        if let Some(policy) = &self.site.policy {
            if let Some(none) = MaxAge::from_seconds(0) {
                let policy = Policy { max_age: none, ..policy.clone() };
                let text =
                    "tell clients to forget the pins; the certificate must keep a pinned key";
                self.replace(now, self.site.leaf, Some(policy), text);
            }
        }
        let at = self.future.free(now, |_| false).map_err(|blocking| self.blocked(&blocking))?;
        if self.site.policy.is_some() {
            self.future.publish(at, None);
        }
        self.step(at, "remove the policy; from now on any key may be used", None, None);
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

    fn leaf(&self, pin: Pin) -> Result<Target, Failure> {
        let target = Target::leaf(pin, &self.site.present, self.same_ca);
        target.ok_or_else(|| Failure::no("the certificate in use has no key"))
    }

    /// From when on clients accept these keys.
    fn date(&self, target: &Target, at: i64) -> Result<i64, Failure> {
        let met = |body: &Published| {
            body.tlsa.as_ref().is_none_or(|set| !set.names_leaf_certificate())
                && target.meets(body.scope, &body.pins)
        };
        self.future.free(at, met).map_err(|blocking| self.blocked(&blocking))
    }

    /// A policy with a pin besides `target` whose key is not in use (RFC 7469 section 4.3).
    fn with_backup(&self, policy: Policy, target: Pin) -> Result<Policy, Failure> {
        let policy = policy.with(self.site.backup);
        // What is presented now, and what is presented then, are no backups.
        let above: Vec<Pin> = self.site.above().collect();
        let is_backup =
            |pin: &Pin| *pin != target && !self.site.leaves.contains(pin) && !above.contains(pin);
        if policy.pins.iter().any(is_backup) {
            return Ok(policy);
        }
        Err(Failure::usage(
            "no backup pin would be left; make the next backup key (hpkp key new) and give it with --backup",
        ))
    }

    /// Publishes the pins that are new beside the present ones, unless all servers send `pin` already.
    fn publish_first(&mut self, pin: Pin, last: Option<&Policy>) {
        let Some(policy) = &self.site.policy else { return };
        let mut current = self.site.writers.iter().flat_map(|writer| self.future.current(writer));
        if current.all(|record| record.body.pins.contains(&pin)) {
            return;
        }
        let added = last.into_iter().flat_map(|last| last.pins.iter().copied());
        let policy = policy.with(added.chain([pin]));
        self.replace(
            self.site.now,
            self.site.leaf,
            Some(policy),
            "publish the new pin beside the present ones",
        );
    }

    /// A step that changes the policy alone.
    fn replace(&mut self, at: i64, key: Pin, policy: Option<Policy>, what: &str) {
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
        self.step(at, what, Some(key), Some(policy));
    }

    /// The step that changes the certificate.
    fn change(&mut self, at: i64, key: Pin, what: &str) {
        self.shared();
        if !self.site.future.is_bound(self.site.now) {
            self.plan.notes.push(format!(
                "no pins on record bind {}: pins that clients have from elsewhere must be recorded first (hpkp \
                 published import, add)",
                self.site.host
            ));
        }
        if self.same_ca && self.future.compares_ca(at) {
            self.plan.notes.push(
                "some clients compare keys of the CA: the new certificate must come from the present one"
                    .to_owned(),
            );
        }
        let policy = self.plan.steps.last().and_then(|step| step.policy.clone());
        let policy = policy.or_else(|| self.site.policy.clone());
        self.step(at, &format!("install the certificate of {what}"), Some(key), policy);
        let command = format!(
            "hpkp published -d {} why {} --cert fullchain.pem",
            ShellWord::new(&self.site.directory),
            self.site.host
        );
        if let Some(step) = self.plan.steps.last_mut() {
            step.commands.insert(0, command);
        }
    }

    fn step(&mut self, from: i64, what: &str, key: Option<Pin>, policy: Option<Policy>) {
        let commands = ["nginx -t && nginx -s reload", "apachectl -t && apachectl graceful"];
        let commands = commands.map(str::to_owned).to_vec();
        self.plan.steps.push(Step { from, what: what.to_owned(), key, policy, commands });
    }

    /// When clients have forgotten the old pin.
    fn ends(&mut self, at: i64, old: Pin) {
        if self.site.policy.is_none() {
            return;
        }
        if let Ok(time) = self.future.free(at, |body| !body.pins.contains(&old)) {
            self.plan.notes.push(format!(
                "no client holds the old pin after {}, if each step is taken on its date",
                date::format(time)
            ));
        }
    }

    /// Why time alone does not free the host.
    fn blocked(&self, blocking: &[(&Record<Published>, Retention)]) -> Failure {
        let texts = blocking.iter().take(3).map(|(record, retention)| {
            let (id, host) = (record.id, &record.body.host);
            let origin = Excerpt::new(record.body.origin.as_str()).to_string();
            match retention {
                Retention::WhilePublished(_) => format!(
                    "{} still sends pins of {host} that this key does not match (record {id}, {origin}); first \
                     change the policy there",
                    record.writer
                ),
                _ => format!(
                    "pins of {host} do not expire (record {id}, {origin}); release the new pin, and when the \
                     old release is gone run: hpkp published -d {} end {id} --why REASON",
                    ShellWord::new(&self.site.directory)
                ),
            }
        });
        let mut texts: Vec<String> = texts.collect();
        if blocking.len() > texts.len() {
            texts.push(format!("and {} more records", blocking.len() - texts.len()));
        }
        Failure::no(texts.join("; "))
    }
}
