//! The last good certificates in shared memory of all workers, which survives reloads. nginx releases the lock if the
//! worker that holds it is killed, so each change is made by writing one pointer last.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use hpkp_core::published::Fingerprint;
use hpkp_server::guard::{Entry, Kept, NoRoom, Pair, PairText, Store, Text, wipe};
use hpkp_server::kept::index::HostPort;
use nginx_sys::{
    ngx_conf_t, ngx_int_t, ngx_shared_memory_add, ngx_shm_zone_t, ngx_shmtx_lock, ngx_shmtx_unlock,
    ngx_slab_alloc_locked, ngx_slab_free_locked, ngx_slab_pool_t,
};

use crate::boundary;
use crate::ngx::{ERROR, OK, own_module, string};

/// The size in bytes: room for some hundred certificates with their chains and keys. The system provides only the
/// memory that is used.
const SIZE: usize = 4 << 20;

/// How many messages have a slot of their own; if there are more, some share slots.
const ALARMS: usize = 1024;

/// The most hosts of one certificate.
const MAX_HOSTS: usize = 256;

/// The least number of seconds between two messages about one subject, even if it has changed.
const PAUSE: i64 = 10;

/// The head of the shared memory.
#[repr(C)]
struct Head {
    /// The first entry. A process reads and writes it while it holds the lock of the slab pool. The cell lets `&Head`
    /// exist in a process without the lock, while another process writes the pointer.
    first: UnsafeCell<*mut Node>,
    generation: AtomicU64,
    alarms: [Alarm; ALARMS],
}

/// When a message was logged last.
#[repr(C)]
struct Alarm {
    /// The tag of the message; 0 if there is nothing to report.
    tag: AtomicU64,
    /// The time in seconds since 1970 UTC.
    logged_at: AtomicI64,
}

/// The head of an entry, followed by its text.
#[repr(C)]
struct Node {
    next: *mut Self,
    length: usize,
}

/// Asks nginx for the shared memory, which is the same for every directive.
///
/// # Safety
/// `cf` is the `cf` with which nginx calls the handler of a directive.
pub(crate) unsafe fn add(cf: *mut ngx_conf_t) -> Result<*mut ngx_shm_zone_t, String> {
    let mut name = string("hpkp_guard");
    // SAFETY: by the caller's promise. `ngx_shared_memory_add` keeps the pointer to the static name and returns null or
    // a zone in the cycle. The tag is the address of this module, so no other module or build gets the same zone.
    unsafe {
        let zone = ngx_shared_memory_add(cf, &raw mut name, SIZE, own_module().cast_mut().cast());
        if zone.is_null() {
            return Err("cannot add the shared memory \"hpkp_guard\"".to_owned());
        }
        (*zone).init = Some(init);
        Ok(zone)
    }
}

/// Called when nginx has mapped the memory, or reuses that of the earlier configuration.
unsafe extern "C" fn init(zone: *mut ngx_shm_zone_t, before: *mut c_void) -> ngx_int_t {
    boundary::catch_request_hook("guard_zone", OK, || {
        // SAFETY: `ngx_init_cycle` calls this with the zone that `add` got, whose memory is mapped and begins with a
        // slab pool (`ngx_init_zone_pool`). `before` is null for new memory, and otherwise the `data` of the same
        // memory, which this function set. New memory is used by this process alone, so it needs no lock.
        unsafe {
            if !before.is_null() {
                (*zone).data = before;
                return OK;
            }
            let pool: *mut ngx_slab_pool_t = (*zone).shm.addr.cast();
            let head: *mut Head = ngx_slab_alloc_locked(pool, size_of::<Head>()).cast();
            if head.is_null() {
                return ERROR;
            }
            // Zeros mean no entries and no messages.
            ptr::write_bytes(head, 0, 1);
            // The guard itself reports a lack of room.
            (*pool).set_log_nomem(0);
            (*zone).data = head.cast();
        }
        OK
    })
}

/// The shared memory of a configuration that is in effect. Only `Worker` uses it, during handshakes of that
/// configuration. A process of nginx keeps the memory mapped until a configuration without this zone takes effect in
/// the same process (`ngx_init_cycle`). The master, which reads configurations, performs no handshakes, and a worker
/// never reads another configuration. Only a process without a master (`master_process off`) does both: there nginx
/// unmaps the memory while handshakes of the old configuration may still follow, as it does with its own zones, such as
/// a shared cache of sessions.
#[derive(Clone, Copy)]
pub(crate) struct Zone {
    pool: *mut ngx_slab_pool_t,
    head: *mut Head,
}

