//! The check: compares the policies with the certificates that a server presents, for all its hosts at once.
//!
//! The check is a pure function of its input, so that the modules and the command give the same answer.

mod addresses;
mod ahead;
mod ahead_messages;
mod certificates;
mod checker;
mod closed;
mod compromised;
mod concern;
mod dane;
mod dane_check;
mod dane_messages;
mod digest;
mod digesting;
mod freshness;
mod freshness_messages;
mod held_pins;
mod input;
mod keywords;
mod listener;
mod live;
mod messages;
mod name_set;
mod nameless;
mod new_names;
mod new_pins;
mod not_here;
mod other_hashes;
mod places;
mod policies;
mod presented;
mod record_messages;
mod records;
mod renewal;
mod report_host;
mod route;
mod routing;
mod satisfying;
mod silence;
mod slots;
mod still_sent;
mod unchanged;
mod verdict;

use std::collections::HashSet;

use crate::header::Kind;
use crate::path::{Paths, Verified, VerifySignature};
use checker::{Checker, Uses};
use messages::Findings;
use records::Published;

pub use concern::Concern;
pub use digest::{Digest, DigestError};
pub use digesting::digest;
pub use input::{
    Alarm, Certificates, Context, Deployment, Freshness, HeardFile, Host, Names, NotServedHere,
    Noticed, PolicyUse, Records, RenewalKey, Serving, Skipped, TrustSetting, directory_options,
};
pub use listener::{Choice, Listener, NamePattern};
pub use name_set::{NameSet, SeenName};
pub use verdict::{HostVerdict, Sending, Verdict};

/// Checks `deployment` at the time `now`, in seconds since 1970 UTC. `verify` verifies signatures with the server's
/// own library.
#[must_use]
pub fn check(deployment: &Deployment, now: i64, verify: &dyn VerifySignature) -> Verdict {
    let verified = Verified::new(verify);
    let paths: Vec<Vec<Paths>> = deployment
        .contexts
        .iter()
        .map(|context| {
            let chains = context.certificates.loaded().iter();
            let build = |chain| Paths::build(chain, &context.trust.trust, &verified, now);
            chains.map(build).collect()
        })
        .collect();
    let is_asked = !deployment.listeners.is_empty() || deployment.records.is_some();
    let mut published = is_asked.then(|| Published::new(deployment, &paths, &verified, now));
    let mut hosts = match &mut published {
        Some(published) => published.describe(deployment),
        None => vec![HostVerdict::default(); deployment.hosts.len()],
    };
    let mut checker = Checker {
        deployment,
        published: published.as_ref(),
        policies: deployment.policies_by_name(),
        paths: &paths,
        findings: Findings::default(),
        mistaken: other_hashes::mistaken(deployment),
        withheld: HashSet::new(),
        alarms: vec![Vec::new(); deployment.hosts.len()],
        withheld_before: Vec::new(),
    };
    checker.withheld_before = checker.withheld_before();
    let mut enforced = checker.check_uses(Kind::Enforced);
    let report_only = checker.check_uses(Kind::ReportOnly);
    checker.check_trusted();
    checker.check_compromised();
    checker.check_published(&mut enforced, now);
    checker.check_freshness(&mut enforced, now);
    checker.check_ahead(now);
    checker.report_noticed();
    let sending = enforced.into_iter().zip(report_only).zip(checker.alarms);
    for (host, ((enforced, report_only), alarms)) in hosts.iter_mut().zip(sending) {
        (host.enforced, host.report_only, host.alarms) = (enforced, report_only, alarms);
    }
    let paths = paths.iter().map(|of| of.iter().map(|paths| paths.pins().collect()).collect());
    Verdict { findings: checker.findings.finish(), hosts, paths: paths.collect() }
}
