//! The OpenSSL that the server itself uses, found in the running process.
//!
//! This module links no library, because a second OpenSSL that gets objects of the first one corrupts memory. It looks
//! up all functions at once, and reports the name of a missing one.
#![allow(non_snake_case, reason = "OpenSSL's functions keep their names")]

mod keys;

use std::ffi::{CStr, c_char, c_int, c_long, c_uchar, c_ulong, c_void};
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use hpkp_core::certificate::Certificate;
use hpkp_core::path::VerifySignature;

use crate::library::Object;
use crate::trust::SystemStore;

pub use keys::{LoadedPair, PairError};

/// An `SSL_CTX` of the server.
#[repr(C)]
pub struct SslCtx {
    _opaque: [u8; 0],
}

/// An `SSL` of the server.
#[repr(C)]
pub struct Ssl {
    _opaque: [u8; 0],
}

/// An `SSL_SESSION` of the server.
#[repr(C)]
pub(crate) struct SslSession {
    _opaque: [u8; 0],
}

/// The callback for the progress of a handshake.
pub(crate) type InfoCallback = unsafe extern "C" fn(*const Ssl, c_int, c_int);

/// The callback for freeing an object to which data have been attached.
pub(crate) type FreeData =
    unsafe extern "C" fn(*mut c_void, *mut c_void, *mut c_void, c_int, c_long, *mut c_void);

/// A certificate's address. It is compared, never followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateAddress(usize);

/// The address of what a server has attached to a certificate to name it. It is compared, never
/// followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NameAddress(pub usize);

/// The certificates that are sent for one key.
#[derive(Clone, Debug)]
pub struct LoadedChain {
    /// In DER, the leaf first.
    pub certificates: Vec<Vec<u8>>,
    /// The data that the server has attached to the leaf.
    pub name: Option<NameAddress>,
}

#[repr(C)]
pub(crate) struct X509 {
    _opaque: [u8; 0],
}

#[repr(C)]
pub(crate) struct PKey {
    _opaque: [u8; 0],
}

#[repr(C)]
pub(crate) struct Bio {
    _opaque: [u8; 0],
}

#[repr(C)]
pub(crate) struct Pkcs8 {
    _opaque: [u8; 0],
}

#[repr(C)]
pub(crate) struct Method {
    _opaque: [u8; 0],
}

/// OpenSSL's `pem_password_cb`.
type PassPhrase = unsafe extern "C" fn(*mut c_char, c_int, c_int, *mut c_void) -> c_int;

#[repr(C)]
pub(crate) struct Stack {
    _opaque: [u8; 0],
}

#[repr(C)]
pub(crate) struct Store {
    _opaque: [u8; 0],
}

#[repr(C)]
pub(crate) struct StoreCtx {
    _opaque: [u8; 0],
}

