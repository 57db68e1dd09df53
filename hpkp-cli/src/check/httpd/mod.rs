//! Reads a configuration of Apache httpd: a file with the files that it includes, or the output of
//! `apachectl -t -D DUMP_CONFIG`.

mod condition;
mod known;
mod servers;
mod tree;
mod words;

use std::collections::HashMap;

use hpkp_core::check::{Certificates, Deployment, Verdict};
use hpkp_core::finding::Check;
use hpkp_server::httpd::{Server, deployment, keeping, without_tls};
use hpkp_server::loader::Loader;

use super::checked::Checked;
use super::configuration::Text;
use super::files::{Files, Source};
use super::options::Options;
use super::problem::{Problems, Read};
use servers::{Everything, Place};
use tree::{Directive, Reader};

/// A configuration after parsing.
struct Parsed {
    directives: Vec<Directive>,
    root: String,
    has_mod_ssl: bool,
    has_mod_md: bool,
}

/// Reads and checks.
pub(super) fn check(text: &Text, options: &Options, loader: &mut Loader<'_>) -> Read<Checked> {
    let mut problems = Problems::default();
    let parsed = read(text, options, &mut problems)?;
    let Parsed { directives, root, has_mod_ssl, has_mod_md } = &parsed;
    let mut all = Everything::read(directives, root, *has_mod_md, &mut problems)?;
    options.amend(&mut all.global);
    let mut servers = all.servers(&mut problems);
    for server in &mut servers {
        options.amend_server(&mut server.settings);
        if options.is_lenient() {
            server.check = Check::Warn;
        }
    }
    let uses_policy = servers.iter().any(|server| server.settings.uses_policy());
    if !uses_policy && all.global.published.is_empty() {
        return Ok(Checked::nothing(problems));
    }
    let presented = servers
        .iter()
        .map(|server| {
            let present = || present(&all, server, options, loader);
            has_mod_ssl.then(present).flatten()
        })
        .collect::<Vec<Option<Certificates>>>();
    let with_tls = servers.iter().zip(&presented).filter(|(_, presented)| presented.is_some());
    let kept = with_tls.map(|(server, _)| all.tls.kept(server, &server.handle)).collect();
    let tls = (presented, &all.tls.others);
    let (mut deployment, _) = deployment(&servers, tls, &all.listening(), loader, &all.global);
    let mut verdict: Verdict = loader.check(&mut deployment);
    if let Some(keeping) = keeping(&servers, kept, &all.global, options.is_lenient()) {
        let check = |deployment: &mut Deployment, loader: &Loader<'_>| loader.check(deployment);
        verdict = keeping.replace(&mut deployment, verdict, loader, check, |_, _| Ok(()));
    }
    if !has_mod_ssl {
        verdict.findings.push(without_tls());
    }
    Ok(Checked::new(deployment, verdict, all.global.on_start, problems))
}

/// The certificates that a server presents; `None` if the server does not use TLS.
fn present(
    all: &Everything,
    server: &Server<Place>,
    options: &Options,
    loader: &mut Loader<'_>,
) -> Option<Certificates> {
    let place = server.handle;
    let https = || all.listens_on_https(place);
    let own = all.tls.certificates(server, &place, https, loader)?;
    Some(options.given.in_place_of(&server.names, own, loader))
}

/// Reads all directives. A text that loads no module is a part of a configuration. The modules that such a
/// text asks for count as loaded.
fn read(text: &Text, options: &Options, problems: &mut Problems) -> Read<Parsed> {
    let name = options.full_name(&text.name);
    let root = options.directory(&text.name);
    let environment = environment(&root);
    let parse = |assumes_modules: bool, problems: &mut Problems| {
        let mut files = Files::new(Source::Disk);
        let defines = &options.defines;
        let (root, environment) = (root.clone(), environment.clone());
        let mut reader =
            Reader::new(&mut files, problems, root, defines, environment, assumes_modules);
        let directives = reader.main(&name, &text.bytes)?;
        let parsed = Parsed {
            directives,
            has_mod_ssl: reader.has_module("ssl"),
            has_mod_md: reader.has_module("md"),
            root: reader.root.clone(),
        };
        Ok((parsed, reader.loads))
    };
    let mut first = Problems::default();
    let (parsed, loads) = parse(false, &mut first)?;
    if loads {
        *problems = first;
        return Ok(parsed);
    }
    parse(true, problems).map(|(parsed, _)| parsed)
}

/// The variables that Debian's apachectl sets, from the file `envvars` beside the configuration.
fn environment(root: &str) -> HashMap<String, String> {
    let text = std::fs::read_to_string(format!("{root}/envvars")).unwrap_or_default();
    let exports = text.lines().filter_map(|line| {
        let (name, value) = line.trim().strip_prefix("export ")?.split_once('=')?;
        // `$SUFFIX` names a second instance; it is empty for the first one.
        let value = value.replace("$SUFFIX", "").replace("${SUFFIX}", "");
        let value = value.trim_matches(['"', '\'']);
        (!value.contains(['$', '`'])).then(|| (name.trim().to_owned(), value.to_owned()))
    });
    exports.collect()
}
