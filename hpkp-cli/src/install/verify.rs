//! Verifies whether a server may get the new certificates: their faults, the names that they must cover,
//! and the pins that clients hold.

use std::collections::BTreeSet;

use hpkp_core::published::HostName;

use super::pair::Pair;
use super::plan::Plan;
use super::report::{Report, Stop};
use super::served::{self, Endpoint};
use crate::arguments::InstallArguments;
use crate::chains::Chains;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::published::{Judge, Judgement};
use crate::{output, time};

/// The records, or why they cannot be read; `None` with `--no-records`.
pub(super) type Records = Option<Result<Judge, Failure>>;

/// Opens the records.
pub(super) fn records(arguments: &InstallArguments) -> Records {
    let directories = arguments.directories();
    let trusted = arguments.trusted_certificate.as_deref();
    // Before the first install there are no keys in use.
    let present = arguments.to.is_dir().then(|| arguments.to.to_string_lossy().into_owned());
    (!directories.is_empty()).then(|| {
        let judge = Judge::open(&directories, trusted)?;
        Ok(judge.with_keys_in(present).with_max_staleness(arguments.max_staleness))
    })
}

/// The servers to query after the install: those that the operator named, or those that present an old
/// certificate now.
pub(super) fn endpoints(
    arguments: &InstallArguments,
    plan: &Plan,
    records: Option<&Result<Judge, Failure>>,
) -> Result<Vec<Endpoint>, Stop> {
    let leaves = plan.leaves();
    let mut endpoints = served::named(arguments, plan.pairs[0].leaf())?;
    if !endpoints.is_empty() {
        endpoints.iter_mut().for_each(|endpoint| {
            endpoint.look_before(&leaves.old);
        });
        return Ok(endpoints);
    }
    // Only the ports of the records are needed here. Unreadable records are reported later.
    let judge = records.and_then(|records| records.as_ref().ok());
    let ports =
        |name: &str| judge.map(|judge| judge.ports(name).into_iter().collect()).unwrap_or_default();
    for mut endpoint in served::derived(plan.pairs[0].leaf(), &arguments.starttls, ports) {
        if endpoint.look_before(&leaves.old) {
            endpoints.push(endpoint);
        }
    }
    Ok(endpoints)
}

/// Reports problems of the new certificates, and gives the exit code.
///
/// # Errors
/// The records cannot be read.
pub(super) fn verify(
    arguments: &InstallArguments,
    plan: &Plan,
    records: Records,
    endpoints: &mut [Endpoint],
    report: &mut Report,
) -> Result<Exit, Stop> {
    let mut exit = Exit::Fine;
    let now = time::now();
    for (place, pair) in plan.pairs.iter().enumerate() {
        for (code, text) in
            pair.faults(now).into_iter().chain(uncovered(arguments, plan, place, pair))
        {
            report.problem(code, text);
            exit = Exit::No;
        }
        remark(plan, place, pair, report);
    }
    match exit {
        Exit::Fine => pins(arguments, plan, records, endpoints, report),
        wrong => Ok(wrong),
    }
}

/// Reports the names that the certificate must cover and does not.
fn uncovered(
    arguments: &InstallArguments,
    plan: &Plan,
    place: usize,
    pair: &Pair,
) -> Option<(&'static str, String)> {
    let present = plan.old[place].iter().filter_map(|chain| chain.first());
    let present = present.flat_map(|leaf| leaf.accepted_names().iter());
    // A common name may also be the name of a person or a company.
    let is_host = |name: &&String| name.contains('.') || *name == "localhost";
    let needed: BTreeSet<&String> = match &arguments.host[..] {
        [] => present.filter(is_host).collect(),
        named => named.iter().collect(),
    };
    let missing = needed.into_iter().filter(|name| !pair.leaf().is_for(&name.to_ascii_lowercase()));
    let missing: Vec<String> =
        missing.map(|name| hpkp_core::text::Excerpt::new(name).to_string()).collect();
    let hint = match &arguments.host[..] {
        [] => "; if this server does not need them any more, name those that it needs with --host",
        _ => "",
    };
    (!missing.is_empty()).then(|| {
        let text = format!(
            "{}: the certificate is not for {}; clients of these names would refuse it{hint}",
            output::path(&pair.certificate),
            missing.join(", ")
        );
        ("name-not-covered", text)
    })
}

/// Warns about changes that the operator may not have intended.
fn remark(plan: &Plan, place: usize, pair: &Pair, report: &mut Report) {
    let file = output::path(&pair.certificate);
    if let Some(old) = &plan.old[place] {
        if old.first().is_some_and(|leaf| leaf.not_after() > pair.leaf().not_after()) {
            let text = format!("{file}: the certificate expires before the one in place");
            report.warn("expires-earlier", text);
        }
        if old.len() > 1 && pair.chain.len() == 1 {
            let text = format!(
                "{file}: no chain follows the certificate, but one does in the files in place"
            );
            report.warn("chain-missing", text);
        }
    }
    let names = plan.names_of(place);
    let fresh = names.iter().filter(|name| !plan.present.entries.contains_key(*name));
    let fresh: Vec<String> = fresh.map(|name| output::path(name.as_ref())).collect();
    if !plan.present.entries.is_empty() && !fresh.is_empty() {
        let text = format!(
            "{}: new in this directory: {}; the server's configuration must name them",
            report.to,
            fresh.join(", ")
        );
        report.warn("new-names", text);
    }
}

