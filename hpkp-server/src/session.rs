//! Writes into the TLS session which certificate a connection has presented, at the full handshake, and reads it on
//! each request. OpenSSL keeps an application's data with a session: in tickets, in caches that processes share, and
//! in the tickets of a resumed session. So a resumed connection tells which certificate its client got, in any worker
//! and under any configuration.
//!
//! OpenSSL itself does not tell this: for a resumed session it returns the context's current certificate.

use std::ffi::{c_int, c_long, c_void};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::boundary;
use crate::chosen::ChosenCertificates;
use crate::loader;
use crate::openssl::{CertificateAddress, InfoCallback, OpenSsl, Ssl, SslCtx};
use crate::presented::{Origin, Presented, SessionData};

/// From `openssl/ssl.h`: the server's side of a handshake has completed a step.
const ACCEPT_LOOP: c_int = 0x2001;

/// From `openssl/crypto.h`: the class of data that are attached to an `SSL_CTX`.
const CLASS_SSL_CTX: c_int = 1;

/// The data for the callbacks of all contexts.
struct Used {
    openssl: OpenSsl,
    /// The index under which this module's data are attached to contexts.
    index: c_int,
    /// The states in which a server has just written its certificate, uncompressed and compressed.
    written: [c_int; 2],
}

static USED: OnceLock<Option<Used>> = OnceLock::new();

/// The callback that contexts had before. A server usually gives all its contexts the same one.
static PREVIOUS: AtomicUsize = AtomicUsize::new(0);

/// Whether some context had another callback than the first one.
static HAS_OTHERS: AtomicBool = AtomicBool::new(false);

/// The data that are attached to a context.
#[derive(Debug)]
pub struct Watch {
    previous: Option<InfoCallback>,
    loaded: Vec<(CertificateAddress, Presented)>,
    /// The session data for every other certificate, if its keys are not needed.
    other: Presented,
    /// Finds the keys of other certificates, if they are needed.
    chosen: Option<ChosenCertificates>,
    report: fn(&str),
}

impl Watch {
    /// For a context with these certificates. `chosen` finds the keys of other certificates; `report` logs a panic.
    #[must_use]
    pub fn new(
        loaded: Vec<(CertificateAddress, Presented)>,
        chosen: Option<ChosenCertificates>,
        report: fn(&str),
    ) -> Self {
        Self { previous: None, loaded, other: Presented::new(Origin::Chosen, &[]), chosen, report }
    }
}

impl Used {
    fn new(openssl: &OpenSsl) -> Option<Self> {
        // The numbers of states depend on the version, and those of later versions are not known.
        let written = match openssl.version() >> 20 {
            0x101..0x302 => [23, 23],
            0x302..0x500 => [25, 26],
            _ => return None,
        };
        let none = ptr::null_mut();
        // SAFETY: CRYPTO_get_ex_new_index stores the arguments. `free` has the signature of CRYPTO_EX_free, and the
        // file of this code stays loaded as long as the process (see `watch`).
        let index = unsafe {
            (openssl.CRYPTO_get_ex_new_index)(CLASS_SSL_CTX, 0, none, none, none, Some(free))
        };
        (index >= 0).then_some(Self { openssl: *openssl, index, written })
    }

    /// The data that are attached to the context of a connection.
    ///
    /// # Safety
    /// `ssl` is a live `SSL` of `openssl`, and the result is used only while it lives.
    unsafe fn watch<'a>(&self, ssl: *const Ssl) -> Option<&'a Watch> {
        // SAFETY: by the caller's promise. The data under this index are null or a `Watch` that `OpenSsl::watch` has
        // attached. OpenSSL frees them with the context, to which a connection has a reference, and nothing changes
        // them.
        unsafe {
            let context = (self.openssl.SSL_get_SSL_CTX)(ssl).cast_const();
            (self.openssl.SSL_CTX_get_ex_data)(context, self.index).cast::<Watch>().as_ref()
        }
    }
}

impl OpenSsl {
    /// Starts to write session data for connections of `context`. Returns whether that is possible with this OpenSSL.
    ///
    /// # Safety
    /// `context` is a live `SSL_CTX` of this OpenSSL, no connection uses it yet, and the file of this
    /// code stays in memory as long as the process.
    pub unsafe fn watch(&self, context: *mut SslCtx, mut watch: Watch) -> bool {
        let Some(used) = USED.get_or_init(|| Used::new(self)) else { return false };
        // SAFETY: by the caller's promise. If SSL_CTX_set_ex_data succeeds, the context owns the box, which `free`
        // drops with the context; if it fails, OpenSSL does not keep the pointer. `step` has the signature of an info
        // callback.
        unsafe {
            if !(self.SSL_CTX_get_ex_data)(context, used.index).is_null() {
                return true;
            }
            watch.previous = (self.SSL_CTX_get_info_callback)(context);
            let address = watch.previous.map_or(0, |previous| previous as usize);
            let first = PREVIOUS.compare_exchange(0, address, Ordering::Relaxed, Ordering::Relaxed);
            // A context without a callback also counts as another one: `PREVIOUS` cannot tell 0 from "not set yet".
            if address == 0 || first.is_err_and(|first| first != address) {
                HAS_OTHERS.store(true, Ordering::Relaxed);
            }
            let attached = Box::into_raw(Box::new(watch));
            if (self.SSL_CTX_set_ex_data)(context, used.index, attached.cast()) == 0 {
                drop(Box::from_raw(attached));
                return false;
            }
            (self.SSL_CTX_set_info_callback)(context, Some(step));
        }
        true
    }

