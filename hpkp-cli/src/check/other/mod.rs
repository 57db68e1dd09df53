//! Other TLS servers: the certificates and ports in their configurations are compared with published pins.
//! These servers send no header of hpkp and load no hpkp module.

mod caddy;
mod context;
mod dovecot;
mod entry;
mod haproxy;
mod kind;
mod line;
mod postfix;
mod stunnel;

use hpkp_core::certificate::Certificate;
use hpkp_core::finding::{Check, Location};
use hpkp_server::certificate_file::certificates_in;
use hpkp_server::loader::Loader;
use hpkp_server::nginx::{
    Address, Built, Choosers, Configuration, Outside, OutsideServer, Own, Server, Servers,
};
use hpkp_server::setting::{GlobalSettings, ServerSettings};

use super::checked::Checked;
use super::configuration::Text;
use super::files::{Files, Source};
use super::options::Options;
use super::presented::of_files;
use super::problem::{Problems, Read};
use context::Context;
use entry::Entry;
pub(crate) use kind::Kind;
use line::lines;

/// The files that a server loads.
struct Handle {
    files: Vec<String>,
    names: Vec<String>,
}

/// Reads and checks.
pub(super) fn check(
    kind: Kind,
    text: &Text,
    options: &Options,
    loader: &mut Loader<'_>,
) -> Read<Checked> {
    let name = options.full_name(&text.name);
    let mut context = Context {
        files: Files::new(Source::Disk),
        problems: Problems::default(),
        directory: options.directory(&text.name),
        options,
    };
    let lines = lines(&name, &text.bytes);
    let entries = match kind {
        Kind::Haproxy => haproxy::read(&lines, &mut context)?,
        Kind::Postfix => postfix::read(&lines, &mut context)?,
        Kind::Dovecot => dovecot::read(lines, &mut context)?,
        Kind::Caddy => caddy::read(&lines, &mut context)?,
        Kind::Stunnel => stunnel::read(&lines, &mut context)?,
    };
    if entries.is_empty() && context.problems.is_empty() {
        let at = Location { file: name.as_str().into(), line: 1 };
        let text = "no TLS server with a certificate is in this configuration";
        context.problems.not_understood(&at, text.to_owned());
    }
    judge(kind.name(), entries, context, loader)
}

fn judge(
    kind: &'static str,
    entries: Vec<Entry>,
    context: Context<'_>,
    loader: &mut Loader<'_>,
) -> Read<Checked> {
    let Context { problems, options, .. } = context;
    let (mut global, mut settings) = (GlobalSettings::default(), ServerSettings::default());
    options.amend(&mut global);
    options.amend_server(&mut settings);
    let check = options.check();
    let mut outside = Outside::default();
    let (mut blocks, mut addresses) = (Vec::new(), Vec::new());
    for entry in entries {
        match entry.is_http {
            true => add_http((&settings, check), entry, &mut blocks, &mut addresses),
            false => add(kind, entry, &mut outside),
        }
    }
    let mut servers = Servers::new(blocks);
    for address in &addresses {
        servers.add_address(address, &global.public_ports);
    }
    let configuration = Configuration {
        global: &global,
        around: &settings,
        check,
        servers: &servers,
        outside: &outside,
        unseen_choosers: &[],
    };
    if !configuration.is_checked() {
        return Ok(Checked::nothing(problems));
    }
    let present = |loader: &mut Loader<'_>, handle: &Handle| {
        of_files(loader, &handle.files, &[], &handle.names, &options.given)
    };
    let Built { mut deployment, journal, .. } = configuration.build(loader, present);
    let verdict = configuration.verdict(&mut deployment, loader);
    let mut checked = Checked::new(deployment, verdict, None, problems);
    if let Some(journal) = journal.filter(|_| options.is_recorded()) {
        checked.record(&journal);
    }
    Ok(checked)
}

/// Groups the certificates of an address by their names. The server chooses by the name that a client
/// sends, and takes the first certificate if no name matches.
fn by_names(files: Vec<String>) -> Vec<Handle> {
    let mut all: Vec<Handle> = Vec::new();
    for file in files {
        let names = names_in(&file);
        match all.iter_mut().find(|known| known.names == names && !names.is_empty()) {
            Some(known) => known.files.push(file),
            None => all.push(Handle { files: vec![file], names }),
        }
    }
    all
}

/// Adds an HTTP server for each set of names.
fn add_http(
    (settings, check): (&ServerSettings, Check),
    entry: Entry,
    blocks: &mut Vec<Server<Handle>>,
    addresses: &mut Vec<Address>,
) {
    let first = blocks.len();
    for handle in by_names(entry.files) {
        let names = handle.names.clone();
        let claims = if names.is_empty() { vec![String::new()] } else { names };
        let settings = (settings.clone(), Choosers::default());
        let mut block = Server::new(handle, claims, Vec::new(), settings, Some(Own::default()));
        block.check = check;
        blocks.push(block);
    }
    addresses.extend(addresses_of(entry.addresses, (first..blocks.len()).collect()));
}

/// Adds a server of another protocol, which clients reach by its port, for each set of names.
fn add(kind: &'static str, entry: Entry, outside: &mut Outside<Handle>) {
    let first = outside.servers.len();
    for handle in by_names(entry.files) {
        outside.servers.push(OutsideServer {
            names: handle.names.clone(),
            handle,
            kind,
            patterns: Vec::new(),
            own: Some(Own::default()),
            passes_on: false,
            choosers: Choosers::default(),
            at: entry.at.clone(),
        });
    }
    let servers = (first..outside.servers.len()).collect();
    outside.addresses.extend(addresses_of(entry.addresses, servers));
}

fn addresses_of(named: Vec<(String, u16)>, servers: Vec<usize>) -> Vec<Address> {
    let Some(default) = servers.first().copied() else { return Vec::new() };
    let address = |(text, port)| {
        let servers = servers.clone();
        Address { text, port, tls: true, quic: false, servers, default }
    };
    named.into_iter().map(address).collect()
}

/// The names in the first certificate of a file, sorted.
fn names_in(file: &str) -> Vec<String> {
    let leaf = certificates_in(file).ok();
    let leaf = leaf.and_then(|chain| Certificate::from_der(chain.first()?).ok());
    let mut names = leaf.map(|leaf| leaf.dns_names().to_vec()).unwrap_or_default();
    names.iter_mut().for_each(|name| name.make_ascii_lowercase());
    names.sort();
    names
}