/// The zone while its lock is held.
struct Locked(Zone);

impl Drop for Locked {
    fn drop(&mut self) {
        // SAFETY: `lock` took the lock, and the memory is still mapped (see `Zone`).
        unsafe { ngx_shmtx_unlock(&raw mut (*self.0.pool).mutex) };
    }
}

impl Zone {
    /// None if nginx has not mapped the memory.
    ///
    /// # Safety
    /// `zone` is null, or a zone from [`add`] in a cycle for which nginx calls `init_module`.
    pub(super) unsafe fn new(zone: *mut ngx_shm_zone_t) -> Option<Self> {
        // SAFETY: by the caller's promise the zone is live; nginx has called `init` for it.
        let (pool, head) = unsafe {
            let zone = zone.as_ref()?;
            (zone.shm.addr.cast::<ngx_slab_pool_t>(), zone.data.cast::<Head>())
        };
        (!pool.is_null() && !head.is_null()).then_some(Self { pool, head })
    }

    fn lock(self) -> Locked {
        // SAFETY: the memory is mapped (see `Zone`) and begins with the slab pool, whose mutex nginx has initialised.
        unsafe { ngx_shmtx_lock(&raw mut (*self.pool).mutex) };
        Locked(self)
    }

    fn head(&self) -> &Head {
        // SAFETY: the memory is mapped (see `Zone`), and `init` has filled in the head. Other processes change only
        // atomic fields and the cell.
        unsafe { &*self.head }
    }

    /// Whether a message is due. If there is nothing to report any more (tag 0), whether there was a message before.
    pub(super) fn is_due(self, about: &str, tag: u64, interval: i64, now: i64) -> bool {
        let [.., high, low] = Fingerprint::of([about.as_bytes()]).bytes();
        let index = usize::from(u16::from_be_bytes([high, low])) % ALARMS;
        let Alarm { tag: last, logged_at } = &self.head().alarms[index];
        if tag == 0 {
            return last.load(Ordering::Relaxed) != 0 && last.swap(0, Ordering::Relaxed) != 0;
        }
        let before = logged_at.load(Ordering::Relaxed);
        let known = last.load(Ordering::Relaxed);
        let pause = match known {
            0 => 0,
            same if same == tag => interval,
            _ => PAUSE,
        };
        // If the clock was set back, the message is due, not suppressed for longer.
        if (before..before.saturating_add(pause)).contains(&now) {
            return false;
        }
        let is_ours = last.compare_exchange(known, tag, Ordering::Relaxed, Ordering::Relaxed);
        is_ours.is_ok()
            && logged_at.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Adds entries of files for those hosts that have none.
    pub(super) fn load(self, texts: &[Text]) {
        let locked = self.lock();
        let known: Vec<HostPort> =
            locked.entries().into_iter().flat_map(|(_, entry)| entry.kept.hosts).collect();
        for text in texts {
            let Some(mut entry) = Entry::parse(text) else { continue };
            entry.kept.hosts.retain(|host| !known.contains(host));
            let pair = entry.pair(text).filter(|_| !entry.kept.hosts.is_empty());
            if let Some(pair) = pair {
                // If there is no room, the certificate is still in its file.
                let _ = locked.insert(&Entry::text(&entry.kept, &pair));
            }
        }
    }

    /// The texts of all entries.
    pub(super) fn texts(self) -> Vec<Text> {
        let locked = self.lock();
        locked.entries().into_iter().map(|(node, _)| locked.text(node)).collect()
    }
}

impl Locked {
    /// The address of the pointer to the first node. While the lock is held, no other process changes it.
    fn first(&self) -> *mut *mut Node {
        self.0.head().first.get()
    }

    fn nodes(&self) -> Vec<*mut Node> {
        let mut nodes = Vec::new();
        // SAFETY: this process holds the lock, so no other one changes the pointer.
        let mut node = unsafe { *self.first() };
        while !node.is_null() {
            nodes.push(node);
            // SAFETY: this process holds the lock. `insert` has written each node of the list, and `remove` frees a
            // node only after it has taken it out; `next` is null in the last one.
            node = unsafe { (*node).next };
        }
        nodes
    }