    /// The data in the session of a connection; none if the session was begun without this module.
    ///
    /// # Safety
    /// `ssl` is a live `SSL` of this OpenSSL, and its session does not change while the result is used.
    #[inline]
    #[must_use]
    pub unsafe fn presented<'a>(&self, ssl: *const Ssl) -> Option<SessionData<'a>> {
        let (mut data, mut length) = (ptr::null_mut(), 0);
        // SAFETY: by the caller's promise. SSL_SESSION_get0_ticket_appdata sets `data` to null or to `length` bytes
        // that the session owns.
        unsafe {
            let session = (self.SSL_get_session)(ssl);
            if session.is_null() {
                return None;
            }
            (self.SSL_SESSION_get0_ticket_appdata)(session, &raw mut data, &raw mut length);
            if data.is_null() {
                return None;
            }
            SessionData::new(std::slice::from_raw_parts(data.cast_const().cast(), length))
        }
    }
}

/// Frees the data of a context.
unsafe extern "C" fn free(
    _: *mut c_void,
    attached: *mut c_void,
    _: *mut c_void,
    _: c_int,
    _: c_long,
    _: *mut c_void,
) {
    if !attached.is_null() {
        // SAFETY: `OpenSsl::watch` attached a pointer from a box. OpenSSL calls a CRYPTO_EX_free function once for each
        // context, when it frees the context.
        drop(unsafe { Box::from_raw(attached.cast::<Watch>()) });
    }
}

/// Called at each step of a handshake.
unsafe extern "C" fn step(ssl: *const Ssl, event: c_int, value: c_int) {
    let Some(Some(used)) = USED.get() else { return };
    // SAFETY: OpenSSL calls an info callback with the live connection whose handshake it performs, in the thread that
    // does so. The earlier callback gets the arguments with which OpenSSL would have called it.
    unsafe {
        if let Some(previous) = previous(used, ssl) {
            previous(ssl, event, value);
        }
        if event == ACCEPT_LOOP && used.written.contains(&(used.openssl.SSL_get_state)(ssl)) {
            if let Some(watch) = used.watch(ssl) {
                boundary::catch_request_hook("handshake", (), watch.report, || {
                    write(used, watch, ssl);
                });
            }
        }
    }
}

/// The earlier callback of a connection's context.
///
/// # Safety
/// `ssl` is a live `SSL` of `used.openssl`.
unsafe fn previous(used: &Used, ssl: *const Ssl) -> Option<InfoCallback> {
    if HAS_OTHERS.load(Ordering::Relaxed) {
        // SAFETY: by the caller's promise.
        return unsafe { used.watch(ssl) }.and_then(|watch| watch.previous);
    }
    let address = PREVIOUS.load(Ordering::Relaxed);
    // SAFETY: the number is the address of an `InfoCallback`, as `OpenSsl::watch` got it from OpenSSL, or 0, which is
    // `None`.
    unsafe { std::mem::transmute::<usize, Option<InfoCallback>>(address) }
}

/// Writes the session data when the certificate has just been written: the session is stored or put into a ticket only
/// later.
///
/// # Safety
/// `ssl` is a live `SSL` of `used.openssl`, in its handshake, in the thread that performs the handshake.
unsafe fn write(used: &Used, watch: &Watch, ssl: *const Ssl) {
    // SAFETY: by the caller's promise.
    unsafe {
        let leaf = used.openssl.certificate_of(ssl);
        let loaded = watch.loaded.iter().find(|(address, _)| *address == leaf);
        match (loaded, &watch.chosen) {
            (Some((_, presented)), _) => keep(used, ssl, presented),
            (None, Some(chosen)) => {
                let chain = used.openssl.sent_chain(ssl);
                keep(used, ssl, &chosen.presented(&chain, &used.openssl, loader::now()));
            }
            (None, None) => keep(used, ssl, &watch.other),
        }
    }
}

/// # Safety
/// As for [`write`].
unsafe fn keep(used: &Used, ssl: *const Ssl, presented: &Presented) {
    let bytes = presented.bytes();
    // SAFETY: by the caller's promise. SSL_get_session returns null or a session that the connection owns, and
    // SSL_SESSION_set1_ticket_appdata copies the bytes.
    unsafe {
        let session = (used.openssl.SSL_get_session)(ssl);
        if !session.is_null() {
            let data = bytes.as_ptr().cast();
            (used.openssl.SSL_SESSION_set1_ticket_appdata)(session, data, bytes.len());
        }
    }
}
