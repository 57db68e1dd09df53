//! The gate: the check of a whole configuration.
//!
//! At a config test, and before `-k graceful` sends its signal, the gate runs in `check_config`, where a configuration
//! can still be refused, and reads the certificate files. At a start and a reload it runs in `post_config` after all
//! other modules, and uses the certificates that mod_ssl has loaded. In a running parent an error there would end the
//! server, so nothing is refused.

use std::collections::HashMap;
use std::env;
use std::ffi::c_int;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use hpkp_core::check::{Certificates, Deployment, TrustSetting, Verdict};
use hpkp_core::finding::{Check, Finding};
use hpkp_server::failure::{self, LogLine, Phase};
use hpkp_server::httpd::{self as model, NOT_YET};
use hpkp_server::journal::{Journal, Predecessor};
use hpkp_server::kept::{Keeping, Replacement};
use hpkp_server::living::{self, Pid};
use hpkp_server::loader::Loader;
use hpkp_server::openssl::{OpenSsl, OpenSslError, SslCtx};
use hpkp_server::sending::{self, ContextAddress};

use crate::bindings::{
    APR_HOOK_MIDDLE, APR_HOOK_REALLY_LAST, HTTP_INTERNAL_SERVER_ERROR, ap_get_server_description,
    ap_hook_check_config, ap_hook_post_config, ap_hook_pre_config, apr_optional_hook_add,
    apr_pool_t, server_rec,
};
use crate::boundary::{self, OnPanic};
use crate::conf;
use crate::conf::{Response, ServerConf};
use crate::connection;
use crate::cstr;
use crate::fork;
use crate::httpd::{self, OK};
use crate::invoker;
use crate::kept;
use crate::log;
use crate::missing;
use crate::mod_ssl;
use crate::phase::{self, Purpose};
use crate::shutdown;
use crate::vhost::{self, Server};

/// The variable that lets a test pass where it would be refused: for placeholder certificates.
const OVERRIDE: &str = "HPKP_CHECK";

/// mod_ssl's signature for `init_server`.
type InitServer =
    unsafe extern "C" fn(*mut server_rec, *mut apr_pool_t, c_int, *mut SslCtx) -> c_int;

/// Registers the hook that can refuse a configuration. It is registered by itself, so that it also refuses if the other
/// hooks could not be registered.
///
/// # Safety
/// httpd is calling `register_hooks`.
pub(crate) unsafe fn register_test() {
    let none = ptr::null();
    // SAFETY: by the caller's promise httpd accepts hooks now; null stands for an empty list of modules.
    unsafe { ap_hook_check_config(Some(check_config), none, none, APR_HOOK_MIDDLE) };
}

/// # Safety
/// httpd is calling `register_hooks`.
pub(crate) unsafe fn register() {
    let none = ptr::null();
    // SAFETY: as in `register_test`. `apr_optional_hook_add` takes a function of any type; mod_ssl calls it as declared
    // by APR_DECLARE_EXTERNAL_HOOK(ssl, SSL, int, init_server, (server_rec *, apr_pool_t *, int, SSL_CTX *)) in
    // mod_ssl_openssl.h, which is `InitServer`.
    unsafe {
        ap_hook_pre_config(Some(pre_config), none, none, APR_HOOK_MIDDLE);
        ap_hook_post_config(Some(post_config), none, none, APR_HOOK_REALLY_LAST);
        let hook: InitServer = init_server;
        apr_optional_hook_add(
            c"init_server".as_ptr(),
            Some(std::mem::transmute::<InitServer, unsafe extern "C" fn()>(hook)),
            none,
            none,
            APR_HOOK_MIDDLE,
        );
    }
}

const REFUSED: c_int = HTTP_INTERNAL_SERVER_ERROR;

fn after(on_panic: OnPanic) -> c_int {
    on_panic.either(REFUSED, OK)
}

/// The result for the case that an earlier hook has failed in which httpd cannot refuse.
fn refuse_if_possible() -> c_int {
    if phase::can_refuse() { REFUSED } else { OK }
}

unsafe extern "C" fn pre_config(
    pool: *mut apr_pool_t,
    _: *mut apr_pool_t,
    _: *mut apr_pool_t,
) -> c_int {
    boundary::catch_config_hook("pre_config", after, || {
        // SAFETY: httpd calls this hook with `pconf`, after `ap_read_config` has built the tree of directives and
        // before `ap_process_config_tree` executes them.
        unsafe {
            let is_start = match phase::purpose(pool) {
                Purpose::Serve => true,
                Purpose::Test => why_lenient().is_some(),
                Purpose::ReloadSignal | Purpose::Other => false,
            };
            missing::hide(pool, is_start);
        }
        if phase::is_first_reading() && fork::close_descriptors_in_children() {
            log::keep_terminal();
        }
        OK
    })
}

