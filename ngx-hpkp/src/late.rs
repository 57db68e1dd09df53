//! The second gate, for `stream` and `mail` blocks that follow `http` in the file.
//!
//! nginx reads its configuration in order. If `stream` or `mail` comes after `http`, the check waits until the whole
//! file has been read. A reload has been rehearsed before, see `rehearsal`.

use std::ffi::{c_char, c_void};

use hpkp_server::failure::Phase;
use nginx_sys::{ngx_cycle, ngx_cycle_t};

use crate::boundary::{self, OnPanic};
use crate::conf::MainConf;
use crate::ngx::{self, CONF_ERROR, CONF_OK, own_module};
use crate::rehearsal::{self, ACCEPTED, BROKEN, REFUSED, UNKNOWN, is_serving};
use crate::{gate, outside, phase};

/// `init_conf` of a core module: the whole file has been read, and nothing has taken effect.
pub(crate) unsafe extern "C" fn init_conf(cycle: *mut ngx_cycle_t, _: *mut c_void) -> *mut c_char {
    if phase::is_rehearsal() {
        // SAFETY: `ngx_init_cycle` calls this hook with the new cycle, whose configuration it has read and which has a
        // log.
        unsafe { rehearsal::end_silence(cycle) };
    }
    let after = |on_panic| match on_panic {
        OnPanic::Reject => CONF_ERROR,
        OnPanic::Continue => {
            // The verdict of the first gate is discarded, so that no header is sent because of it.
            // SAFETY: `ngx_init_cycle` calls this hook with the new cycle, which has this module. The hook that
            // panicked has no reference to the object any more.
            let main = unsafe { ngx::http_main_conf::<MainConf>(cycle, own_module()).as_mut() };
            if let Some(main) = main {
                main.pending = None;
            }
            CONF_OK
        }
    };
    let mut ending = UNKNOWN;
    let answer = boundary::catch_config_hook_late("late gate", after, || {
        // SAFETY: `ngx_init_cycle` calls this hook with the new cycle, which has this module, in the only thread.
        // `main` is not used any more when `gate::pass` makes its own reference.
        unsafe {
            let main = ngx::http_main_conf::<MainConf>(cycle, own_module()).as_ref();
            // A block followed that was not found when `http` ended.
            let is_new = |main: &MainConf| outside::blocks_to_come(cycle) < main.blocks_to_come;
            let is_due = main.is_some_and(|main| main.is_deferred || is_new(main));
            let Some(phase) = phase::current().filter(|_| is_due) else { return CONF_OK };
            if boundary::has_failed() {
                return CONF_OK;
            }
            let is_accepted = gate::pass(cycle, bearable(cycle, phase));
            ending = if is_accepted { ACCEPTED } else { REFUSED };
            if is_accepted { CONF_OK } else { CONF_ERROR }
        }
    });
    if phase::is_rehearsal() {
        rehearsal::end(if boundary::has_failed() { BROKEN } else { ending });
    }
    answer
}

/// The phase by which the check is judged here. In a serving process the rehearsal has passed, or was not possible. If
/// both configurations have the same modules, a refusal now leaves a complete chain of filters. If not, replaced
/// workers would crash, so nothing is refused.
///
/// # Safety
/// `cycle` is live, and its `modules` are complete.
unsafe fn bearable(cycle: *const ngx_cycle_t, phase: Phase) -> Phase {
    // SAFETY: by the caller's promise. If a configuration is in effect (`is_serving`, asked before), `ngx_cycle` is a
    // live cycle with modules.
    let is_alike = || unsafe { ngx::same_modules(ngx_cycle.cast_const(), cycle) };
    match phase {
        Phase::Reload if is_serving() && !phase::is_rehearsal() && !is_alike() => Phase::Restart,
        phase => phase,
    }
}
