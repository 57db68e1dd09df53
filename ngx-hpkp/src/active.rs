//! Whether the configuration in effect uses this module.

use std::sync::atomic::{AtomicBool, Ordering};

use nginx_sys::ngx_cycle;

use crate::{ngx, ngx_http_hpkp_module};

/// Whether the configuration in effect uses this module. If nginx rejects a configuration after it has rebuilt the
/// chain of filters, the master keeps the new chain. Workers that are replaced later then call the filters for
/// requests of the old configuration, which may not use this module.
static ACTIVE: AtomicBool = AtomicBool::new(false);

/// Called when nginx is about to read a configuration, which it may reject later.
pub(crate) fn prepare() {
    // SAFETY: `ngx_cycle` points to the initial cycle of `main`, which has no `conf_ctx`, or to the cycle in effect,
    // which nginx destroys only after the new one has taken its place.
    let active = unsafe { ngx::is_loaded_in(ngx_cycle, &raw const ngx_http_hpkp_module) };
    ACTIVE.store(active, Ordering::Relaxed);
}

/// Called when the configuration takes effect.
pub(crate) fn activate() {
    ACTIVE.store(true, Ordering::Relaxed);
}

/// Whether the configuration in effect uses this module.
#[inline]
pub(crate) fn is_active() -> bool {
    ACTIVE.load(Ordering::Relaxed)
}
