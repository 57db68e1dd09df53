//! The gate: the check of a whole configuration, after nginx has read all of it and before anything
//! of it takes effect.
//!
//! The gate has a `postconfiguration` of its own, before that of the first filter, where all servers are known with
//! their addresses and certificates. A later refusal could take down a running server: `postconfiguration` rebuilds
//! the chain of filters in the master, which continues with the old configuration, and each worker that the master
//! replaces inherits that chain. A refusal half-way leaves an incomplete chain. A refusal at the end leaves a chain
//! with modules that were just unloaded, if the refused configuration was the first to load them.

use std::collections::HashMap;

use hpkp_core::check::{Certificates, Concern, Deployment, Host, Serving, Verdict};
use hpkp_core::finding::{Check, Location};
use hpkp_core::path::Chain;
use hpkp_core::policy::Policy;
use hpkp_server::failure::{self, Answer, Judgement, LogLine, Phase};
use hpkp_server::guard::Sight;
use hpkp_server::journal::Journal;
use hpkp_server::kept::{Keeping, Replacement};
use hpkp_server::living;
use hpkp_server::loader::{Loader, Names};
use hpkp_server::nginx::{Built, Configuration, ServerKey};
use hpkp_server::openssl::{OpenSsl, OpenSslError, SslCtx};
use hpkp_server::sending::ContextAddress;
use nginx_sys::{
    NGX_LOG_WARN, ngx_conf_t, ngx_cycle, ngx_cycle_t, ngx_http_ssl_module, ngx_int_t, ngx_log_t,
    ngx_ssl_certificate_name_index,
};

use crate::boundary::{self, OnPanic};
use crate::conf::{Keep, MainConf, Pending, Served, ServerConf};
use crate::ngx::{self, ERROR, OK, own_module};
use crate::outside::{self, Outside};
use crate::response::Replaceable;
use crate::server::{self, Handle, Server, Servers};
use crate::{log, phase, rehearsal};

/// The variable that lets a test pass where it would be refused: for the test that a service runs
/// before each start, and for placeholder certificates.
const OVERRIDE: &str = "HPKP_CHECK";

/// The warning of such a test.
const OVERRIDDEN: &str =
    "hpkp: HPKP_CHECK=warn is set, so this test accepts what a reload would refuse";

pub(crate) unsafe extern "C" fn postconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    let after = |on_panic: OnPanic| on_panic.either(ERROR, OK);
    boundary::catch_config_hook("gate", after, || {
        let Some(phase) = phase::current() else { return OK };
        if boundary::has_failed() {
            return OK;
        }
        // SAFETY: `ngx_http_block` calls this hook with a live `cf`, after it has read `http` and merged its servers.
        unsafe {
            let cycle = (*cf).cycle;
            let accepted = if rehearsal::is_needed(cf) {
                rehearsal::defer(cycle, phase)
            } else {
                pass(cycle, phase)
            };
            if accepted { OK } else { ERROR }
        }
    })
}

/// Checks the configuration of `cycle`. Returns whether it is accepted.
///
/// # Safety
/// nginx calls `postconfiguration` or `late::init_conf` for `cycle`, and nothing else refers to this module's main
/// configuration.
pub(crate) unsafe fn pass(cycle: *mut ngx_cycle_t, phase: Phase) -> bool {
    // SAFETY: by the caller's promise.
    let main = unsafe { ngx::http_main_conf::<MainConf>(cycle, own_module()).as_mut() };
    let Some(main) = main else { return true };
    // SAFETY: by the caller's promise nginx has read and merged `http`.
    let servers = unsafe { server::servers_of(cycle, &main.global.public_ports) };
    let has_records = !main.global.published.is_empty();
    let is_checked = |all: &Servers| all.any_policy() || all.any_guard() || has_records;
    let Some(servers) = servers.filter(is_checked) else { return true };
    // SAFETY: by the caller's promise nginx is not inside a block of `stream` or `mail`: each is read to its end or not
    // met.
    let outside = if has_records { unsafe { outside::read(cycle) } } else { Outside::default() };
    // SAFETY: by the caller's promise.
    unsafe { check_loaded(cycle, phase, main, servers, outside) }
}