/// Compares the certificates with the recorded pins.
fn pins(
    arguments: &InstallArguments,
    plan: &Plan,
    records: Records,
    endpoints: &mut [Endpoint],
    report: &mut Report,
) -> Result<Exit, Stop> {
    let Some(records) = records else {
        let text = "no pins were compared (--no-records)".to_owned();
        report.warn("records-not-read", text);
        return Ok(Exit::Fine);
    };
    let unreadable = |Failure { text, .. }| Stop::undetermined("records-unreadable", text);
    let judge = records.map_err(unreadable)?;
    // An unchanged key is accepted even if other machines have been silent for too long.
    let judge = if is_unchanged(plan) { judge.with_max_staleness(None) } else { judge };
    let chains = chains(&plan.pairs);
    let names =
        plan.pairs.iter().flat_map(|pair| pair.leaf().accepted_names()).chain(&arguments.host);
    let hosts = judge.hosts(names);
    if hosts.is_empty() {
        return Err(Stop::usage(
            "the certificate has no DNS name; give the names of the server with --host",
        ));
    }
    let mut refusals = Vec::new();
    // A compromised key is reported for any host, so the first one is always checked. A machine that is
    // silent may have begun to publish pins, so silence must be checked for every host.
    let is_asked = |host: &HostName| judge.heeds_silence() || judge.binds(host);
    let asked = hosts.iter().enumerate().filter(|(place, host)| *place == 0 || is_asked(host));
    for (_, host) in asked {
        let judgement = judge.ask(host, &chains, None).map_err(unreadable)?;
        if judgement.exit != Exit::Fine || judgement.has_findings {
            judgement.lines.iter().for_each(|line| output::complain(line));
        }
        let Judgement { host: label, exit, locks_out, json, .. } = judgement;
        if exit != Exit::Fine {
            refusals.push(Refusal { host, label: label.clone(), exit, locks_out });
        }
        if judge.binds(host) {
            report.hosts.insert(label, json);
        }
    }
    Ok(verdict(&judge, &refusals, plan, endpoints, report))
}

/// A host whose clients refuse the certificates, or may refuse them.
struct Refusal<'a> {
    host: &'a HostName,
    label: String,
    exit: Exit,
    locks_out: Vec<String>,
}

/// Combines the answers for all hosts.
fn verdict(
    judge: &Judge,
    refusals: &[Refusal<'_>],
    plan: &Plan,
    endpoints: &mut [Endpoint],
    report: &mut Report,
) -> Exit {
    let exit = refusals.iter().fold(Exit::Fine, |exit, refusal| exit.and(refusal.exit));
    if exit == Exit::Fine {
        return exit;
    }
    let hosts: Vec<&str> = refusals.iter().map(|refusal| refusal.label.as_str()).collect();
    let hosts = hosts.join(", ");
    // Certificates that the server already presents lock out nobody else.
    if refusals_unchanged(judge, refusals, plan)
        && endpoints.iter_mut().any(|one| one.look_before(&plan.leaves().old))
    {
        let text = format!(
            "{hosts}: the server presents this key already, and the same clients refuse both certificates"
        );
        report.warn("unchanged", text);
        return Exit::Fine;
    }
    match exit {
        Exit::No => report
            .problem("lockout", format!("{hosts}: clients that hold pins would be locked out")),
        _ => report.problem(
            "undetermined",
            format!("{hosts}: cannot tell whether clients that hold pins accept the certificate"),
        ),
    }
    exit
}

/// Whether the pairs have the same keys, issuers and chains as those in place, and only clients refuse them
/// that also refuse those in place. A client that compares whole certificates accepts the old one and
/// refuses the new one.
fn refusals_unchanged(judge: &Judge, refusals: &[Refusal<'_>], plan: &Plan) -> bool {
    let chains = plan.old.iter().flatten().map(|chain| (String::new(), chain.clone())).collect();
    is_unchanged(plan)
        && refusals.iter().all(|refusal| {
            judge.ask(refusal.host, &chains, None).is_ok_and(|old| {
                old.exit == refusal.exit
                    && refusal.locks_out.iter().all(|id| old.locks_out.contains(id))
            })
        })
}

/// Whether each pair has the same key, issuer and chain as the one that it replaces.
fn is_unchanged(plan: &Plan) -> bool {
    plan.pairs.iter().zip(&plan.old).all(|(pair, old)| {
        let Some(old) = old else { return false };
        let (a, b) = (pair.leaf(), &old[0]);
        let authorities = |chain: &[std::sync::Arc<hpkp_core::certificate::Certificate>]| {
            chain[1..].iter().map(|one| one.der().to_vec()).collect::<Vec<_>>()
        };
        a.pin().is_some()
            && a.pin() == b.pin()
            && a.issuer_fingerprint() == b.issuer_fingerprint()
            && authorities(&pair.chain) == authorities(old)
    })
}

fn chains(pairs: &[Pair]) -> Chains {
    pairs
        .iter()
        .map(|pair| (pair.certificate.to_string_lossy().into_owned(), pair.chain.clone()))
        .collect()
}