macro_rules! functions {
    ($(#[$about:meta])* $visible:vis $table:ident;
     $($name:ident: fn($($argument:ty),*) -> $result:ty;)*) => {
        $(#[$about])*
        #[derive(Clone, Copy)]
        $visible struct $table {
            $(pub(crate) $name: unsafe extern "C" fn($($argument),*) -> $result,)*
        }

        impl $table {
            /// # Safety
            /// As for [`OpenSsl::load`].
            unsafe fn look_up(
                mut look_up: impl FnMut(&CStr) -> *mut c_void,
            ) -> Result<Self, OpenSslError> {
                $(
                    let name = concat!(stringify!($name), "\0");
                    let found = CStr::from_bytes_with_nul(name.as_bytes())
                        .map_or(std::ptr::null_mut(), &mut look_up);
                    if found.is_null() {
                        return Err(OpenSslError::Missing(stringify!($name)));
                    }
                    // SAFETY: by the caller's promise this is the address, not null, of the function with this
                    // name. OpenSSL 1.1.1 and later declare the functions of both tables with these signatures (man 3
                    // NAME); OpenSSL's forks do so for the two of `Names`.
                    let $name = unsafe {
                        std::mem::transmute::<
                            *mut c_void,
                            unsafe extern "C" fn($($argument),*) -> $result,
                        >(found)
                    };
                )*
                Ok(Self { $($name,)* })
            }
        }
    };
}

functions! {
    /// The functions that return the name and version of the library. OpenSSL's forks have them too.
    Names;
    OpenSSL_version_num: fn() -> c_ulong;
    OpenSSL_version: fn(c_int) -> *const c_char;
}

functions! {
    /// OpenSSL's functions.
    pub OpenSsl;
    OpenSSL_version_num: fn() -> c_ulong;
    SSL_get_SSL_CTX: fn(*const Ssl) -> *mut SslCtx;
    SSL_get_certificate: fn(*const Ssl) -> *mut X509;
    SSL_get_servername: fn(*const Ssl, c_int) -> *const c_char;
    SSL_session_reused: fn(*const Ssl) -> c_int;
    SSL_ctrl: fn(*mut Ssl, c_int, c_long, *mut c_void) -> c_long;
    SSL_get_session: fn(*const Ssl) -> *mut SslSession;
    SSL_get_state: fn(*const Ssl) -> c_int;
    SSL_SESSION_get0_ticket_appdata: fn(*mut SslSession, *mut *mut c_void, *mut usize) -> c_int;
    SSL_SESSION_set1_ticket_appdata: fn(*mut SslSession, *const c_void, usize) -> c_int;
    SSL_CTX_get_info_callback: fn(*mut SslCtx) -> Option<InfoCallback>;
    SSL_CTX_set_info_callback: fn(*mut SslCtx, Option<InfoCallback>) -> ();
    SSL_CTX_get_ex_data: fn(*const SslCtx, c_int) -> *mut c_void;
    SSL_CTX_set_ex_data: fn(*mut SslCtx, c_int, *mut c_void) -> c_int;
    CRYPTO_get_ex_new_index: fn(c_int, c_long, *mut c_void, *mut c_void, *mut c_void, Option<FreeData>) -> c_int;
    SSL_CTX_ctrl: fn(*mut SslCtx, c_int, c_long, *mut c_void) -> c_long;
    SSL_CTX_get0_certificate: fn(*const SslCtx) -> *mut X509;
    SSL_CTX_get0_privatekey: fn(*const SslCtx) -> *mut PKey;
    SSL_CTX_new: fn(*const Method) -> *mut SslCtx;
    SSL_CTX_free: fn(*mut SslCtx) -> ();
    TLS_server_method: fn() -> *const Method;
    SSL_CTX_set_security_level: fn(*mut SslCtx, c_int) -> ();
    SSL_CTX_set_default_passwd_cb: fn(*mut SslCtx, PassPhrase) -> ();
    SSL_CTX_set_default_passwd_cb_userdata: fn(*mut SslCtx, *mut c_void) -> ();
    SSL_CTX_use_certificate: fn(*mut SslCtx, *mut X509) -> c_int;
    SSL_CTX_use_certificate_chain_file: fn(*mut SslCtx, *const c_char) -> c_int;
    SSL_CTX_use_PrivateKey_file: fn(*mut SslCtx, *const c_char, c_int) -> c_int;
    SSL_CTX_check_private_key: fn(*const SslCtx) -> c_int;
    SSL_CTX_get_cert_store: fn(*const SslCtx) -> *mut Store;
    X509_STORE_new: fn() -> *mut Store;
    X509_STORE_load_locations: fn(*mut Store, *const c_char, *const c_char) -> c_int;
    X509_STORE_free: fn(*mut Store) -> ();
    X509_STORE_CTX_new: fn() -> *mut StoreCtx;
    X509_STORE_CTX_init: fn(*mut StoreCtx, *mut Store, *mut X509, *mut Stack) -> c_int;
    X509_STORE_CTX_get0_chain: fn(*const StoreCtx) -> *mut Stack;
    X509_STORE_CTX_free: fn(*mut StoreCtx) -> ();
    X509_verify_cert: fn(*mut StoreCtx) -> c_int;
    OPENSSL_sk_num: fn(*const Stack) -> c_int;
    OPENSSL_sk_value: fn(*const Stack, c_int) -> *mut c_void;
    i2d_X509: fn(*const X509, *mut *mut c_uchar) -> c_int;
    X509_get_ex_data: fn(*const X509, c_int) -> *mut c_void;
    EVP_PKEY2PKCS8: fn(*const PKey) -> *mut Pkcs8;
    i2d_PKCS8_PRIV_KEY_INFO: fn(*const Pkcs8, *mut *mut c_uchar) -> c_int;
    PKCS8_PRIV_KEY_INFO_free: fn(*mut Pkcs8) -> ();
    BIO_new_mem_buf: fn(*const c_void, c_int) -> *mut Bio;
    BIO_free: fn(*mut Bio) -> c_int;
    PEM_read_bio_PrivateKey: fn(*mut Bio, *mut *mut PKey, Option<PassPhrase>, *mut c_void) -> *mut PKey;
    EVP_PKEY_free: fn(*mut PKey) -> ();
    X509_check_private_key: fn(*const X509, *const PKey) -> c_int;
    d2i_X509: fn(*mut *mut X509, *mut *const c_uchar, c_long) -> *mut X509;
    X509_free: fn(*mut X509) -> ();
    X509_get0_pubkey: fn(*const X509) -> *mut PKey;
    X509_verify: fn(*mut X509, *mut PKey) -> c_int;
    X509_get_default_cert_file: fn() -> *const c_char;
    X509_get_default_cert_file_env: fn() -> *const c_char;
    X509_get_default_cert_dir: fn() -> *const c_char;
    X509_get_default_cert_dir_env: fn() -> *const c_char;
    ERR_set_mark: fn() -> c_int;
    ERR_pop_to_mark: fn() -> c_int;
}

/// Why the process's OpenSSL cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenSslError {
    /// This function was not found.
    #[error("the OpenSSL library of the server has no function {0}")]
    Missing(&'static str),
    /// Another library, or a version before 1.1.1; its own name for itself.
    #[error("unsupported TLS library \"{}\"; OpenSSL 1.1.1 or later is required", hpkp_core::text::Excerpt::new(.0))]
    Unsupported(String),
    /// It cannot be determined which of the libraries in the process the server uses.
    #[error(
        "cannot determine which TLS library the server uses, so its certificates cannot be read"
    )]
    NotFound,
    /// The server's own library lacks this function; another one in the process may have it.
    #[error(
        "the TLS library of the server ({}) has no function {}; the module does not use that of another library",
        hpkp_core::text::Excerpt::new(.1.as_os_str().as_bytes()), .0
    )]
    NotOfTheServer(&'static str, PathBuf),
}

