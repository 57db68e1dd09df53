//! The module's configuration: one object for `http`, one for each server.

use std::collections::HashMap;
use std::ffi::{c_char, c_void};
use std::path::PathBuf;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use hpkp_core::check::{Alarm, Deployment, Serving, Verdict};
use hpkp_core::finding::{Finding, Location};
use hpkp_core::pin::Pin;
use hpkp_core::published::CertificateIdentity;
use hpkp_server::failure::{LogLine, Phase};
use hpkp_server::guard::Sight;
use hpkp_server::journal::Journal;
use hpkp_server::kept::Keeping;
use hpkp_server::nginx::{Choosers, ServerKey};
use hpkp_server::openssl::{OpenSsl, SslCtx};
use hpkp_server::sending::ContextAddress;
use hpkp_server::setting::{GlobalSettings, ServerSettings};
use nginx_sys::{ngx_conf_t, ngx_shm_zone_t, ngx_uint_t};

use crate::boundary::{self, OnPanic};
use crate::chooser::Watched;
use crate::guard::{GivenValues, Worker};
use crate::ngx::{CONF_ERROR, CONF_OK};
use crate::response::{Replaceable, Response};
use crate::{active, pool};
use crate::{
    ngx_http_hpkp_early_module, ngx_http_hpkp_gate_module, ngx_http_hpkp_module,
    ngx_stream_hpkp_module,
};

/// The settings and the state of the whole `http` block.
pub(crate) struct MainConf {
    pub(crate) global: GlobalSettings,
    /// Whether the check waits until all blocks have been read, see `rehearsal`.
    pub(crate) is_deferred: bool,
    /// How many of these blocks had not been read when `http` ended.
    pub(crate) blocks_to_come: usize,
    /// The journal of this configuration's records.
    pub(crate) journal: Option<Journal>,
    /// The work to do once nothing can refuse the configuration any more.
    pub(crate) pending: Option<Pending>,
    /// The log lines of a start, to be repeated once the error log is open.
    pub(crate) alarms: Vec<LogLine>,
    /// The directives of other modules whose handlers `chosen` has replaced.
    pub(crate) watched: Vec<Watched>,
    /// The files of other modules that can choose certificates without a directive.
    pub(crate) unseen_choosers: Vec<PathBuf>,
    /// What this configuration presents, by server, for the next reload.
    pub(crate) served: HashMap<ServerKey, Served>,
    /// Findings about certificates that nginx could not load, and that kept ones replace.
    pub(crate) broken: Vec<Finding>,
    /// The memory that workers share for guards; null if there is none.
    pub(crate) zone: *mut ngx_shm_zone_t,
    /// The state of the records before they were read, if workers watch them.
    pub(crate) sight: Option<Sight>,
    /// The guard for workers, once the configuration has taken effect.
    pub(crate) worker: Option<Worker>,
}

/// The work of an accepted configuration when it takes effect. Until then nginx may still reject it.
pub(crate) struct Pending {
    pub(crate) phase: Phase,
    pub(crate) deployment: Deployment,
    pub(crate) verdict: Verdict,
    /// The addresses of the deployment's contexts.
    pub(crate) addresses: Vec<ContextAddress>,
    /// For each host, its server and that server's own context.
    pub(crate) servers: Vec<(*mut ServerConf, Option<*mut SslCtx>)>,
    /// For each server of `http`, the place of its guard's directive, and whether it keeps files.
    pub(crate) guards: Vec<Option<(Location, bool)>>,
    /// The contexts whose certificates other code can replace.
    pub(crate) replaceable: Vec<Replaceable>,
    /// nginx's OpenSSL. Without it, it is not known which context a connection uses.
    pub(crate) openssl: Option<OpenSsl>,
    /// Keeps last good certificates, if that is configured.
    pub(crate) keeping: Option<Keep>,
}

/// Keeps last good certificates once the configuration is on record.
pub(crate) struct Keep {
    pub(crate) keeping: Keeping,
    /// The contexts of the deployment.
    pub(crate) contexts: Vec<*mut SslCtx>,
}

impl Keep {
    /// Keeps the certificates of hosts without a lock-out, and returns findings about those that cannot be kept.
    pub(crate) fn keep(
        &self,
        deployment: &Deployment,
        verdict: &Verdict,
        openssl: &OpenSsl,
    ) -> Vec<Finding> {
        // SAFETY: nginx frees a context with the pool of its cycle, which is about to take effect. Only the master's
        // thread, which runs this, uses the contexts now.
        let pairs = |context: usize| unsafe { openssl.pairs(self.contexts[context]) };
        self.keeping.keep(deployment, verdict, pairs)
    }
}

/// How many configurations use this module. Each process makes and drops them in its main thread.
static CONFIGURATIONS: AtomicUsize = AtomicUsize::new(0);

