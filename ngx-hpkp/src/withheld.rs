//! Headers that an unguarded host withholds: counted over all workers, and logged once an hour.
//!
//! The counters are in memory that the master shares with all its workers, so they continue over
//! reloads.

use std::ptr;
use std::sync::atomic::{AtomicI64, AtomicPtr, AtomicU64, Ordering};

use hpkp_core::finding::Code;
use hpkp_core::pin::Pin;
use hpkp_core::published::Fingerprint;
use hpkp_server::presented::Seen;
use nginx_sys::{NGX_LOG_ERR, ngx_cached_time, ngx_http_request_t};

use crate::log;

/// Seconds between two lines about one host.
const INTERVAL: i64 = 3600;

/// How many hosts are counted by themselves; more share counters.
const SLOTS: usize = 256;

/// Of one host.
struct Slot {
    count: AtomicU64,
    /// When it was last logged, in seconds since 1970 UTC; 0 where it has not been.
    logged_at: AtomicI64,
}

/// The first of all slots; null until a configuration needs them.
static SHARED: AtomicPtr<Slot> = AtomicPtr::new(ptr::null_mut());

/// What a host withholds.
pub(crate) struct Withheld {
    code: Code,
    slot: usize,
    label: String,
    policy: String,
}

impl Withheld {
    /// Of the host that messages call `label`, with this policy. Called by the master, before it starts
    /// workers.
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

    /// How many responses have gone out without the header since the master was started. None where
    /// there was no memory to count.
    pub(crate) fn count(&self) -> Option<u64> {
        self.slot().map(|slot| slot.count.load(Ordering::Relaxed))
    }

    fn slot(&self) -> Option<&'static Slot> {
        let first = SHARED.load(Ordering::Relaxed);
        if first.is_null() {
            return None;
        }
        // SAFETY: `prepare` mapped so many slots, which are never unmapped; the index is in range.
        unsafe { first.add(self.slot).as_ref() }
    }

    /// The header is withheld from a response on a connection that has presented this.
    ///
    /// # Safety
    /// `r` is a live request.
    pub(crate) unsafe fn note(&self, r: *const ngx_http_request_t, seen: Option<Seen<'_>>) {
        let Some(slot) = self.slot() else { return };
        let count = slot.count.fetch_add(1, Ordering::Relaxed) + 1;
        // SAFETY: nginx keeps its time there from the start on.
        let now = unsafe { (*ngx_cached_time).sec };
        let logged_at = slot.logged_at.load(Ordering::Relaxed);
        // A clock that was put back must not silence it for longer.
        if logged_at != 0 && (logged_at..logged_at.saturating_add(INTERVAL)).contains(&now) {
            return;
        }
        let is_ours = slot
            .logged_at
            .compare_exchange(logged_at, now, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        if is_ours {
            let text = self.text(count, seen);
            // SAFETY: by the caller's promise, a request has a connection, which has a log.
            unsafe { log::write((*(*r).connection).log, NGX_LOG_ERR, &text, None) };
        }
    }

    fn text(&self, count: u64, seen: Option<Seen<'_>>) -> String {
        let why = match seen.and_then(|seen| seen.pins().next()) {
            Some(leaf) => {
                let mut bytes = [0; Pin::BYTES];
                bytes[..leaf.len()].copy_from_slice(leaf);
                // Sixteen bytes are known, of which fifteen are twenty characters.
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

/// Maps the counters, once in the life of a master.
fn prepare() {
    if !SHARED.load(Ordering::Relaxed).is_null() {
        return;
    }
    let length = SLOTS * size_of::<Slot>();
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: asks for new memory, of which zeros are slots that have counted nothing.
    let mapped = unsafe { libc::mmap(ptr::null_mut(), length, access, flags, -1, 0) };
    if mapped != libc::MAP_FAILED {
        SHARED.store(mapped.cast(), Ordering::Relaxed);
    }
}
