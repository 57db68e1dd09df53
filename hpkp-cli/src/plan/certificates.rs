//! The certificates in use: those of the configuration or of the records, unless arguments replace them.

use std::path::Path;

use hpkp_core::path::{Chain, Paths};
use hpkp_core::pin::Pin;
use hpkp_core::published::{HostName, Matching, Presented, Presents};

use super::future::Future;
use super::model::{InUse, Key};
use super::today::{Server, Today};
use crate::arguments::PlanArguments;
use crate::chains::{self, Chains, OfServer};
use crate::failure::Failure;
use crate::output;
use crate::published::{OpenSsl, trust};

/// The certificates in use.
#[derive(Debug)]
pub(super) struct InUseToday {
    /// The certificates that the plan is about.
    pub(super) certificates: Server,
    /// The position of the certificate that was given with `--cert`, if it was the only one.
    pub(super) named: Option<usize>,
    /// The pins of the leaves of all servers.
    pub(super) leaves: Vec<Pin>,
}

pub(super) fn in_use(
    arguments: &PlanArguments,
    today: &Today,
    host: &HostName,
) -> Result<InUseToday, Failure> {
    let configured = today.presented.clone();
    let is_configured = configured.is_some();
    let servers = configured.unwrap_or_else(|| on_record(&today.future));
    let mut leaves: Vec<Pin> = servers.iter().flatten().map(|one| one.leaf.pin).collect();
    let files = of_files(arguments, today.now)?;
    let named = match &files[..] {
        [one] => Some(one.leaf.pin),
        _ => None,
    };
    let certificates = match (&arguments.server, &files[..]) {
        // The certificates of `--cert` have already replaced the configured ones.
        _ if is_configured => the_only(servers, host, "the configuration does")?,
        (Some(server), _) => of_server(arguments, server, today.now)?,
        (None, []) => the_only(servers, host, "the records do")?,
        (None, _) => beside(servers, files),
    };
    leaves.extend(certificates.iter().map(|one| one.leaf.pin));
    let named = named.and_then(|pin| certificates.iter().position(|one| one.leaf.pin == pin));
    Ok(InUseToday { certificates, named, leaves })
}

/// The certificates that each server presents for the host according to the records. Servers with the same
/// keys count once.
pub(super) fn on_record(future: &Future) -> Vec<Server> {
    let is_of_host = |body: &Presents| match body.matching {
        Matching::Exact => body.host == future.host,
        _ => future.host.parents().next() == Some(body.host.as_str()),
    };
    let all = future.state.presents();
    let all = all.filter(|record| {
        let is_meant = future.of_writer.as_ref().is_none_or(|writer| *writer == record.writer);
        let is_current = !record.body.aside && future.state.is_presented(record);
        is_meant && is_current && is_of_host(&record.body)
    });
    distinct(all.map(|record| &record.body.certificates[..]))
}

/// Removes servers with the same keys and servers without certificates.
pub(super) fn distinct<'a>(all: impl Iterator<Item = &'a [Presented]>) -> Vec<Server> {
    let mut servers: Vec<Server> = Vec::new();
    for presented in all {
        let server: Server = presented.iter().filter_map(of_presented).collect();
        if !server.is_empty() && !servers.iter().any(|other| same_keys(other, &server)) {
            servers.push(server);
        }
    }
    servers
}

fn same_keys(one: &Server, other: &Server) -> bool {
    let keys = |server: &Server| {
        let mut keys: Vec<_> = server.iter().map(|one| one.keys.clone()).collect();
        keys.sort_unstable();
        keys
    };
    keys(one) == keys(other)
}

fn of_presented(presented: &Presented) -> Option<InUse> {
    let pin = presented.keys.nodes().first()?.pin?;
    let kind = presented.identity.as_ref().and_then(|identity| identity.slot);
    Some(InUse { leaf: Key { pin, kind }, keys: presented.keys.clone(), not_after: None })
}

fn the_only(servers: Vec<Server>, host: &HostName, source: &str) -> Result<Server, Failure> {
    match <[Server; 1]>::try_from(servers) {
        Ok([one]) => Ok(one),
        Err(none) if none.is_empty() => Err(Failure::usage(format!(
            "{source} not say which certificate is presented for {host}; give it with --cert FILE"
        ))),
        Err(_) => Err(Failure::usage(format!(
            "several servers present different certificates for {host}; give those of the server that is to \
             change with --cert FILE"
        ))),
    }
}

/// The given certificates, together with the server's certificates for other kinds of keys.
fn beside(servers: Vec<Server>, named: Server) -> Server {
    let server = match <[Server; 1]>::try_from(servers) {
        Ok([one]) if one.len() > named.len() => one,
        _ => return named,
    };
    let is_named = |one: &InUse| {
        named.iter().any(|named| named.leaf.kind == one.leaf.kind || named.leaf.pin == one.leaf.pin)
    };
    let others: Vec<InUse> = server.into_iter().filter(|one| !is_named(one)).collect();
    named.into_iter().chain(others).collect()
}

/// The certificates of `--cert`.
fn of_files(arguments: &PlanArguments, now: i64) -> Result<Server, Failure> {
    let named = |file: &String| Ok((file.clone(), chains::of_file(file)?));
    let chains = arguments.cert.iter().map(named).collect::<Result<Chains, Failure>>()?;
    of_chains(arguments, chains, now)
}

/// The certificates that the server of `--server` presents.
fn of_server(arguments: &PlanArguments, server: &str, now: i64) -> Result<Server, Failure> {
    let OfServer { chains, unknown } =
        chains::of_server(server, Some(&arguments.host.to_string()))?;
    // If the server may have another certificate, the plan would be incomplete.
    match &unknown[..] {
        [first, ..] => Err(Failure::undetermined(first)),
        [] => of_chains(arguments, chains, now),
    }
}

fn of_chains(arguments: &PlanArguments, chains: Chains, now: i64) -> Result<Server, Failure> {
    if chains.is_empty() {
        return Ok(Vec::new());
    }
    let trust = trust(arguments.trusted_certificate.as_deref())?;
    let mut server: Server = Vec::new();
    for (source, chain) in chains {
        let shown = output::path(Path::new(&source));
        let chain = Chain::new(chain).ok_or_else(|| {
            let most = Chain::MAX;
            Failure::undetermined(format!("{shown}: more than {most} certificates in the chain"))
        })?;
        let keys = Paths::new(&chain, &trust.trust, &OpenSsl, now).keys().ok_or_else(|| {
            Failure::undetermined(format!("{shown}: too many keys on the paths of the certificate"))
        })?;
        let pin = keys.nodes().first().and_then(|node| node.pin).ok_or_else(|| {
            Failure::undetermined(format!("{shown}: no pin can be formed of the key in use"))
        })?;
        let kind = chain.leaf().slot();
        if server.iter().any(|one| one.leaf.kind == kind) {
            return Err(Failure::usage(format!(
                "{shown}: a second certificate of the same kind of key; a server has one of each kind"
            )));
        }
        let not_after = Some(chain.leaf().not_after());
        server.push(InUse { leaf: Key { pin, kind }, keys, not_after });
    }
    Ok(server)
}