unsafe extern "C" fn check_config(
    pool: *mut apr_pool_t,
    _: *mut apr_pool_t,
    _: *mut apr_pool_t,
    main: *mut server_rec,
) -> c_int {
    boundary::catch_config_hook("check_config", after, || {
        // The server has left the terminal by now, so later forks are not the server itself.
        log::expect_detaching(false);
        // SAFETY: httpd calls this hook with `pconf` and the main server, after it has executed the directives and
        // merged the objects of the servers (`ap_fixup_virtual_hosts`), in its main thread. `ap_get_server_description`
        // returns a string that lives as long as `pconf`.
        unsafe {
            missing::put_back();
            let purpose = phase::purpose(pool);
            if purpose == Purpose::Other {
                return OK;
            }
            if boundary::has_failed() {
                return refuse_if_possible();
            }
            if !connection::is_supported() {
                let version = cstr::text(ap_get_server_description());
                let text = format!(
                    "hpkp: mod_hpkp requires Apache httpd 2.4.47 or later, this is {version}"
                );
                log::write_startup(&text);
                return refuse_if_possible();
            }
            match purpose {
                Purpose::Test | Purpose::ReloadSignal if !test(pool, main, purpose) => REFUSED,
                _ => OK,
            }
        }
    })
}

/// mod_ssl's hook: the certificates of a server have been loaded.
unsafe extern "C" fn init_server(
    server: *mut server_rec,
    _: *mut apr_pool_t,
    is_proxy: c_int,
    context: *mut SslCtx,
) -> c_int {
    boundary::catch_config_hook("init_server", after, || {
        if is_proxy == 0 {
            // SAFETY: mod_ssl's `ssl_init_Module` calls this hook in its `post_config`, with a live server whose object
            // httpd has made.
            if let Some(conf) = unsafe { conf::server_conf(server) } {
                // SAFETY: httpd's main thread runs `post_config`, and none of the hooks of this module, which could
                // hold a reference to the object, is running.
                unsafe { (*conf.as_ptr()).context = context };
            }
        }
        OK
    })
}

unsafe extern "C" fn post_config(
    pool: *mut apr_pool_t,
    _: *mut apr_pool_t,
    temporary: *mut apr_pool_t,
    main: *mut server_rec,
) -> c_int {
    boundary::catch_config_hook("post_config", after, || {
        if boundary::has_failed() {
            return refuse_if_possible();
        }
        // SAFETY: httpd calls this hook with `pconf`, a pool for this reading, and the main server of the complete
        // configuration.
        if unsafe { serve(pool, temporary, main) } { OK } else { REFUSED }
    })
}

/// Why this test accepts what a reload would refuse, as a clause; none if it does not.
fn why_lenient() -> Option<String> {
    if env::var_os(OVERRIDE).is_some_and(|value| value == "warn") {
        return Some("HPKP_CHECK=warn is set".to_owned());
    }
    let script = invoker::init_script()?;
    Some(format!("\"{script}\" stops the server when the test fails"))
}

/// Checks the certificates that a start or a reload would load. Returns whether they are accepted.
///
/// # Safety
/// `main` is the main server of the configuration for which httpd runs `check_config`, and `pool` is live.
unsafe fn test(pool: *mut apr_pool_t, main: *mut server_rec, purpose: Purpose) -> bool {
    // SAFETY: by the caller's promise; httpd does nothing until this hook returns, so nothing changes the objects.
    let (conf, mut servers) = unsafe { (conf::settled_conf(main), vhost::all(main)) };
    // httpd calls this module only if it has its slot.
    let Some(conf) = conf else { return false };
    if !servers.iter().any(|server| server.settings.uses_policy())
        && conf.global.published.is_empty()
        && !missing::are_any()
    {
        return true;
    }
    let lenient = (purpose == Purpose::Test).then(why_lenient).flatten();
    let is_lenient = lenient.is_some();
    if let Some(why) = lenient {
        for server in &mut servers {
            server.check = Check::Warn;
        }
        let text = format!("hpkp: {why}, so this test accepts what a reload would refuse");
        log::write_startup(&text);
    }
    let difference = match purpose {
        // SAFETY: by the caller's promise the pool is live.
        Purpose::ReloadSignal => unsafe { phase::difference_to_running(pool) },
        _ => None,
    };
    if let Some(difference) = difference {
        log::write_startup(&format!("hpkp: {difference}: it may load another configuration"));
    }
    let openssl = httpd::openssl();
    // SAFETY: by the caller's promise httpd has just built the tree of directives.
    let directives = unsafe { mod_ssl::read(pool) };
    let mut loader = Loader::new(openssl.as_ref());
    let has_tls = httpd::is_loaded(c"mod_ssl.c");
    // SAFETY: the servers are those of `main`.
    let mut presented = unsafe { kept::named(&servers, &directives, &mut loader) };
    let mut absent = kept::replace_missing(&servers, &directives, &mut presented);
    let kept = kept::contexts(&servers, &presented, &directives);
    let (tls, listening) = ((presented, &directives.others), vhost::listening());
    let (mut deployment, _) =
        model::deployment(&servers, tls, &listening, &mut loader, &conf.global);
    let mut verdict = loader.check(&mut deployment);
    // A test before a start must check the certificates that the start would present.
    if let Some(keeping) = model::keeping(&servers, kept, &conf.global, is_lenient) {
        let check = |deployment: &mut Deployment, loader: &Loader<'_>| loader.check(deployment);
        let put = |context: usize, _: &Replacement| {
            absent.retain(|(at, _)| *at != Some(context));
            Ok(())
        };
        verdict = keeping.replace(&mut deployment, verdict, &mut loader, check, put);
    }
    let judgement = judged(&verdict, has_tls, Phase::Test, conf.global.on_start, || None);
    judgement.lines.iter().for_each(log::line_of_test);
    // These are mod_ssl's errors about missing files, which `missing` has hidden from it.
    for (_, why) in &absent {
        log::write_startup(why);
    }
    !judgement.refused && absent.is_empty()
}