impl MainConf {
    fn new() -> Self {
        CONFIGURATIONS.fetch_add(1, Ordering::Relaxed);
        Self {
            global: GlobalSettings::default(),
            is_deferred: false,
            blocks_to_come: 0,
            journal: None,
            pending: None,
            alarms: Vec::new(),
            watched: Vec::new(),
            unseen_choosers: Vec::new(),
            served: HashMap::new(),
            broken: Vec::new(),
            zone: ptr::null_mut(),
            sight: None,
            worker: None,
        }
    }
}

impl Drop for MainConf {
    /// Resets the indexes of this file's modules when no configuration uses them any more. nginx assigns an index once
    /// while a file is loaded, and reuses it after no configuration uses the module. This file stays loaded, so
    /// without the reset its modules would return with indexes of other modules, and nginx would exit.
    fn drop(&mut self) {
        if CONFIGURATIONS.fetch_sub(1, Ordering::Relaxed) == 1 {
            // SAFETY: nginx reads these numbers only for modules of a live cycle, and no live cycle has these modules
            // any more. This runs in the thread that reads and gives up cycles.
            unsafe {
                for module in [
                    &raw mut ngx_http_hpkp_module,
                    &raw mut ngx_http_hpkp_early_module,
                    &raw mut ngx_http_hpkp_gate_module,
                    &raw mut ngx_stream_hpkp_module,
                ] {
                    (*module).index = NO_NUMBER;
                    (*module).ctx_index = NO_NUMBER;
                }
            }
        }
    }
}

/// nginx's `NGX_MODULE_UNSET_INDEX`, a macro that the bindings lack.
const NO_NUMBER: ngx_uint_t = ngx_uint_t::MAX;

/// What a server presents.
pub(crate) struct Served {
    /// Whether all of its certificates could be read.
    pub(crate) is_known: bool,
    pub(crate) leaves: Vec<Serving>,
    /// The identity of the certificates that it sends: the key of each leaf, and the certificates above.
    pub(crate) chains: Vec<(Option<Pin>, CertificateIdentity)>,
    /// The pins of its policies.
    pub(crate) pins: Vec<Pin>,
    /// The alarms with which the configuration was accepted.
    pub(crate) alarms: Vec<Alarm>,
}

impl Served {
    /// Whether clients get the same certificates and the same pins.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.is_known && other.is_known && self.chains == other.chains && self.pins == other.pins
    }
}

/// The settings of a server, or of `http` for servers without their own.
#[derive(Default)]
pub(crate) struct ServerConf {
    pub(crate) settings: ServerSettings,
    /// Directives of other modules that choose or replace the certificate.
    pub(crate) choosers: Choosers,
    /// The values for its guard.
    pub(crate) given: Option<GivenValues>,
    /// The guard of its certificate, once the configuration has taken effect.
    pub(crate) guarded: Option<Guarded>,
    /// The fields that it sends; filled in once the configuration has been accepted.
    pub(crate) response: Option<Response>,
}

/// The guard of a server's certificate.
pub(crate) struct Guarded {
    /// The position of the host in the worker.
    pub(crate) host: usize,
    pub(crate) values: GivenValues,
}

pub(crate) unsafe extern "C" fn create_main(cf: *mut ngx_conf_t) -> *mut c_void {
    boundary::reset();
    active::prepare();
    // SAFETY: `ngx_http_block` calls this hook with a live `cf`.
    unsafe { create("create_main_conf", cf, MainConf::new) }
}

pub(crate) unsafe extern "C" fn create_server(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: `ngx_http_block` and `ngx_http_core_server` call this hook with a live `cf`.
    unsafe { create("create_srv_conf", cf, ServerConf::default) }
}

/// # Safety
/// `cf` is live.
unsafe fn create<T>(hook: &str, cf: *mut ngx_conf_t, new: fn() -> T) -> *mut c_void {
    // SAFETY: by the caller's promise; `cf->pool` is the pool of the cycle.
    let make = || unsafe { pool::alloc_in_pool((*cf).pool, new()) };
    let after = |on_panic| match on_panic {
        OnPanic::Reject => ptr::null_mut(),
        OnPanic::Continue => make(),
    };
    boundary::catch_config_hook(hook, after, make).cast()
}

pub(crate) unsafe extern "C" fn merge_server(
    _cf: *mut ngx_conf_t,
    outer: *mut c_void,
    inner: *mut c_void,
) -> *mut c_char {
    let after = |on_panic: OnPanic| on_panic.either(CONF_ERROR, CONF_OK);
    boundary::catch_config_hook("merge_srv_conf", after, || {
        // SAFETY: `ngx_http_merge_servers` passes two objects that `create_server` made: that of `http` and that of one
        // server. Nothing else refers to them during the call.
        let (outer, inner) =
            unsafe { (&*outer.cast::<ServerConf>(), &mut *inner.cast::<ServerConf>()) };
        inner.settings.inherit(&outer.settings);
        inner.choosers.inherit(&outer.choosers);
        inner.given = inner.given.or(outer.given);
        CONF_OK
    })
}