/// [`pass`] for a configuration with something to check.
///
/// # Safety
/// As for [`pass`]; `main`, `servers` and `outside` are those of `cycle`.
unsafe fn check_loaded(
    cycle: *mut ngx_cycle_t,
    phase: Phase,
    main: &mut MainConf,
    mut servers: Servers,
    outside: Outside,
) -> bool {
    // SAFETY: by the caller's promise the cycle is live; `ngx_init_cycle` sets its log before it reads the
    // configuration.
    let log = unsafe { (*cycle).log };
    // SAFETY: `main` exists, so the cycle has an `http` block, for which `create_server` has made an object.
    let around = unsafe { &*ngx::http_conf::<ServerConf>(cycle, own_module()) };
    let mut check = around.settings.check.unwrap_or_default();
    // A test before a start must check the certificates that the start would present.
    let is_start = phase == Phase::Start || is_overridden();
    if is_overridden() {
        servers.all.iter_mut().for_each(|server| server.check = Check::Warn);
        check = Check::Warn;
        // SAFETY: the log of a live cycle.
        unsafe { log::write(log, NGX_LOG_WARN, OVERRIDDEN, None) };
    }
    let openssl = OpenSsl::used_by((&raw const ngx_http_ssl_module).cast());
    main.sight = servers.any_guard().then(|| Sight::new(&main.global.published));
    let configuration = Configuration {
        global: &main.global,
        around: &around.settings,
        check,
        servers: &servers,
        outside: &outside,
        unseen_choosers: &main.unseen_choosers,
    };
    // SAFETY: by the caller's promise.
    let Checked { deployment, journal, concern, addresses, contexts, keys, mut verdict, keeping } =
        unsafe { checked(&configuration, openssl.as_ref(), is_start) };
    main.sight = main.sight.take().map(|sight| sight.of(concern));
    verdict.findings.append(&mut main.broken);
    // SAFETY: by the caller's promise.
    let wanted = unsafe { server::addresses(&servers, cycle) };
    let judgement =
        failure::judge_beside(&verdict, phase, main.global.on_start.unwrap_or_default(), || {
            let claimant = || journal.as_ref().and_then(Journal::claimant);
            living::master_at(&wanted).or_else(claimant)
        });
    // SAFETY: the log of a live cycle.
    unsafe { write(log, &judgement) };
    if judgement.refused {
        return false;
    }
    main.keep_served(keys, &deployment, &verdict);
    main.alarms = alarms(judgement, phase);
    if phase != Phase::Test {
        let openssl = openssl.ok();
        let replaceable = replaceable(main, &servers.all, openssl.as_ref());
        main.journal = journal;
        main.pending = Some(Pending {
            phase,
            deployment,
            verdict,
            addresses,
            servers: servers.all.iter().map(|one| one.handle.sending()).collect(),
            guards: servers.all.iter().map(guard_of).collect(),
            replaceable,
            openssl,
            keeping: keeping.map(|keeping| Keep { keeping, contexts }),
        });
    }
    true
}

/// The place of the directive that guards a server, and whether accepted certificates are kept in files.
fn guard_of(server: &Server) -> Option<(Location, bool)> {
    let guard = server.settings.guard.as_ref().filter(|_| server.is_guarded())?;
    Some((guard.at.clone(), server.settings.keep.unwrap_or(true)))
}

/// The log lines that a start repeats once its error log is open.
fn alarms(judgement: Judgement, phase: Phase) -> Vec<LogLine> {
    let is_alarm = |line: &LogLine| phase == Phase::Start && line.answer == Answer::Alarm;
    judgement.lines.into_iter().filter(is_alarm).collect()
}

