//! Reads stunnel's configuration: the services that accept TLS.

use hpkp_core::finding::Location;

use super::super::problem::Read;
use super::context::Context;
use super::entry::{Entry, port_of};
use super::line::Line;

/// The options of a section. The first section contains the defaults of the others.
#[derive(Clone, Debug, Default)]
struct Section {
    accept: Option<(String, Location)>,
    certificate: Option<String>,
    is_client: Option<bool>,
}

pub(super) fn read(all: &[Line], context: &mut Context<'_>) -> Read<Vec<Entry>> {
    let mut sections = vec![Section::default()];
    for line in all {
        let text = line.text.trim();
        if text.is_empty() || text.starts_with([';', '#']) {
            continue;
        }
        if text.starts_with('[') {
            sections.push(Section::default());
            continue;
        }
        let (Some((name, value)), Some(section)) = (text.split_once('='), sections.last_mut())
        else {
            continue;
        };
        let value = value.trim();
        match name.trim().to_ascii_lowercase().as_str() {
            "accept" => section.accept = Some((value.to_owned(), line.at.clone())),
            "cert" => section.certificate = Some(value.to_owned()),
            "client" => section.is_client = Some(value.eq_ignore_ascii_case("yes")),
            "sni" | "include" | "engine" | "pkcs12" => {
                let name = name.trim().to_owned();
                let text = format!("this command does not follow \"{name}\" of stunnel");
                context.problems.not_understood(&line.at, text);
            }
            _ => {}
        }
    }
    let global = sections.first().cloned().unwrap_or_default();
    let mut entries = Vec::new();
    for section in sections {
        let Some((address, at)) = section.accept else { continue };
        if section.is_client.or(global.is_client) == Some(true) {
            continue;
        }
        let Some(port) = port_of(&address) else {
            context.problems.not_understood(&at, format!("cannot read the port of \"{address}\""));
            continue;
        };
        let Some(certificate) = section.certificate.or_else(|| global.certificate.clone()) else {
            context.problems.not_understood(&at, "this service has no certificate".to_owned());
            continue;
        };
        let files = vec![context.path(&certificate)];
        entries.push(Entry { at, addresses: vec![(address, port)], files, is_http: false });
    }
    Ok(entries)
}