/// The system's store from the first reading of a start. The second reading follows at once, when the caller may
/// already wait for the server.
static SYSTEM: Mutex<Option<Arc<TrustSetting>>> = Mutex::new(None);

/// Checks the loaded certificates and prepares the fields to send. Returns whether the configuration is accepted.
///
/// # Safety
/// `main` is the main server of the configuration for which httpd runs `post_config`, `pool` is `pconf`, and
/// `temporary` is live.
unsafe fn serve(pool: *mut apr_pool_t, temporary: *mut apr_pool_t, main: *mut server_rec) -> bool {
    // SAFETY: by the caller's promise. `init_server`, which changes objects, has run before: this is the last function
    // in `post_config` (APR_HOOK_REALLY_LAST). Only `activate` changes them below, when `conf` is not used any more.
    let (conf, servers) = unsafe { (conf::settled_conf(main), vhost::all(main)) };
    // httpd calls this module only if it has its slot.
    let Some(conf) = conf else { return !phase::can_refuse() };
    if !servers.iter().any(|server| server.settings.uses_policy())
        && conf.global.published.is_empty()
    {
        log::release_terminal();
        return true;
    }
    // SAFETY: by the caller's promise.
    unsafe { check_loaded(pool, temporary, conf, servers) }
}

/// [`serve`] for a configuration with something to check.
///
/// # Safety
/// As for [`serve`]; `conf` is the object of the main server, and `servers` are all servers of the configuration.
unsafe fn check_loaded(
    pool: *mut apr_pool_t,
    temporary: *mut apr_pool_t,
    conf: &ServerConf,
    servers: Vec<Server>,
) -> bool {
    let openssl = httpd::openssl();
    let mut loader = Loader::new(openssl.as_ref());
    // The store is taken, so that a later restart reads it again.
    let system = SYSTEM.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(system) = system {
        loader.adopt_system(system);
    }
    // SAFETY: by the caller's promise httpd has built the tree of directives in this reading.
    let directives = unsafe { mod_ssl::read(temporary) };
    // SAFETY: by the caller's promise.
    let (addresses, presented) = unsafe { loaded(&servers, &directives, &mut loader) };
    let kept = kept::contexts(&servers, &presented, &directives);
    let (tls, listening) = ((presented, &directives.others), vhost::listening());
    let (mut deployment, journal) =
        model::deployment(&servers, tls, &listening, &mut loader, &conf.global);
    let mut verdict = loader.check(&mut deployment);
    verdict.findings.extend(kept::found());
    verdict.findings.sort_by_key(|finding| finding.class);
    let has_tls = httpd::is_loaded(c"mod_ssl.c");
    let phase = phase::serving();
    let judgement = judged(&verdict, has_tls, phase, conf.global.on_start, || {
        // This server has begun to listen by now.
        let claimant = || journal.as_ref().and_then(Journal::claimant);
        living::master_at(&living::own_addresses()).or_else(claimant)
    });

    // A start reads its configuration twice: before it leaves the terminal, and after that.
    let is_first = phase == Phase::Start && phase::is_first_reading();
    if is_first {
        judgement.lines.iter().for_each(log::line_to_terminal);
    }
    if !is_first || judgement.refused {
        judgement.lines.iter().for_each(log::line);
    }
    if judgement.refused {
        return false;
    }
    if is_first {
        *SYSTEM.lock().unwrap_or_else(PoisonError::into_inner) = loader.system();
        log::expect_detaching(true);
    } else {
        if let Some(journal) = journal {
            let finding = journal.record(&deployment, &mut verdict, Predecessor::None);
            let mut findings: Vec<Finding> = finding.into_iter().collect();
            let keeping = model::keeping(&servers, kept, &conf.global, true);
            if let (Some(keeping), Ok(openssl), true) = (keeping, &openssl, findings.is_empty()) {
                findings = keep(&keeping, &servers, (&deployment, &verdict), openssl);
            }
            let lines = findings.iter().flat_map(|finding| failure::lines_after(finding, phase));
            lines.for_each(|line| log::line(&line));
            // SAFETY: by the caller's promise the pool is `pconf`.
            unsafe { shutdown::register(pool, journal) };
        }
        drop(loader);
        activate(&servers, &deployment, &verdict, &addresses, openssl);
        // The terminal is released last: a caller that waits for the end of the start's output then finds a server
        // that has completed the second reading.
        log::release_terminal();
    }
    true
}