/// The most certificates read from one chain: one more than is accepted, so that a longer chain is noticed.
const MAX_CHAIN: c_int = hpkp_core::path::Chain::MAX as c_int + 1;

/// The most keys of one context: OpenSSL has a slot for each of nine key types.
const MAX_SLOTS: usize = 32;

/// Numbers from `openssl/ssl.h`, which the C macros use.
mod ctrl {
    use std::ffi::{c_int, c_long};

    pub(super) const MODE: c_int = 33;
    pub(super) const GET_EXTRA_CHAIN_CERTS: c_int = 82;
    pub(super) const GET_CHAIN_CERTS: c_int = 115;
    pub(super) const SELECT_CURRENT_CERT: c_int = 116;
    pub(super) const SET_CURRENT_CERT: c_int = 117;
    /// Available from OpenSSL 3.0 on; earlier versions return 0.
    pub(super) const GET_CHAIN_CERT_STORE: c_int = 138;
    pub(super) const CERT_SET_FIRST: c_long = 1;
    pub(super) const CERT_SET_NEXT: c_long = 2;
    /// The argument that asks for the extra chain and nothing in its place.
    pub(super) const EXTRA_ONLY: c_long = 1;
    /// A bit of the mode: OpenSSL sends only the chain that was loaded.
    pub(super) const NO_AUTO_CHAIN: c_long = 8;
}

impl OpenSsl {
    /// The OpenSSL whose functions are called by the object that contains the address `user`: the server's program, or
    /// its module for TLS. All functions come from that libssl and from the libcrypto that it calls. Functions with
    /// the same names in other objects of the process are ignored.
    ///
    /// # Errors
    /// See [`OpenSslError`].
    pub fn used_by(user: *const c_void) -> Result<Self, OpenSslError> {
        let user = Object::of(user).ok_or(OpenSslError::NotFound)?;
        // This is the function that puts certificates into contexts. Libraries that wrap other functions, such as those
        // that log keys for analysis, do not matter.
        let ssl = user.provider(c"SSL_CTX_use_certificate").ok_or(OpenSslError::NotFound)?;
        let crypto = ssl.provider(c"X509_free").ok_or(OpenSslError::NotFound)?;
        let is_of_ssl = |name: &str| name.starts_with("SSL_") || name.starts_with("TLS_");
        let holder = |name: &str| if is_of_ssl(name) { &ssl } else { &crypto };
        let found = |name: &CStr| holder(name.to_str().unwrap_or_default()).function(name);
        // SAFETY: `function` returns the address of the function with that name in `ssl` or `crypto`, or null. The two
        // belong to the same OpenSSL, since `ssl` calls `crypto`. The server calls this `ssl`, so its objects are of
        // this OpenSSL.
        unsafe { Self::load(found) }.map_err(|error| match error {
            OpenSslError::Missing(name) => {
                OpenSslError::NotOfTheServer(name, holder(name).path().to_owned())
            }
            error => error,
        })
    }