    fn bytes(&self, node: *mut Node) -> &[u8] {
        // SAFETY: callers pass a node of the list, behind which `insert` has written `length` bytes. The lock, which
        // `self` holds, keeps other processes from changing them.
        unsafe { std::slice::from_raw_parts(node.add(1).cast(), (*node).length) }
    }

    fn text(&self, node: *mut Node) -> Text {
        Text::new(self.bytes(node).to_vec())
    }

    fn entries(&self) -> Vec<(*mut Node, Entry)> {
        let entry = |node: *mut Node| Some((node, Entry::parse(self.bytes(node))?));
        self.nodes().into_iter().filter_map(entry).collect()
    }

    fn insert(&self, text: &[u8]) -> Result<(), NoRoom> {
        // SAFETY: this process holds the lock, which `ngx_slab_alloc_locked` requires. It returns null or memory of the
        // size asked for, aligned for a node (at least 8 bytes).
        unsafe {
            let size = size_of::<Node>() + text.len();
            let node: *mut Node = ngx_slab_alloc_locked(self.0.pool, size).cast();
            if node.is_null() {
                return Err(NoRoom);
            }
            node.write(Node { next: *self.first(), length: text.len() });
            node.add(1).cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), text.len());
            // A worker that is killed before this write leaves the list unchanged.
            *self.first() = node;
        }
        self.changed();
        Ok(())
    }

    fn remove(&self, node: *mut Node) {
        // SAFETY: this process holds the lock, which `ngx_slab_free_locked` requires. The node, which `insert` has
        // allocated with `length` bytes behind it, is out of the list before it is overwritten and freed.
        unsafe {
            let mut link = self.first();
            while !(*link).is_null() && *link != node {
                link = &raw mut (**link).next;
            }
            if (*link).is_null() {
                return;
            }
            *link = (*node).next;
            wipe(std::slice::from_raw_parts_mut(node.add(1).cast(), (*node).length));
            ngx_slab_free_locked(self.0.pool, node.cast());
        }
        self.changed();
    }

    fn changed(&self) {
        self.0.head().generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Replaces an entry by one with these hosts, or removes it if there are none.
    fn rewrite(&self, node: *mut Node, entry: &Entry, hosts: Vec<HostPort>) {
        let pair = entry.pair(self.bytes(node)).filter(|_| !hosts.is_empty());
        if let Some(pair) = pair {
            let kept = Kept { hosts, ..entry.kept.clone() };
            // If there is no room, the entry stays unchanged.
            if self.insert(&Entry::text(&kept, &pair)).is_err() {
                return;
            }
        }
        self.remove(node);
    }
}

impl Store for Zone {
    fn generation(&self) -> u64 {
        self.head().generation.load(Ordering::Relaxed)
    }

    fn list(&self) -> Vec<Kept> {
        self.lock().entries().into_iter().map(|(_, entry)| entry.kept).collect()
    }

    fn text(&self, id: Fingerprint) -> Option<PairText> {
        let locked = self.lock();
        let (node, entry) = locked.entries().into_iter().find(|(_, entry)| entry.kept.id == id)?;
        entry.pair(locked.bytes(node))
    }

    fn keep(&self, host: &HostPort, pair: &Pair, now: i64, in_memory: bool) -> Result<(), NoRoom> {
        let locked = self.lock();
        let entries = locked.entries();
        let own = entries.iter().find(|(_, entry)| entry.kept.id == pair.id);
        let mut kept = Kept { id: pair.id, hosts: vec![host.clone()], accepted: now, in_memory };
        if let Some((_, own)) = own {
            kept.accepted = own.kept.accepted;
            kept.in_memory &= own.kept.in_memory;
            let others = own.kept.hosts.iter().filter(|other| *other != host).cloned();
            kept.hosts.extend(others.take(MAX_HOSTS - 1));
        }
        // The new entry is inserted first: a worker that is killed meanwhile leaves a superfluous entry, not a missing
        // one.
        locked.insert(&Entry::text(&kept, &pair.text))?;
        for (node, entry) in &entries {
            if entry.kept.id == pair.id {
                locked.remove(*node);
            } else if entry.kept.hosts.contains(host) {
                let hosts = entry.kept.hosts.iter().filter(|other| *other != host).cloned();
                locked.rewrite(*node, entry, hosts.collect());
            }
        }
        Ok(())
    }

    fn forget(&self, id: Fingerprint) {
        let locked = self.lock();
        for (node, _) in locked.entries().into_iter().filter(|(_, entry)| entry.kept.id == id) {
            locked.remove(node);
        }
    }
}
