//! Reads Postfix's `main.cf`: the certificates of the SMTP server.

use std::collections::BTreeSet;

use super::super::problem::Read;
use super::context::Context;
use super::entry::{Entry, port_of};
use super::line::{Line, assignments};

/// The ports of SMTP, SMTP over TLS, and submission. `master.cf` may have others.
const PORTS: [u16; 3] = [25, 465, 587];

/// The parameters that name files with certificates.
const CERTIFICATES: [&str; 3] =
    ["smtpd_tls_cert_file", "smtpd_tls_eccert_file", "smtpd_tls_dcert_file"];

pub(super) fn read(all: &[Line], context: &mut Context<'_>) -> Read<Vec<Entry>> {
    let mut joined: Vec<Line> = Vec::new();
    for line in all.iter().filter(|line| !line.text.trim_start().starts_with('#')) {
        match joined.last_mut().filter(|_| line.text.starts_with([' ', '\t'])) {
            Some(open) => open.text.push_str(&line.text),
            None => joined.push(line.clone()),
        }
    }
    let settings = assignments(&joined);
    let value = |name: &str| {
        let (text, at) = settings.get(name)?;
        Some((text.clone(), at.clone())).filter(|(text, _)| !text.is_empty())
    };
    if let Some((_, at)) = value("tls_server_sni_maps") {
        let text = "this command does not read the tables of tls_server_sni_maps";
        context.problems.not_understood(&at, text.to_owned());
    }
    let chains = value("smtpd_tls_chain_files");
    let files: Vec<_> = match chains {
        // `smtpd_tls_chain_files` overrides the other parameters. Its files also contain the keys, mostly
        // in the same file as the certificate.
        Some((list, at)) => {
            let files = list.split([',', ' ', '\t']).filter(|file| !file.is_empty());
            files.map(|file| (file.to_owned(), at.clone())).collect()
        }
        None => CERTIFICATES.iter().filter_map(|name| value(name)).collect(),
    };
    let Some(at) = files.first().map(|(_, at)| at.clone()) else { return Ok(Vec::new()) };
    if let Some((file, at)) = files.iter().find(|(file, _)| file.contains('$')) {
        let text = format!("this command does not know the parameters in \"{file}\"");
        context.problems.not_understood(at, text);
    }
    let is_file = |file: &str| !file.contains('$') && !is_key(file);
    let files: Vec<String> =
        files.iter().map(|(file, _)| context.path(file)).filter(|file| is_file(file)).collect();
    let mut ports = BTreeSet::from(PORTS);
    ports.extend(ports_of_master(context));
    let addresses = ports.iter().map(|port| (format!("*:{port}"), *port)).collect();
    Ok(vec![Entry { at, addresses, files, is_http: false }])
}

/// The port numbers of the SMTP servers in the `master.cf` beside `main.cf`. The ports of the service names
/// that Postfix's default file has are in [`PORTS`].
fn ports_of_master(context: &mut Context<'_>) -> Vec<u16> {
    let path = context.path("master.cf");
    let Ok(bytes) = context.files.read(&path) else { return Vec::new() };
    let text = String::from_utf8_lossy(&bytes);
    let ports = text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // Service, type, private, unprivileged, chroot, wake up, processes, command.
        let [service, "inet", _, _, _, _, _, "smtpd", ..] = words.as_slice() else { return None };
        (!service.starts_with('#')).then(|| port_of(service))?
    });
    ports.collect()
}

/// Whether a file contains a key and no certificate.
fn is_key(file: &str) -> bool {
    hpkp_server::certificate_file::certificates_in(file).is_ok_and(|found| found.is_empty())
}