/// Whether this test must accept what a reload would refuse.
pub(crate) fn is_overridden() -> bool {
    phase::is_test() && std::env::var_os(OVERRIDE).is_some_and(|value| value == "warn")
}

/// Writes the findings, unless a rehearsal accepts the configuration: the master then writes them.
///
/// # Safety
/// `log` is live.
unsafe fn write(log: *mut ngx_log_t, judgement: &Judgement) {
    let is_written = judgement.refused || !phase::is_rehearsal();
    for line in judgement.lines.iter().filter(|_| is_written) {
        // SAFETY: by the caller's promise.
        unsafe { log::write_line(log, line) };
    }
}

impl MainConf {
    /// Keeps what an accepted configuration presents, for the reload after it.
    fn keep_served(
        &mut self,
        keys: Vec<Option<ServerKey>>,
        deployment: &Deployment,
        verdict: &Verdict,
    ) {
        let policies = deployment.policies_by_name();
        for ((key, host), verdict) in keys.into_iter().zip(&deployment.hosts).zip(&verdict.hosts) {
            let Some(key) = key.filter(|_| host.tls) else { continue };
            let presented = presented(host, deployment, &policies);
            let served = Served { alarms: verdict.alarms.clone(), ..presented };
            // If two blocks have the same names and addresses, nginx chooses the first.
            self.served.entry(key).or_insert(served);
        }
    }
}

/// The contexts whose certificates other code can replace, with those that are loaded.
fn replaceable(main: &MainConf, servers: &[Server], openssl: Option<&OpenSsl>) -> Vec<Replaceable> {
    let Some(openssl) = openssl else { return Vec::new() };
    let unseen = !main.unseen_choosers.is_empty();
    let of = servers
        .iter()
        .filter(|server| server.is_loaded() && (unseen || server.choosers.replaced_by.is_some()));
    of.filter_map(|server| server.handle.own)
        .map(|own| Replaceable {
            context: ContextAddress::from(own.context.cast_const()),
            // SAFETY: the context is in the cycle that is being checked; only this thread uses it.
            loaded: unsafe { openssl.certificates_of(own.context) },
            unseen,
        })
        .collect()
}

/// The deployment of a configuration, and the core's verdict.
struct Checked {
    deployment: Deployment,
    journal: Option<Journal>,
    /// Which records were read.
    concern: Concern,
    /// The addresses of the deployment's contexts.
    addresses: Vec<ContextAddress>,
    contexts: Vec<*mut SslCtx>,
    /// For each host, the key that identifies it, if its certificates are compared with pins.
    keys: Vec<Option<ServerKey>>,
    verdict: Verdict,
    /// Keeps last good certificates, if that is configured.
    keeping: Option<Keeping>,
}

/// Checks the configuration and the certificates that it has loaded. For `is_start` see [`Keeping`].
///
/// # Safety
/// The servers are those of the live cycle for which nginx calls a hook, and only this thread uses their contexts.
unsafe fn checked(
    configuration: &Configuration<'_, Handle>,
    openssl: Result<&OpenSsl, &OpenSslError>,
    is_start: bool,
) -> Checked {
    let inside = configuration.servers.all.iter().map(|server| &server.handle);
    let outside = configuration.outside.servers.iter().map(|server| &server.handle);
    let contexts = inside.chain(outside).filter_map(|handle| handle.own);
    let mut loader = Loader::new(openssl).with_names(Names {
        // SAFETY: `ngx_ssl_init` sets this number when nginx starts and nothing changes it later.
        index: unsafe { ngx_ssl_certificate_name_index },
        // SAFETY: by the caller's promise.
        files: contexts.flat_map(|own| unsafe { own.named_files() }).collect(),
    });
    let loaded = |loader: &mut Loader<'_>, handle: &Handle| match handle.own {
        // SAFETY: by the caller's promise.
        Some(own) => unsafe { loader.loaded(own.context) },
        // A server without a context presents no certificate.
        None => Certificates::Loaded(Vec::new()),
    };
    let built = configuration.build(&mut loader, loaded);
    let keeping = configuration.keeping(&built, is_start, |handle: &Handle| {
        // SAFETY: by the caller's promise.
        handle.own.map_or_else(Vec::new, |own| unsafe { own.keys() })
    });
    let Built { mut deployment, journal, concern, contexts, keys, .. } = built;
    let addresses = contexts.iter().filter_map(|handle| handle.context()).collect();
    let contexts: Vec<*mut SslCtx> =
        contexts.iter().filter_map(|handle| Some(handle.own?.context)).collect();
    // SAFETY: `compare` keeps no reference, and nginx, which has called this hook, gives no configuration up meanwhile.
    compare(unsafe { running() }, &keys, &mut deployment);
    // SAFETY: by the caller's promise.
    let put = |context: usize, found: &Replacement| unsafe {
        put(openssl.map_err(ToString::to_string)?, contexts[context], found)
    };
    let verdict =
        configuration.verdict_keeping(&mut deployment, &mut loader, keeping.as_ref(), put);
    Checked { deployment, journal, concern, addresses, contexts, keys, verdict, keeping }
}

