//! The gate: the check of a whole configuration, after nginx has read all of it and before anything
//! of it takes effect.
//!
//! It stands in a `postconfiguration` of its own, before that of the first filter. There every
//! server is known, with its addresses and certificates. Any later, and a refusal takes a working
//! server down in the end: `postconfiguration` builds the one chain of filters anew, in the master
//! that goes on with the old configuration, and each worker that it has to replace inherits what
//! stands there. A refusal half-way leaves half a chain; one at the end leaves a chain with modules
//! that have just been unloaded, where the refused configuration was the first to name them.

use std::collections::HashMap;

use hpkp_core::check::{Certificates, Context, Deployment, Host, Records, Serving, Verdict};
use hpkp_core::finding::Check;
use hpkp_core::path::Chain;
use hpkp_core::policy::Policy;
use hpkp_server::failure::{self, Answer, LogLine, Phase};
use hpkp_server::journal::{self, Journal};
use hpkp_server::living;
use hpkp_server::loader::{self, Loader};
use hpkp_server::openssl::{OpenSsl, OpenSslError};
use hpkp_server::sending::ContextAddress;
use nginx_sys::{NGX_LOG_WARN, ngx_conf_t, ngx_cycle, ngx_cycle_t, ngx_int_t};

use crate::boundary::{self, Aftermath};
use crate::conf::{MainConf, Served, ServerKey};
use crate::effect::Pending;
use crate::ngx::{self, ERROR, OK, own_module};
use crate::server::{Server, Servers};
use crate::{log, phase};

/// The variable that lets a test pass where it would be refused: for the test that a service runs
/// before each start, and for placeholder certificates.
const OVERRIDE: &str = "HPKP_CHECK";

pub(crate) unsafe extern "C" fn postconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    let after = |aftermath| match aftermath {
        Aftermath::Refuse => ERROR,
        Aftermath::GoOn => OK,
    };
    boundary::configuring("gate", after, || {
        let Some(phase) = phase::current() else { return OK };
        if boundary::has_failed() {
            return OK;
        }
        // SAFETY: nginx calls this with the configuration that it has just read.
        let accepted = unsafe { pass((*cf).cycle, phase) };
        if accepted { OK } else { ERROR }
    })
}

/// Checks the configuration of `cycle`; whether it is accepted.
///
/// # Safety
/// `cycle` is the cycle whose configuration has just been read.
unsafe fn pass(cycle: *mut ngx_cycle_t, phase: Phase) -> bool {
    // SAFETY: by the caller's promise.
    let Some(mut servers) = (unsafe { Servers::of(cycle) }) else { return true };
    // SAFETY: by the caller's promise; nothing else changes the configuration now.
    let main = unsafe { &mut *ngx::http_main_conf::<MainConf>(cycle, own_module()) };
    if !servers.any_policy() && main.published.is_empty() {
        return true;
    }
    // SAFETY: the cycle has a log from the beginning.
    let log = unsafe { (*cycle).log };
    if phase::is_test() && std::env::var_os(OVERRIDE).is_some_and(|value| value == "warn") {
        for server in &mut servers.all {
            server.check = Check::Warn;
        }
        let text = "hpkp: HPKP_CHECK=warn is set, so this test passes what a reload would refuse";
        // SAFETY: as above.
        unsafe { log::write(log, NGX_LOG_WARN, text, None) };
    }
    // SAFETY: nginx is linked with one OpenSSL, and its functions are found from the program on.
    let openssl = unsafe { OpenSsl::load(|name| libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr())) };
    let (records, journal) = journal::read(&main.published);
    // SAFETY: as above.
    let (deployment, addresses, verdict) =
        unsafe { checked(main, records, &servers, openssl.as_ref()) };
    // SAFETY: by the caller's promise.
    let wanted = unsafe { servers.addresses(cycle) };
    let judgement =
        failure::judge_beside(&verdict, phase, main.on_start.unwrap_or_default(), || {
            let claimant = || journal.as_ref().and_then(Journal::claimant);
            living::master_at(&wanted).or_else(claimant)
        });
    for line in &judgement.lines {
        // SAFETY: as above.
        unsafe { log::write_line(log, line) };
    }
    if judgement.refused {
        return false;
    }
    for ((server, host), verdict) in servers.all.iter().zip(&deployment.hosts).zip(&verdict.hosts) {
        if server.is_checked(main) && host.tls {
            let served = Served { alarms: verdict.alarms.clone(), ..presented(host, &deployment) };
            // Of two blocks with the same names and addresses nginx asks the first.
            main.served.entry(server.key()).or_insert(served);
        }
    }
    if phase == Phase::Start {
        let is_alarm = |line: &LogLine| line.answer == Answer::Alarm;
        main.alarms = judgement.lines.into_iter().filter(is_alarm).collect();
    }
    if phase != Phase::Test {
        let own =
            |server: &Server| server.own.map(|own| ContextAddress::from(own.context.cast_const()));
        let servers = servers.all.iter().map(|server| (server.conf, own(server))).collect();
        let openssl = openssl.ok();
        main.journal = journal;
        main.pending = Some(Pending { phase, deployment, verdict, addresses, servers, openssl });
    }
    true
}

