//! Counts the responses for which a host withholds its header, over all workers, and logs them once an hour.
//!
//! The counters are in memory that the master shares with all its workers, so they survive reloads.

use std::ptr;
use std::sync::atomic::{AtomicI64, AtomicPtr, AtomicU64, Ordering};

use hpkp_core::finding::Code;
use hpkp_core::pin::Pin;
use hpkp_core::published::Fingerprint;
use hpkp_server::presented::SessionData;
use nginx_sys::{NGX_LOG_ERR, ngx_cached_time, ngx_http_request_t};

use crate::log;

/// The least number of seconds between two log lines about one host.
const INTERVAL: i64 = 3600;

/// How many hosts have a counter of their own; if there are more, some share counters.
const SLOTS: usize = 256;

/// The counter of one host.
struct Slot {
    count: AtomicU64,
    /// When it was last logged, in seconds since 1970 UTC; 0 if never.
    logged_at: AtomicI64,
}

/// The first of all slots; null until a configuration needs them.
static SHARED: AtomicPtr<Slot> = AtomicPtr::new(ptr::null_mut());

/// The withheld headers of a host.
pub(crate) struct Withheld {
    code: Code,
    slot: usize,
    label: String,
    policy: String,
}

impl Withheld {
    /// The counter for the host with this label and policy. The master calls this before it starts workers.
    pub(crate) fn new(code: Code, label: &str, policy: &str) -> Self {
        prepare();
        let [first, ..] = Fingerprint::of([label.as_bytes()]).bytes();
        Self {
            code,
            slot: usize::from(first) % SLOTS,
            label: label.to_owned(),
            policy: policy.to_owned(),
        }
    }

    /// How many responses were sent without the header since the master was started. None if there was no memory for
    /// the counters.
    pub(crate) fn count(&self) -> Option<u64> {
        self.slot().map(|slot| slot.count.load(Ordering::Relaxed))
    }

    fn slot(&self) -> Option<&'static Slot> {
        let first = SHARED.load(Ordering::Relaxed);
        if first.is_null() {
            return None;
        }
        // SAFETY: `prepare` has mapped `SLOTS` slots and nothing unmaps them; the index is below `SLOTS`. Other
        // processes change only atomic fields.
        unsafe { first.add(self.slot).as_ref() }
    }

    /// Counts a response without the header, on a connection with these session data.
    ///
    /// # Safety
    /// `r` is a live request.
    pub(crate) unsafe fn note(&self, r: *const ngx_http_request_t, data: Option<SessionData<'_>>) {
        let Some(slot) = self.slot() else { return };
        let count = slot.count.fetch_add(1, Ordering::Relaxed) + 1;
        // SAFETY: `ngx_time_init` points `ngx_cached_time` to a static array before nginx reads a configuration.
        let now = unsafe { (*ngx_cached_time).sec };
        let logged_at = slot.logged_at.load(Ordering::Relaxed);
        // If the clock was set back, the line is logged, not suppressed for longer.
        if logged_at != 0 && (logged_at..logged_at.saturating_add(INTERVAL)).contains(&now) {
            return;
        }
        let is_ours = slot
            .logged_at
            .compare_exchange(logged_at, now, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        if is_ours {
            let text = self.text(count, data);
            // SAFETY: by the caller's promise; a live request has a connection with a log.
            unsafe { log::write((*(*r).connection).log, NGX_LOG_ERR, &text, None) };
        }
    }

    fn text(&self, count: u64, data: Option<SessionData<'_>>) -> String {
        let why = match data.and_then(|data| data.pins().next()) {
            Some(leaf) => {
                let mut bytes = [0; Pin::BYTES];
                bytes[..leaf.len()].copy_from_slice(leaf);
                // Only 16 bytes of the pin are known. Of these, 15 bytes are 20 characters of base64.
                let pin = Pin::from_bytes(bytes).to_string();
                format!(
                    "the connection presented a certificate (key sha256/{}...) that fails policy \"{}\"",
                    pin.get(..20).unwrap_or_default(),
                    self.policy
                )
            }
            None => "it is not known which certificate the connection presented".to_owned(),
        };
        format!(
            "hpkp: [{}] {}: no header is sent, because {why}; withheld from {count} responses so far",
            self.code, self.label
        )
    }
}

/// Maps the memory for the counters, once in the life of a master.
fn prepare() {
    if !SHARED.load(Ordering::Relaxed).is_null() {
        return;
    }
    let length = SLOTS * size_of::<Slot>();
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: mmap without an address returns new memory or MAP_FAILED. Anonymous memory is zero, and a slot of zeros
    // is valid: it has counted nothing.
    let mapped = unsafe { libc::mmap(ptr::null_mut(), length, access, flags, -1, 0) };
    if mapped != libc::MAP_FAILED {
        SHARED.store(mapped.cast(), Ordering::Relaxed);
    }
}
