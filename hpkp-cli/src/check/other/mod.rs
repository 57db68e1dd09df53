//! Other TLS servers: what their own configurations say of certificates and ports is compared with
//! published pins. They send no header of ours, and no module of ours looks at what they load.

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
use hpkp_core::finding::Location;
use hpkp_server::certificate_file::certificates_in;
use hpkp_server::journal;
use hpkp_server::loader::Loader;
use hpkp_server::nginx::{
    Address, Built, Choosers, Configuration, Outside, OutsideServer, Own, Servers,
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

/// What a server loads.
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
    let mut outside = Outside::default();
    for entry in entries {
        add(kind, entry, &mut outside);
    }
    let servers = Servers::new(Vec::new());
    let check = options.check();
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
    let (records, journal) = journal::read(&global.published);
    let present = |loader: &mut Loader<'_>, handle: &Handle| {
        of_files(loader, &handle.files, &[], &handle.names, &options.given)
    };
    let Built { mut deployment, .. } = configuration.build(records, loader, present);
    let verdict = configuration.verdict(&mut deployment, loader);
    let mut checked = Checked::new(deployment, verdict, None, problems);
    if let Some(journal) = journal.filter(|_| options.is_recorded()) {
        checked.record(&journal);
    }
    Ok(checked)
}

/// Adds a server for each set of names: the server chooses among the certificates by the name that a
/// client sends, and takes the first where none fits.
fn add(kind: &'static str, entry: Entry, outside: &mut Outside<Handle>) {
    let mut groups: Vec<(Vec<String>, Vec<String>)> = Vec::new();
    for file in entry.files {
        let names = names_in(&file);
        match groups.iter_mut().find(|(known, _)| *known == names && !names.is_empty()) {
            Some((_, files)) => files.push(file),
            None => groups.push((names, vec![file])),
        }
    }
    let first = outside.servers.len();
    for (names, files) in groups {
        outside.servers.push(OutsideServer {
            handle: Handle { files, names: names.clone() },
            kind,
            names,
            patterns: Vec::new(),
            own: Some(Own::default()),
            passes_on: false,
            choosers: Choosers::default(),
            at: entry.at.clone(),
        });
    }
    let servers: Vec<usize> = (first..outside.servers.len()).collect();
    let Some(default) = servers.first().copied() else { return };
    for (text, port) in entry.addresses {
        let servers = servers.clone();
        outside.addresses.push(Address { text, port, tls: true, quic: false, servers, default });
    }
}

/// The names in the first certificate of a file, in a fixed order.
fn names_in(file: &str) -> Vec<String> {
    let leaf = certificates_in(file).ok();
    let leaf = leaf.and_then(|chain| Certificate::from_der(chain.first()?).ok());
    let mut names = leaf.map(|leaf| leaf.dns_names().to_vec()).unwrap_or_default();
    names.iter_mut().for_each(|name| name.make_ascii_lowercase());
    names.sort();
    names
}