    /// Looks up all functions, and asks the library for its name and version.
    ///
    /// # Safety
    /// `look_up` returns, for a name, the address of the function with that name, or null. All functions are from the
    /// same library, which stays loaded, and the objects that are passed to the methods are from that library.
    ///
    /// # Errors
    /// See [`OpenSslError`].
    pub unsafe fn load(
        mut look_up: impl FnMut(&CStr) -> *mut c_void,
    ) -> Result<Self, OpenSslError> {
        // The name of the library comes first: a fork lacks some functions, and its name is the better message.
        // SAFETY: by the caller's promise.
        let names = unsafe { Names::look_up(&mut look_up) }?;
        // SAFETY: OpenSSL_version_num takes no argument and returns a constant.
        let number = unsafe { (names.OpenSSL_version_num)() };
        // SAFETY: OpenSSL_version returns a static string for 0, which is OPENSSL_VERSION.
        let text = unsafe { CStr::from_ptr((names.OpenSSL_version)(0)) }.to_string_lossy();
        // Forks have many of OpenSSL's functions, but not all of them, and some behave differently.
        let supported =
            number >= 0x1010_1000 && text.starts_with("OpenSSL ") && !text.contains("compatible");
        if !supported {
            return Err(OpenSslError::Unsupported(text.into_owned()));
        }
        // SAFETY: by the caller's promise; the library is OpenSSL 1.1.1 or later, as checked above.
        unsafe { Self::look_up(look_up) }
    }

    /// Its version, as OpenSSL encodes it.
    pub(crate) fn version(&self) -> c_ulong {
        // SAFETY: OpenSSL_version_num takes no argument and returns a constant.
        unsafe { (self.OpenSSL_version_num)() }
    }

    /// The context that a connection uses. It is the default server's until the client has named
    /// a host, then the named server's, if that one has certificates.
    ///
    /// # Safety
    /// `ssl` is a live `SSL` of the library that this was loaded from.
    #[inline]
    #[must_use]
    pub unsafe fn context_of(&self, ssl: *const Ssl) -> *const SslCtx {
        // SAFETY: by the caller's promise; SSL_get_SSL_CTX only reads a field.
        unsafe { (self.SSL_get_SSL_CTX)(ssl) }
    }

    /// The certificate that a connection presents now. After a resumed handshake it may be another certificate of the
    /// context than the one that the client got.
    ///
    /// # Safety
    /// `ssl` is a live `SSL` of the library that this was loaded from.
    #[must_use]
    pub unsafe fn certificate_of(&self, ssl: *const Ssl) -> CertificateAddress {
        // SAFETY: by the caller's promise; SSL_get_certificate only reads fields, and the result is not dereferenced.
        CertificateAddress(unsafe { (self.SSL_get_certificate)(ssl) }.addr())
    }

    /// The host that the client of a connection has named; none if it has named none.
    ///
    /// # Safety
    /// `ssl` is a live `SSL` of the library that this was loaded from. The name does not change while the result is
    /// used.
    #[must_use]
    pub unsafe fn server_name<'a>(&self, ssl: *const Ssl) -> Option<&'a [u8]> {
        // SAFETY: by the caller's promise. For 0, which is TLSEXT_NAMETYPE_host_name, SSL_get_servername returns null
        // or a terminated string in the connection or its session.
        unsafe {
            let name = (self.SSL_get_servername)(ssl, 0);
            (!name.is_null()).then(|| CStr::from_ptr(name).to_bytes())
        }
    }

    /// Whether a connection resumes the session of an earlier one, in which the certificate was presented.
    ///
    /// # Safety
    /// `ssl` is a live `SSL` of the library that this was loaded from.
    #[must_use]
    pub unsafe fn is_resumed(&self, ssl: *const Ssl) -> bool {
        // SAFETY: by the caller's promise; SSL_session_reused only reads a field.
        unsafe { (self.SSL_session_reused)(ssl) != 0 }
    }

    /// The addresses of the certificates of every key of `context`. The context is not changed.
    ///
    /// # Safety
    /// As for [`OpenSsl::chains`].
    #[must_use]
    pub unsafe fn certificates_of(&self, context: *mut SslCtx) -> Vec<CertificateAddress> {
        let mut certificates = Vec::new();
        // SAFETY: by the caller's promise.
        unsafe {
            self.each_key(context, |leaf| certificates.push(CertificateAddress(leaf.addr())))
        };
        certificates
    }