/// A server whose `ssl_certificate` has variables.
const CHOSEN_LATER: Certificates = Certificates::NotKnown {
    why: "the certificate is chosen during the handshake (a variable in ssl_certificate)",
    remedy: "name the file",
};

/// What the configuration says and has loaded, the addresses of its contexts, and the core's answer.
///
/// # Safety
/// `servers` are those of the cycle whose configuration has just been read, and `main` is its own.
unsafe fn checked(
    main: &MainConf,
    records: Option<Records>,
    servers: &Servers,
    openssl: Result<&OpenSsl, &OpenSslError>,
) -> (Deployment, Vec<ContextAddress>, Verdict) {
    let mut loader = Loader::new(openssl);
    let mut deployment =
        Deployment { listeners: servers.listeners.clone(), records, ..Deployment::default() };
    let mut addresses = Vec::new();
    let mut context_of = HashMap::new();
    for (position, server) in servers.all.iter().enumerate() {
        let Some(own) = server.own.filter(|own| server.tls && !own.rejects) else { continue };
        context_of.insert(position, deployment.contexts.len());
        addresses.push(ContextAddress::from(own.context.cast_const()));
        let certificates = match own.variables {
            true => CHOSEN_LATER,
            // SAFETY: the context belongs to the configuration, and one thread reads it.
            false => unsafe { loader.loaded(own.context) },
        };
        let trust = loader.trust(server.conf().trusted.as_ref());
        deployment.contexts.push(Context { certificates, trust });
    }
    deployment.policies = loader::resolve(&main.policies);
    deployment.hosts = servers
        .all
        .iter()
        .map(|server| {
            let [enforced, report_only] = server.policies().map(Option::<&_>::cloned);
            Host {
                label: server.label.clone(),
                names: server.names.clone(),
                tls: server.tls,
                contexts: server
                    .presents
                    .iter()
                    .filter_map(|p| context_of.get(p))
                    .copied()
                    .collect(),
                check: server.check,
                enforced,
                report_only,
                accepted: Vec::new(),
                serving: Vec::new(),
            }
        })
        .collect();
    let checked = servers.all.iter().enumerate().filter(|(_, server)| server.is_checked(main));
    for (position, server) in checked {
        let Some(before) = served_before(&server.key()) else { continue };
        let now = presented(&deployment.hosts[position], &deployment);
        let host = &mut deployment.hosts[position];
        if now.is_like(before) {
            host.accepted.clone_from(&before.alarms);
        }
        if now.leaves != before.leaves {
            host.serving.clone_from(&before.leaves);
        }
    }
    let verdict = loader.check(&mut deployment);
    (deployment, addresses, verdict)
}

/// What `host` presents.
fn presented(host: &Host, deployment: &Deployment) -> Served {
    let contexts = host.contexts.iter().map(|context| &deployment.contexts[*context]);
    let chains: Vec<&Chain> = contexts
        .filter_map(|context| match &context.certificates {
            Certificates::Loaded(chains) => Some(chains),
            _ => None,
        })
        .flatten()
        .collect();
    let leaf = |chain: &&Chain| {
        let leaf = chain.leaf();
        Some(Serving { pin: leaf.pin()?, not_after: leaf.not_after_text().to_owned() })
    };
    let uses = [&host.enforced, &host.report_only].into_iter().flatten();
    let policies = uses.filter_map(|policy_use| {
        deployment.policies.iter().find(|policy| policy.name() == policy_use.policy)
    });
    let is_loaded = |context: &usize| {
        matches!(deployment.contexts[*context].certificates, Certificates::Loaded(_))
    };
    Served {
        is_known: host.contexts.iter().all(is_loaded),
        leaves: chains.iter().filter_map(leaf).collect(),
        chains: chains
            .iter()
            .map(|chain| chain.certificates().iter().map(|c| c.pin()).collect())
            .collect(),
        pins: policies.flat_map(Policy::distinct_pins).collect(),
        alarms: Vec::new(),
    }
}

/// What the running configuration presents for a server.
fn served_before(key: &ServerKey) -> Option<&'static Served> {
    // SAFETY: nginx's own current cycle lives until the one being read has taken its place. A
    // configuration of ours is in it only where this very module, at this very address, was loaded
    // in it: after an update of the file, its objects may have another form.
    unsafe {
        if !ngx::is_loaded_in(ngx_cycle, own_module()) {
            return None;
        }
        let main: *mut MainConf = ngx::http_main_conf(ngx_cycle.cast_const(), own_module());
        main.as_ref()?.served.get(key)
    }
}
