//! A configuration of Apache httpd, independent of httpd: its directives, its virtual hosts, the certificates that
//! mod_ssl and mod_md will load, and the input of the check. The module fills these in from what httpd has read, the
//! command from the text of the configuration. From here on both use the same code, so they give the same answer.

mod directives;
mod managed;
mod managed_store;
mod other_tls;
mod tls;
mod vhost;

use std::collections::{BTreeSet, HashMap};

use hpkp_core::check::{Certificates, Context, Deployment, Host, Listener, Names, Noticed};
use hpkp_core::finding::{Code, Finding, Location, Text};

use crate::journal::{self, Journal};
use crate::kept::{Keeping, KeptContext};
use crate::living;
use crate::loader::{self, Loader};
use crate::setting::GlobalSettings;

pub use directives::{
    define, policy_directive, set_global, set_in_policy, set_in_server, set_keep,
};
pub use managed::ManagedDomains;
pub use other_tls::OtherTls;
pub use tls::{NOT_YET, Tls, TlsDirectives, is_file_with_content};
pub use vhost::{Address, Server, listeners, mark_asked, presenting};

/// The names of the directives in httpd.
const NAMES: Names = Names {
    max_age: "HPKPMaxAge",
    report_uri: "HPKPReportURI",
    trusted_certificate: "HPKPTrustedCertificate",
    published_pins: "HPKPPublishedPins",
    not_served_here: "HPKPNotServedHere",
    reject_handshake: None,
    same_key: Some("HPKPRenewalKey same"),
};

/// Builds the input of the check, and the journal to which the server writes its records, if it can be written.
/// `others` are the servers with TLS from another module, `listening` the addresses of all `Listen` directives.
#[must_use]
pub fn deployment<H>(
    servers: &[Server<H>],
    (presented, others): (Vec<Option<Certificates>>, &OtherTls),
    listening: &BTreeSet<Address>,
    loader: &mut Loader<'_>,
    global: &GlobalSettings,
) -> (Deployment, Option<Journal>) {
    let is_tls: Vec<bool> = presented.iter().map(Option::is_some).collect();
    let listeners = listeners(servers, &is_tls, listening);
    let listening: Vec<(u16, String)> =
        listeners.iter().map(|listener| (listener.port, String::new())).collect();
    let by_public_port = |listener: Listener| {
        let ports = global.public_ports.of(listener.port, "");
        ports.into_iter().map(move |port| Listener { port, ..listener.clone() })
    };
    let mut deployment = Deployment {
        policies: loader::resolve(&global.policies),
        names: NAMES,
        listeners: listeners.into_iter().flat_map(by_public_port).collect(),
        not_served_here: global.not_served_here.clone(),
        noticed: global.public_ports.unused(&listening).collect::<Vec<Noticed>>(),
        ..Deployment::default()
    };
    let has_hosts = servers.len() > 1;
    let mut contexts = HashMap::new();
    for (position, certificates) in presented.into_iter().enumerate() {
        let Some(certificates) = certificates else { continue };
        let trust = loader.trust(servers[position].settings.trusted.as_ref());
        contexts.insert(position, deployment.contexts.len());
        deployment.contexts.push(Context { certificates, trust });
    }
    for (server, presenting) in servers.iter().zip(presenting(servers, &is_tls)) {
        let [enforced, report_only] = server.settings.policies().map(|policy_use| {
            let mut policy_use = policy_use.cloned()?;
            // A directive outside all virtual hosts is meant for the virtual hosts.
            policy_use.own &= !(has_hosts && deployment.hosts.is_empty());
            Some(policy_use)
        });
        if let Some(key) = server.settings.renewal_key {
            deployment.renewal_keys.insert(deployment.hosts.len(), key);
        }
        deployment.hosts.push(Host {
            tls: !presenting.is_empty(),
            check: server.check,
            enforced,
            report_only,
            ..Host::new(
                server.label.clone(),
                server.names.clone(),
                presenting.iter().filter(|_| server.is_asked).map(|one| contexts[one]).collect(),
            )
        });
    }
    others.report(&mut deployment);
    let concern = journal::concern(global, &deployment);
    let (records, journal) = journal::read(&global.published, concern, living::NGINX);
    deployment.records = records;
    (deployment, journal)
}

/// The setting of last good certificates, if the configuration has one. `kept` has an entry for each of the
/// deployment's contexts. The first server is the main one, whose directives also count for findings about no server.
/// For `is_start` see [`Keeping`].
#[must_use]
pub fn keeping<H>(
    servers: &[Server<H>],
    kept: Vec<KeptContext>,
    global: &GlobalSettings,
    is_start: bool,
) -> Option<Keeping> {
    let setting = global.keep.clone()?;
    Some(Keeping {
        setting,
        directive: "HPKPKeepCertificates",
        writer: journal::writer_of(&global.published),
        published: global.published.clone(),
        contexts: kept,
        checks: servers.iter().map(|server| server.settings.check.unwrap_or_default()).collect(),
        check: servers.first().map(|main| main.check).unwrap_or_default(),
        is_start,
    })
}

/// The finding that mod_ssl is not loaded. It is about no directive.
#[must_use]
pub fn without_tls() -> Finding {
    let text = "mod_ssl is not loaded, so no server uses TLS and no header is sent; to load it: a2enmod ssl";
    Finding::new(Code::NoTls, Location { file: "-".into(), line: 0 }, Text::new(text))
}