    /// The certificates of every key of `context`. The context is not changed. `name_index` is the index of the data
    /// that the server attaches to each leaf to name it, if it does so.
    ///
    /// # Safety
    /// `context` is a live `SSL_CTX` of the library that this was loaded from, and no other thread
    /// changes it meanwhile.
    #[must_use]
    pub unsafe fn chains(
        &self,
        context: *mut SslCtx,
        name_index: Option<c_int>,
    ) -> Vec<LoadedChain> {
        let mut chains = Vec::new();
        // SAFETY: by the caller's promise.
        unsafe {
            self.each_key(context, |leaf| {
                let certificates = self.sent_with(context, leaf);
                let name = name_index.map(|index| (self.X509_get_ex_data)(leaf, index).addr());
                chains.push(LoadedChain { certificates, name: name.map(NameAddress) });
            });
        }
        chains
    }

    /// Calls `look` with the certificate of each key of `context`, while that key is the current one.
    ///
    /// # Safety
    /// As for [`OpenSsl::chains`].
    unsafe fn each_key(&self, context: *mut SslCtx, mut look: impl FnMut(*mut X509)) {
        let _errors = ErrorMark::set(self);
        // SAFETY: by the caller's promise; SSL_CTX_get0_certificate returns null or the current certificate, which the
        // context owns.
        let current = unsafe { (self.SSL_CTX_get0_certificate)(context) };
        let mut slots = 0;
        let mut step = ctrl::CERT_SET_FIRST;
        let select = |step| {
            let none = std::ptr::null_mut();
            // SAFETY: by the caller's promise; SSL_CTRL_SET_CURRENT_CERT takes no pointer.
            unsafe { (self.SSL_CTX_ctrl)(context, ctrl::SET_CURRENT_CERT, step, none) == 1 }
        };
        while slots < MAX_SLOTS && select(step) {
            step = ctrl::CERT_SET_NEXT;
            // SAFETY: as above. The context owns the certificate; `look` does not keep it.
            let leaf = unsafe { (self.SSL_CTX_get0_certificate)(context) };
            if !leaf.is_null() {
                slots += 1;
                look(leaf);
            }
        }
        if !current.is_null() {
            // SAFETY: SSL_CTRL_SELECT_CURRENT_CERT takes an `X509`; `current` is one that the context owns.
            unsafe {
                (self.SSL_CTX_ctrl)(context, ctrl::SELECT_CURRENT_CERT, 0, current.cast());
            }
        }
    }

    /// The chain that is sent with the current leaf, the leaf first.
    ///
    /// # Safety
    /// As for [`OpenSsl::chains`]; `leaf` is the context's current one.
    unsafe fn sent_with(&self, context: *mut SslCtx, leaf: *mut X509) -> Vec<Vec<u8>> {
        // SAFETY: by the caller's promise; the context owns the leaf and the certificates of the stack.
        unsafe {
            match self.above_the_leaf(context) {
                Some(above) => self.below(leaf, above),
                None => self.completed(context, leaf),
            }
        }
    }

    /// The certificates that are sent above the current leaf: its own chain, or without one the extra chain. None if
    /// there is neither.
    ///
    /// # Safety
    /// As for [`OpenSsl::chains`].
    unsafe fn above_the_leaf(&self, context: *mut SslCtx) -> Option<Vec<*const X509>> {
        let mut stack: *mut Stack = std::ptr::null_mut();
        let out: *mut c_void = (&raw mut stack).cast();
        // SAFETY: by the caller's promise; SSL_CTRL_GET_CHAIN_CERTS writes a `STACK_OF(X509) *`, or null, to `out`.
        unsafe { (self.SSL_CTX_ctrl)(context, ctrl::GET_CHAIN_CERTS, 0, out) };
        if stack.is_null() {
            // SAFETY: by the caller's promise; SSL_CTRL_GET_EXTRA_CHAIN_CERTS writes such a pointer too.
            unsafe {
                (self.SSL_CTX_ctrl)(context, ctrl::GET_EXTRA_CHAIN_CERTS, ctrl::EXTRA_ONLY, out);
            };
        }
        // SAFETY: the context owns the stack, and by the caller's promise no other thread changes it.
        (!stack.is_null()).then(|| unsafe { self.certificates(stack) })
    }