/// Keeps the certificates of servers without a lock-out, and returns findings about those that cannot be kept.
fn keep(
    keeping: &Keeping,
    servers: &[Server],
    (deployment, verdict): (&Deployment, &Verdict),
    openssl: &OpenSsl,
) -> Vec<Finding> {
    let contexts = servers.iter().map(|server| server.handle.conf().context);
    let contexts: Vec<*mut SslCtx> = contexts.filter(|context| !context.is_null()).collect();
    // SAFETY: mod_ssl has made the contexts in this reading and frees them when `pconf` is cleared
    // (`ssl_init_ModuleKill`). Its `post_config`, which changes them, has ended, and no connection uses them yet.
    let pairs = |context: usize| unsafe { openssl.pairs(contexts[context]) };
    keeping.keep(deployment, verdict, pairs)
}

/// The contexts and the certificates of the servers that have a context.
///
/// # Safety
/// The servers are those of the configuration for which httpd runs `post_config`, and mod_ssl's hook has run.
unsafe fn loaded(
    servers: &[Server],
    directives: &mod_ssl::TlsDirectives,
    loader: &mut Loader<'_>,
) -> (Vec<ContextAddress>, Vec<Option<Certificates>>) {
    let (mut addresses, mut presented) = (Vec::new(), Vec::new());
    let mut leaves = HashMap::new();
    for server in servers {
        let context = server.handle.conf().context;
        presented.push((!context.is_null()).then(|| {
            addresses.push(ContextAddress::from(context.cast_const()));
            // SAFETY: by the caller's promise mod_ssl has made the context in this reading and does not change it any
            // more.
            let certificates = unsafe { loader.loaded(context) };
            if is_fallback(&certificates) {
                return NOT_YET;
            }
            // SAFETY: by the caller's promise the server is live.
            let place = unsafe { mod_ssl::place(server.handle.record) };
            directives.named(server, &place, certificates, &mut leaves)
        }));
    }
    (addresses, presented)
}

fn activate(
    servers: &[Server],
    deployment: &Deployment,
    verdict: &Verdict,
    addresses: &[ContextAddress],
    openssl: Result<OpenSsl, OpenSslError>,
) {
    // Without OpenSSL it is not known which context a connection uses.
    let Ok(openssl) = openssl else { return };
    let openssl = Arc::new(openssl);
    let fields = sending::fields(deployment, verdict, addresses).into_iter().zip(&verdict.hosts);
    for (server, (fields, host)) in servers.iter().zip(fields) {
        // SAFETY: `vhost::all` took the pointer from a live server of this configuration. httpd's main thread runs
        // this, no request is served yet, and no reference to the object of any server is in use.
        unsafe {
            let conf = server.handle.conf.as_ptr();
            (*conf).active = Some(openssl.clone());
            (*conf).response = Response::new(fields, host.header_names.clone());
        }
    }
}

/// Whether the certificate is mod_md's temporary one, which it presents until it gets a real one.
fn is_fallback(certificates: &Certificates) -> bool {
    let Certificates::Loaded(chains) = certificates else { return false };
    chains
        .iter()
        .any(|chain| chain.leaf().subject().to_string().contains("Apache Managed Domain Fallback"))
}

/// The judgement of the failure table, with the findings that only httpd can have.
fn judged(
    verdict: &Verdict,
    has_tls: bool,
    phase: Phase,
    on_start: Option<failure::OnStart>,
    beside: impl FnMut() -> Option<Pid>,
) -> failure::Judgement {
    let on_start = on_start.unwrap_or_default();
    let mut judgement = failure::judge_beside(verdict, phase, on_start, beside);
    if !has_tls {
        let finding = model::without_tls();
        let lines = failure::lines_after(&finding, phase);
        // These findings are not caused by a directive.
        judgement.lines.extend(lines.map(|line| LogLine { at: None, ..line }));
    }
    judgement
}