/// Makes a context present kept certificates.
///
/// # Safety
/// The context is in the live cycle for which nginx calls a hook, and only this thread uses it.
unsafe fn put(openssl: &OpenSsl, context: *mut SslCtx, found: &Replacement) -> Result<(), String> {
    found.try_files(openssl)?;
    // SAFETY: by the caller's promise.
    match unsafe { openssl.present_alone(context, &found.paths, &found.leaves()) } {
        true => Ok(()),
        false => Err("OpenSSL does not present the last good certificate".to_owned()),
    }
}

/// Adds the alarms that the running configuration has accepted already, and the certificates that it serves.
fn compare(running: Option<&MainConf>, keys: &[Option<ServerKey>], deployment: &mut Deployment) {
    let Some(running) = running else { return };
    let policies = deployment.policies_by_name();
    let compared = keys.iter().zip(&deployment.hosts).map(|(key, host)| {
        let before = running.served.get(key.as_ref()?)?;
        Some((before, presented(host, deployment, &policies)))
    });
    let compared: Vec<_> = compared.collect();
    for (compared, host) in compared.into_iter().zip(&mut deployment.hosts) {
        let Some((before, now)) = compared else { continue };
        if now.is_like(before) {
            host.accepted.clone_from(&before.alarms);
        }
        if now.leaves != before.leaves {
            host.serving.clone_from(&before.leaves);
        }
    }
}

/// What `host` presents.
fn presented(host: &Host, deployment: &Deployment, policies: &HashMap<&str, &Policy>) -> Served {
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
    let policies = uses.filter_map(|policy_use| policies.get(policy_use.policy.as_str()));
    let is_loaded = |context: &usize| {
        matches!(deployment.contexts[*context].certificates, Certificates::Loaded(_))
    };
    Served {
        is_known: host.contexts.iter().all(is_loaded),
        leaves: chains.iter().filter_map(leaf).collect(),
        chains: chains.iter().map(|chain| (chain.leaf().pin(), chain.identity())).collect(),
        pins: policies.flat_map(|policy| policy.distinct_pins()).collect(),
        alarms: Vec::new(),
    }
}

/// This module's part of the running configuration, if there is one.
///
/// # Safety
/// The reference is used only in a hook that nginx calls while it reads the next configuration: nginx gives the running
/// one up later, when the next one has taken its place.
unsafe fn running<'a>() -> Option<&'a MainConf> {
    // SAFETY: by the caller's promise `ngx_cycle` stays live. The cycle has an object of this type only if this module,
    // at this address, is loaded in it: another build of the module, before an upgrade, may have another layout.
    unsafe {
        if !ngx::is_loaded_in(ngx_cycle, own_module()) {
            return None;
        }
        let main: *mut MainConf = ngx::http_main_conf(ngx_cycle.cast_const(), own_module());
        main.as_ref()
    }
}