    /// The certificates that a connection has just sent, in DER, the leaf first; empty if it has sent none.
    ///
    /// # Safety
    /// `ssl` is a live `SSL` of the library that this was loaded from, in its handshake.
    pub(crate) unsafe fn sent_chain(&self, ssl: *const Ssl) -> Vec<Vec<u8>> {
        // SAFETY: by the caller's promise. The connection or its context owns the leaf and the stack with its
        // certificates. Both controls write a `STACK_OF(X509) *`, or null, to `out`.
        unsafe {
            let leaf = (self.SSL_get_certificate)(ssl);
            if leaf.is_null() {
                return Vec::new();
            }
            let mut stack: *mut Stack = std::ptr::null_mut();
            let out: *mut c_void = (&raw mut stack).cast();
            (self.SSL_ctrl)(ssl.cast_mut(), ctrl::GET_CHAIN_CERTS, 0, out);
            if stack.is_null() {
                let context = (self.SSL_get_SSL_CTX)(ssl);
                (self.SSL_CTX_ctrl)(context, ctrl::GET_EXTRA_CHAIN_CERTS, ctrl::EXTRA_ONLY, out);
            }
            let above = if stack.is_null() { Vec::new() } else { self.certificates(stack) };
            self.below(leaf, above)
        }
    }

    /// A leaf and the certificates above it, in DER.
    ///
    /// # Safety
    /// `leaf` and `above` are live `X509`s of the library that this was loaded from.
    unsafe fn below(&self, leaf: *const X509, above: Vec<*const X509>) -> Vec<Vec<u8>> {
        let all = std::iter::once(leaf).chain(above);
        // SAFETY: by the caller's promise.
        all.map(|certificate| unsafe { self.der(certificate) }).collect()
    }

    /// The chain that OpenSSL builds and sends for a leaf without a loaded chain, the leaf included. OpenSSL searches
    /// the certificates for chains or, if there are none, those that verify clients, unless that is disabled. nginx
    /// disables it; mod_ssl does not.
    ///
    /// # Safety
    /// As for [`OpenSsl::chains`]; `leaf` is the context's own.
    unsafe fn completed(&self, context: *mut SslCtx, leaf: *mut X509) -> Vec<Vec<u8>> {
        // SAFETY: by the caller's promise. SSL_CTRL_MODE with 0 changes nothing and returns the mode.
        // SSL_CTRL_GET_CHAIN_CERT_STORE, where OpenSSL has it, writes an `X509_STORE *`, or null, to `out`. The context
        // owns that store, the one of SSL_CTX_get_cert_store, and the leaf.
        unsafe {
            let mode = (self.SSL_CTX_ctrl)(context, ctrl::MODE, 0, std::ptr::null_mut());
            let mut store: *mut Store = std::ptr::null_mut();
            let out = (&raw mut store).cast();
            (self.SSL_CTX_ctrl)(context, ctrl::GET_CHAIN_CERT_STORE, 0, out);
            if store.is_null() {
                store = (self.SSL_CTX_get_cert_store)(context);
            }
            if mode & ctrl::NO_AUTO_CHAIN != 0 || store.is_null() {
                return vec![self.der(leaf)];
            }
            self.built(store, leaf)
        }
    }

    /// The chain that OpenSSL builds for a leaf from a store, the leaf included.
    ///
    /// # Safety
    /// `store` and `leaf` are live objects of the library that this was loaded from.
    unsafe fn built(&self, store: *mut Store, leaf: *mut X509) -> Vec<Vec<u8>> {
        // SAFETY: by the caller's promise. X509_STORE_CTX_new returns null or an object of ours. That object owns the
        // stack of X509_STORE_CTX_get0_chain and is freed after the certificates have been copied; X509_STORE_CTX_free
        // ignores null.
        unsafe {
            let verification = (self.X509_STORE_CTX_new)();
            let mut chain = Vec::new();
            if !verification.is_null()
                && (self.X509_STORE_CTX_init)(verification, store, leaf, std::ptr::null_mut()) == 1
            {
                // The result does not matter: OpenSSL sends the certificates that it found.
                (self.X509_verify_cert)(verification);
                let stack = (self.X509_STORE_CTX_get0_chain)(verification);
                if !stack.is_null() {
                    chain = self.certificates(stack).into_iter().map(|c| self.der(c)).collect();
                }
            }
            (self.X509_STORE_CTX_free)(verification);
            if chain.is_empty() { vec![self.der(leaf)] } else { chain }
        }
    }

    /// The certificates of a stack, at most one more than is accepted.
    ///
    /// # Safety
    /// `stack` is a live stack of certificates.
    unsafe fn certificates(&self, stack: *const Stack) -> Vec<*const X509> {
        // SAFETY: by the caller's promise; each index is below OPENSSL_sk_num.
        unsafe {
            (0..(self.OPENSSL_sk_num)(stack).min(MAX_CHAIN))
                .map(|index| (self.OPENSSL_sk_value)(stack, index).cast_const().cast())
                .collect()
        }
    }

