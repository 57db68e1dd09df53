//! Reads the present configuration. The records that the server will write when loading it count as
//! written.

use hpkp_core::accepted::accepted;
use hpkp_core::check::SeenName;
use hpkp_core::finding::{Class, Code};
use hpkp_core::path::Chain;
use hpkp_core::pin::Pin;
use hpkp_core::published::{HostName, Matching, State, WriterName};
use hpkp_core::sorted;
use hpkp_core::text::Excerpt;

use super::certificates::{distinct, on_record};
use super::future::Future;
use super::model::Policy;
use super::today::{Today, absolute};
use crate::arguments::{PlanArguments, or_default};
use crate::check::{Deployed, InPlace, deployed, text};
use crate::failure::Failure;
use crate::time;

/// The parts of a writer's records about a host that affect a plan.
#[derive(Debug, PartialEq, Eq)]
struct OnRecord {
    policy: Option<Policy>,
    leaves: Vec<Pin>,
}

impl OnRecord {
    fn new(future: &Future, writer: &WriterName) -> Self {
        let mut own = future.clone();
        own.of_writer = Some(writer.clone());
        let leaves = sorted::distinct(on_record(&own).iter().flatten().map(|one| one.leaf.pin));
        Self { policy: future.policy(std::slice::from_ref(writer)), leaves }
    }
}

/// Reads the configuration as if it were loaded.
pub(super) fn read(
    arguments: &PlanArguments,
    file: &str,
    host: &HostName,
) -> Result<Today, Failure> {
    let mut notes = Vec::new();
    let (mut deployed, writer) = compared(arguments, file, &mut notes)?;
    let shown = Excerpt::new(file).to_string();
    if let Some(Failure { exit, text }) = deployed.refused.take() {
        let text = format!("a reload with {shown} would be refused: {text}");
        return Err(Failure { exit, text });
    }
    let blocks = blocks(&deployed, host);
    if blocks.is_empty() {
        return Err(Failure::usage(format!("{shown}: no TLS server answers for {host}")));
    }
    let Deployed { deployment, verdict, .. } = &deployed;
    let alarms = blocks.iter().flat_map(|block| &verdict.hosts[*block].alarms);
    if let Some(alarm) = alarms.into_iter().find(|alarm| alarm.code.class() == Class::Lockout) {
        return Err(Failure::no(format!(
            "{shown} locks clients of {host} out already: {}",
            alarm.code
        )));
    }
    // A server with this configuration refuses a change while another machine is silent, so the plan must
    // mention it.
    let of_silence = [Code::PeerSilent, Code::HeartbeatsUnreadable, Code::PeerNeverHeard];
    let silent = verdict.findings.iter().filter(|finding| of_silence.contains(&finding.code));
    for finding in silent {
        let note = format!("[{}] {}", finding.code, finding.text.what);
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    let is_withheld = |block: &usize| {
        let enforced = verdict.hosts[*block].enforced.as_ref();
        enforced.is_some_and(|sending| sending.header.is_none())
    };
    if blocks.iter().any(is_withheld) {
        notes.push(format!(
            "{shown} sends no header for {host} as it is; hpkp check --config says why"
        ));
    }
    let policies = blocks.iter().filter_map(|block| deployment.hosts[*block].enforced.as_ref());
    let policy_name = policies.map(|policy| policy.policy.clone()).next();
    let presented = blocks.iter().filter_map(|block| verdict.hosts[*block].presented.as_deref());
    let mut presented = distinct(presented);
    for one in presented.iter_mut().flatten() {
        let leaves = blocks.iter().flat_map(|block| deployment.chains(*block)).map(Chain::leaf);
        let of_key = leaves.filter(|leaf| leaf.pin() == Some(one.leaf.pin));
        one.not_after = of_key.map(|leaf| leaf.not_after()).min();
    }
    let presented = Some(presented);
    let now = time::now();
    let records = deployment.records.as_ref();
    let state = records.map(|records| records.state.clone()).unwrap_or_default();
    let mut future = Future::new(state, host.clone());
    let before = OnRecord::new(&future, &writer);
    let events = accepted(deployment, verdict, &future.state, &writer, now);
    future.state.extend(events);
    let then = OnRecord::new(&future, &writer);
    let not_loaded = (then != before).then_some((shown, then.policy));
    let directories = records.map(|records| &records.directories[..]).unwrap_or_default();
    let directories = directories.iter().map(|path| absolute(path)).collect();
    Ok(Today { future, now, directories, presented, policy_name, not_loaded, notes })
}

/// The positions of the server blocks that answer for a host.
fn blocks(deployed: &Deployed, host: &HostName) -> Vec<usize> {
    let is_of_host = |name: &SeenName| {
        let is_named = match name.matching {
            Matching::Exact => name.host == *host,
            _ => host.parents().next() == Some(name.host.as_str()) && !name.except.contains(host),
        };
        is_named && !name.aside
    };
    let all = deployed.verdict.hosts.iter().enumerate();
    all.filter(|(_, verdict)| verdict.names.iter().any(is_of_host)).map(|(at, _)| at).collect()
}

/// Compares the configuration with the records, and determines the writer name of the server.
fn compared(
    arguments: &PlanArguments,
    file: &str,
    notes: &mut Vec<String>,
) -> Result<(Deployed, WriterName), Failure> {
    // The text is read only once, since it may come from a pipe.
    let text = text(file)?;
    let read = |published: &[String], writer: Option<WriterName>| {
        let in_place = InPlace {
            cert: &arguments.cert,
            roots: arguments.trusted_certificate.as_ref(),
            published,
            writer,
        };
        deployed(&arguments.configuration, &text, &in_place)
    };
    let mut published = arguments.records.directory.clone();
    let mut found = read(&published, arguments.writer.clone())?;
    if found.deployment.records.is_none() && published.is_empty() {
        let usual = or_default(&[]);
        if usual.iter().all(|path| std::path::Path::new(path).is_dir()) {
            published = usual;
            found = read(&published, arguments.writer.clone())?;
        } else {
            notes.push(
                "no records were read, so the plan does not know pins that clients hold from earlier \
                 configurations; name the directory with -d"
                    .to_owned(),
            );
        }
    }
    let records = found.deployment.records.as_ref();
    if let Some(writer) = records.and_then(|records| records.writer.clone()) {
        return Ok((found, writer));
    }
    // A configuration such as a policy file does not contain the writer name. If only one server is on
    // record, it is this server.
    if let Some(writer) = records.and_then(|records| the_only_server(&records.state)) {
        return Ok((read(&published, Some(writer.clone()))?, writer));
    }
    let writer = arguments.writer.clone().map_or_else(|| "server".parse(), Ok);
    let writer = writer.map_err(|error| Failure::usage(format!("{error}")))?;
    Ok((found, writer))
}

fn the_only_server(state: &State) -> Option<WriterName> {
    let mut servers = state.writers().filter(|(name, _)| state.accepted_at(name).is_some());
    let (only, _) = servers.next()?;
    servers.next().is_none().then(|| only.clone())
}
