//! Whether the configuration in effect has this module.

use std::sync::atomic::{AtomicBool, Ordering};

use nginx_sys::ngx_cycle;

use crate::{ngx, ngx_http_hpkp_module};

/// Whether the configuration in effect has this module. Where nginx gives a configuration up after
/// it has rebuilt the chain of filters, the chain stands in the master all the same, and workers that
/// are replaced come here with requests of a configuration that knows nothing of us.
static ACTIVE: AtomicBool = AtomicBool::new(false);

/// A configuration is about to be read, perhaps in vain.
pub(crate) fn prepare() {
    // SAFETY: nginx's current cycle is live, or null before the first.
    let active = unsafe { ngx::is_loaded_in(ngx_cycle, &raw const ngx_http_hpkp_module) };
    ACTIVE.store(active, Ordering::Relaxed);
}

/// The configuration that was read takes effect.
pub(crate) fn activate() {
    ACTIVE.store(true, Ordering::Relaxed);
}

/// Whether it does.
#[inline]
pub(crate) fn is_active() -> bool {
    ACTIVE.load(Ordering::Relaxed)
}