    /// A certificate in DER; empty if OpenSSL cannot encode it.
    ///
    /// # Safety
    /// `certificate` is a live `X509`.
    unsafe fn der(&self, certificate: *const X509) -> Vec<u8> {
        // SAFETY: by the caller's promise; with null, i2d_X509 only returns the length.
        let length = unsafe { (self.i2d_X509)(certificate, std::ptr::null_mut()) };
        let mut der = vec![0; usize::try_from(length).unwrap_or(0)];
        if !der.is_empty() {
            let mut end = der.as_mut_ptr();
            // SAFETY: i2d_X509 writes as many bytes as it has returned above, which the buffer has, and moves `end`
            // behind them.
            unsafe { (self.i2d_X509)(certificate, &raw mut end) };
        }
        der
    }

    /// A store with the certificates of `sources`, read in the same way as for mod_ssl.
    ///
    /// # Errors
    /// The first source that OpenSSL cannot read.
    pub fn chain_store<'a>(
        &'a self,
        sources: &[ChainSource],
    ) -> Result<ChainStore<'a>, ChainSource> {
        let _errors = ErrorMark::set(self);
        // SAFETY: X509_STORE_new returns null or a new object, which `ChainStore` owns.
        let store = ChainStore { openssl: self, store: unsafe { (self.X509_STORE_new)() } };
        for source in sources {
            let none = std::ptr::null();
            let is_read = std::ffi::CString::new(source.path()).is_ok_and(|path| {
                let (file, directory) = match source {
                    ChainSource::File(_) => (path.as_ptr(), none),
                    ChainSource::Directory(_) => (none, path.as_ptr()),
                };
                // SAFETY: the store is not null, and only this function has it. X509_STORE_load_locations takes two
                // strings, one of which may be null.
                !store.store.is_null()
                    && unsafe { (self.X509_STORE_load_locations)(store.store, file, directory) }
                        == 1
            });
            if !is_read {
                return Err(source.clone());
            }
        }
        Ok(store)
    }

    /// Where this OpenSSL looks for trusted certificates. Environment variables override it, as for every program that
    /// uses OpenSSL.
    #[must_use]
    pub fn system_store(&self) -> SystemStore {
        // SAFETY: these four functions take no argument and return static strings.
        let [file, file_env, dir, dir_env] = unsafe {
            [
                (self.X509_get_default_cert_file)(),
                (self.X509_get_default_cert_file_env)(),
                (self.X509_get_default_cert_dir)(),
                (self.X509_get_default_cert_dir_env)(),
            ]
            .map(|text| CStr::from_ptr(text).to_string_lossy())
        };
        let named = std::env::var_os(&*file_env);
        let is_named = named.is_some();
        let file = named.unwrap_or_else(|| (&*file).into());
        let directories = std::env::var_os(&*dir_env).unwrap_or_else(|| (&*dir).into());
        SystemStore {
            file: Some(PathBuf::from(file)),
            is_named,
            directories: std::env::split_paths(&directories).collect(),
        }
    }

    fn parse<'a>(&'a self, certificate: &Certificate) -> Option<OwnedX509<'a>> {
        self.parse_der(certificate.der())
    }

    fn parse_der<'a>(&'a self, der: &[u8]) -> Option<OwnedX509<'a>> {
        let mut start = der.as_ptr();
        let length = c_long::try_from(der.len()).ok()?;
        // SAFETY: `start` points to `length` bytes, which d2i_X509 reads. With null it returns null or a new object,
        // which `OwnedX509` owns.
        let x509 = unsafe { (self.d2i_X509)(std::ptr::null_mut(), &raw mut start, length) };
        (!x509.is_null()).then_some(OwnedX509 { openssl: self, x509 })
    }
}

impl fmt::Debug for OpenSsl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenSsl").finish_non_exhaustive()
    }
}

impl VerifySignature for OpenSsl {
    fn is_signed_by(&self, certificate: &Certificate, issuer: &Certificate) -> bool {
        let _errors = ErrorMark::set(self);
        let (Some(certificate), Some(issuer)) = (self.parse(certificate), self.parse(issuer))
        else {
            return false;
        };
        // SAFETY: `issuer` is live. X509_get0_pubkey returns null or a key that the certificate owns.
        let key = unsafe { (self.X509_get0_pubkey)(issuer.x509) };
        // SAFETY: `certificate` is live, and so is the key, since `issuer` is.
        !key.is_null() && unsafe { (self.X509_verify)(certificate.x509, key) } == 1
    }
}

/// A source from which OpenSSL completes a chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ChainSource {
    /// A file in PEM.
    File(String),
    /// A directory whose files are named by hashes.
    Directory(String),
}

impl ChainSource {
    /// The path.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::File(path) | Self::Directory(path) => path,
        }
    }
}

/// An `X509_STORE` that we made.
pub struct ChainStore<'a> {
    openssl: &'a OpenSsl,
    store: *mut Store,
}

impl ChainStore<'_> {
    /// The chain that OpenSSL builds and sends for `leaf`, in DER, from this store if no chain was loaded for it. Only
    /// the leaf if OpenSSL cannot read it.
    #[must_use]
    pub fn chain_of(&self, leaf: &[u8]) -> Vec<Vec<u8>> {
        let _errors = ErrorMark::set(self.openssl);
        match self.openssl.parse_der(leaf) {
            // SAFETY: the store and the leaf are live objects of `self.openssl`.
            Some(leaf) if !self.store.is_null() => unsafe {
                self.openssl.built(self.store, leaf.x509)
            },
            _ => vec![leaf.to_vec()],
        }
    }
}

impl fmt::Debug for ChainStore<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainStore").finish_non_exhaustive()
    }
}

impl Drop for ChainStore<'_> {
    fn drop(&mut self) {
        // SAFETY: `chain_store` made the store, and this is its only owner. X509_STORE_free ignores null.
        unsafe { (self.openssl.X509_STORE_free)(self.store) };
    }
}

/// An `X509` that we made.
struct OwnedX509<'a> {
    openssl: &'a OpenSsl,
    x509: *mut X509,
}

impl Drop for OwnedX509<'_> {
    fn drop(&mut self) {
        // SAFETY: `parse_der` made the object, and this is its only owner.
        unsafe { (self.openssl.X509_free)(self.x509) };
    }
}

/// Removes the errors that this module causes from the thread's error queue: the server would log them as its own.
struct ErrorMark<'a>(&'a OpenSsl);

impl<'a> ErrorMark<'a> {
    fn set(openssl: &'a OpenSsl) -> Self {
        // SAFETY: ERR_set_mark takes no argument and uses only the error queue of the calling thread.
        unsafe { (openssl.ERR_set_mark)() };
        Self(openssl)
    }
}

impl Drop for ErrorMark<'_> {
    fn drop(&mut self) {
        // SAFETY: ERR_pop_to_mark takes no argument and uses only the error queue of the calling thread.
        unsafe { (self.0.ERR_pop_to_mark)() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_function_is_named() {
        // SAFETY: every address is null, so `load` calls nothing.
        let loaded = unsafe { OpenSsl::load(|_| std::ptr::null_mut()) };
        assert_eq!(loaded.err(), Some(OpenSslError::Missing("OpenSSL_version_num")));
    }

    extern "C" fn number() -> c_ulong {
        0x1010_1000
    }
    extern "C" fn openssl(_: c_int) -> *const c_char {
        c"OpenSSL 1.1.1".as_ptr()
    }
    extern "C" fn fork(_: c_int) -> *const c_char {
        c"LibreSSL 4.3.2".as_ptr()
    }

    /// The address of `name` in a library whose version text comes from `version`, with `rest` for all other functions.
    fn named(
        name: &CStr,
        version: extern "C" fn(c_int) -> *const c_char,
        rest: *mut c_void,
    ) -> *mut c_void {
        match name.to_bytes() {
            b"OpenSSL_version_num" => number as *mut c_void,
            b"OpenSSL_version" => version as *mut c_void,
            b"ERR_pop_to_mark" => std::ptr::null_mut(),
            _ => rest,
        }
    }

    #[test]
    fn the_last_missing_function_is_named_before_any_is_called() {
        // SAFETY: `load` calls `number` and `openssl`, which have the right signatures. It calls no other function,
        // since the last address is null.
        let loaded =
            unsafe { OpenSsl::load(|name| named(name, openssl, std::ptr::dangling_mut())) };
        assert_eq!(loaded.err(), Some(OpenSslError::Missing("ERR_pop_to_mark")));
    }

    #[test]
    fn a_fork_is_named_although_it_lacks_functions() {
        // SAFETY: `load` calls `number` and `fork`, which have the right signatures, and nothing else of a fork.
        let loaded = unsafe { OpenSsl::load(|name| named(name, fork, std::ptr::null_mut())) };
        assert_eq!(loaded.err(), Some(OpenSslError::Unsupported("LibreSSL 4.3.2".to_owned())));
    }
}
