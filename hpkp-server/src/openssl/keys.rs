//! Private keys: reads them from a context to keep them, and loads the files of a kept pair into a context.
//!
//! A key leaves OpenSSL's memory in only one function, [`OpenSsl::pairs`], in a buffer that is overwritten when it is
//! dropped. The files of a kept pair are read by OpenSSL itself.

use std::ffi::{CString, c_char, c_int, c_void};
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use hpkp_core::certificate::Certificate;
use zeroize::Zeroizing;

use super::{ErrorMark, OpenSsl, SslCtx};

/// A certificate with its chain and its key.
pub struct LoadedPair {
    /// The chain in DER, the leaf first.
    pub chain: Vec<Vec<u8>>,
    /// The key in PKCS #8, in DER. None if the key does not leave its token.
    pub key: Option<Zeroizing<Vec<u8>>>,
}

impl fmt::Debug for LoadedPair {
    /// Omits the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedPair").finish_non_exhaustive()
    }
}

/// Why OpenSSL does not load a certificate and its key from their files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// OpenSSL cannot read the certificate.
    #[error("OpenSSL cannot read the certificate")]
    Certificate,
    /// OpenSSL cannot read the key.
    #[error("OpenSSL cannot read the private key")]
    Key,
    /// The key needs a pass phrase.
    #[error("the private key needs a pass phrase")]
    PassPhrase,
    /// The key is not that of the certificate.
    #[error("the private key does not fit the certificate")]
    Mismatch,
}

/// OpenSSL's number for PEM.
const PEM: c_int = 1;

/// Certificates whose keys were thrown away, one for each kind of key that servers use.
const SILENT: [&[u8]; 5] = [
    include_bytes!("../kept/silent/rsa.der"),
    include_bytes!("../kept/silent/rsa-pss.der"),
    include_bytes!("../kept/silent/ec.der"),
    include_bytes!("../kept/silent/ed25519.der"),
    include_bytes!("../kept/silent/ed448.der"),
];

/// Whether OpenSSL has asked for a pass phrase. Only one thread reads configurations.
static ASKED: AtomicBool = AtomicBool::new(false);

/// Gives no pass phrase. Without this callback OpenSSL would ask at the terminal.
unsafe extern "C" fn no_pass_phrase(_: *mut c_char, _: c_int, _: c_int, _: *mut c_void) -> c_int {
    ASKED.store(true, Ordering::Relaxed);
    -1
}

/// Gives the pass phrase to which `phrase` points, a `&[u8]`, if there is room for it.
unsafe extern "C" fn pass_phrase(
    place: *mut c_char,
    room: c_int,
    _: c_int,
    phrase: *mut c_void,
) -> c_int {
    // SAFETY: OpenSSL calls a pem_password_cb with a buffer of `room` bytes and the pointer that `try_pair_with` has
    // set as userdata: to a `&[u8]` that lives until the context is freed.
    unsafe {
        let phrase = *phrase.cast::<&[u8]>();
        let length = phrase.len().min(usize::try_from(room).unwrap_or(0));
        place.cast::<u8>().copy_from_nonoverlapping(phrase.as_ptr(), length);
        length as c_int
    }
}

fn c_path(path: &Path) -> Option<CString> {
    CString::new(path.as_os_str().as_bytes()).ok()
}

impl OpenSsl {
    /// The certificates of every key of `context` with their keys. The context is not changed.
    ///
    /// # Safety
    /// As for [`OpenSsl::chains`].
    #[must_use]
    pub unsafe fn pairs(&self, context: *mut SslCtx) -> Vec<LoadedPair> {
        let mut pairs = Vec::new();
        // SAFETY: by the caller's promise; `each_key` has made the leaf and its key the current ones of the context.
        unsafe {
            self.each_key(context, |leaf| {
                let chain = self.sent_with(context, leaf);
                pairs.push(LoadedPair { chain, key: self.current_key(context) });
            });
        }
        pairs
    }

    /// # Safety
    /// As for [`OpenSsl::chains`].
    unsafe fn current_key(&self, context: *mut SslCtx) -> Option<Zeroizing<Vec<u8>>> {
        // SAFETY: by the caller's promise. The context owns the key. EVP_PKEY2PKCS8 returns null or a new object, which
        // is freed below; OpenSSL overwrites the key in it then. i2d_PKCS8_PRIV_KEY_INFO returns the length for null,
        // and otherwise writes as many bytes.
        unsafe {
            let key = (self.SSL_CTX_get0_privatekey)(context);
            if key.is_null() {
                return None;
            }
            let pkcs8 = (self.EVP_PKEY2PKCS8)(key);
            if pkcs8.is_null() {
                return None;
            }
            let length = (self.i2d_PKCS8_PRIV_KEY_INFO)(pkcs8, std::ptr::null_mut());
            let mut der = Zeroizing::new(vec![0; usize::try_from(length).unwrap_or(0)]);
            if !der.is_empty() {
                let mut end = der.as_mut_ptr();
                (self.i2d_PKCS8_PRIV_KEY_INFO)(pkcs8, &raw mut end);
            }
            (self.PKCS8_PRIV_KEY_INFO_free)(pkcs8);
            (!der.is_empty()).then_some(der)
        }
    }

    /// Tests whether OpenSSL can load a certificate and its key from these files, as a server would.
    ///
    /// # Errors
    /// See [`PairError`]. A key with a pass phrase cannot be tested.
    pub fn try_pair(&self, certificate: &Path, key: &Path) -> Result<(), PairError> {
        self.try_pair_with(certificate, key, None)
    }

    /// [`OpenSsl::try_pair`] with a pass phrase.
    ///
    /// # Errors
    /// See [`PairError`]; if the key cannot be read with the pass phrase, the error is [`PairError::Key`].
    pub fn try_pair_with(
        &self,
        certificate: &Path,
        key: &Path,
        mut phrase: Option<&[u8]>,
    ) -> Result<(), PairError> {
        let _errors = ErrorMark::set(self);
        let (Some(certificate), Some(key)) = (c_path(certificate), c_path(key)) else {
            return Err(PairError::Certificate);
        };
        // SAFETY: SSL_CTX_new returns null or a new context, which only this function has and which it frees below. The
        // paths end with a null byte. The callbacks have the signature of pem_password_cb, and `phrase` outlives the
        // context.
        unsafe {
            let context = (self.SSL_CTX_new)((self.TLS_server_method)());
            if context.is_null() {
                return Err(PairError::Certificate);
            }
            // The level must refuse nothing here: servers have security levels of their own.
            (self.SSL_CTX_set_security_level)(context, 0);
            (self.SSL_CTX_set_default_passwd_cb)(context, no_pass_phrase);
            if let Some(phrase) = &mut phrase {
                (self.SSL_CTX_set_default_passwd_cb)(context, pass_phrase);
                let phrase: *mut &[u8] = phrase;
                (self.SSL_CTX_set_default_passwd_cb_userdata)(context, phrase.cast());
            }
            ASKED.store(false, Ordering::Relaxed);
            let tried =
                if (self.SSL_CTX_use_certificate_chain_file)(context, certificate.as_ptr()) != 1 {
                    Err(PairError::Certificate)
                } else if (self.SSL_CTX_use_PrivateKey_file)(context, key.as_ptr(), PEM) == 1 {
                    // A key of another kind than the certificate's got a slot of its own.
                    match (self.SSL_CTX_check_private_key)(context) {
                        1 => Ok(()),
                        _ => Err(PairError::Mismatch),
                    }
                } else if ASKED.load(Ordering::Relaxed) {
                    Err(PairError::PassPhrase)
                } else if self.has_key(&key) {
                    Err(PairError::Mismatch)
                } else {
                    Err(PairError::Key)
                };
            (self.SSL_CTX_free)(context);
            tried
        }
    }

    /// Tests whether the key in a PEM text belongs to a certificate in DER.
    ///
    /// # Errors
    /// See [`PairError`].
    pub fn fits(&self, leaf: &[u8], key: &[u8]) -> Result<(), PairError> {
        let _errors = ErrorMark::set(self);
        let leaf = self.parse_der(leaf).ok_or(PairError::Certificate)?;
        let length = c_int::try_from(key.len()).map_err(|_| PairError::Key)?;
        // SAFETY: BIO_new_mem_buf and PEM_read_bio_PrivateKey return null or new objects, which only this function has
        // and which it frees below. `key` has `length` bytes and outlives the BIO, which only reads them. The callback
        // has the signature of pem_password_cb.
        unsafe {
            let bio = (self.BIO_new_mem_buf)(key.as_ptr().cast(), length);
            if bio.is_null() {
                return Err(PairError::Key);
            }
            ASKED.store(false, Ordering::Relaxed);
            let none = std::ptr::null_mut();
            let read = (self.PEM_read_bio_PrivateKey)(bio, none, Some(no_pass_phrase), none.cast());
            (self.BIO_free)(bio);
            if read.is_null() {
                let is_asked = ASKED.load(Ordering::Relaxed);
                return Err(if is_asked { PairError::PassPhrase } else { PairError::Key });
            }
            let fits = (self.X509_check_private_key)(leaf.x509, read) == 1;
            (self.EVP_PKEY_free)(read);
            if fits { Ok(()) } else { Err(PairError::Mismatch) }
        }
    }

    /// Whether OpenSSL can read the key in a file, regardless of a certificate.
    fn has_key(&self, key: &CString) -> bool {
        // A context without a certificate takes every key.
        // SAFETY: as in `try_pair_with`.
        unsafe {
            let context = (self.SSL_CTX_new)((self.TLS_server_method)());
            if context.is_null() {
                return false;
            }
            (self.SSL_CTX_set_default_passwd_cb)(context, no_pass_phrase);
            let has = (self.SSL_CTX_use_PrivateKey_file)(context, key.as_ptr(), PEM) == 1;
            (self.SSL_CTX_free)(context);
            has
        }
    }

    /// Makes `context` present only the certificates in these files, each of which has a certificate, its chain and its
    /// key. Returns whether that succeeded.
    ///
    /// # Safety
    /// As for [`OpenSsl::chains`], and no connection uses the context yet.
    pub unsafe fn present_alone(
        &self,
        context: *mut SslCtx,
        files: &[PathBuf],
        leaves: &[&[u8]],
    ) -> bool {
        let _errors = ErrorMark::set(self);
        for file in files {
            let Some(file) = c_path(file) else { return false };
            // The certificate must come first: OpenSSL then drops an earlier key that does not fit it.
            // SAFETY: by the caller's promise; the path ends with a null byte.
            let is_loaded = unsafe {
                (self.SSL_CTX_use_certificate_chain_file)(context, file.as_ptr()) == 1
                    && (self.SSL_CTX_use_PrivateKey_file)(context, file.as_ptr(), PEM) == 1
            };
            if !is_loaded {
                return false;
            }
        }
        // SAFETY: by the caller's promise.
        unsafe { self.silence_others(context, leaves) }
    }

    /// Makes `context` present no other certificates than `leaves`. OpenSSL has no function to remove one. But it
    /// drops a key when its certificate is replaced by one of the same kind that does not fit the key, and never
    /// presents a certificate without a key.
    ///
    /// # Safety
    /// As for [`OpenSsl::present_alone`].
    unsafe fn silence_others(&self, context: *mut SslCtx, leaves: &[&[u8]]) -> bool {
        // SAFETY: by the caller's promise.
        let presented = || unsafe {
            let mut presented = Vec::new();
            self.each_key(context, |leaf| presented.push(self.der(leaf)));
            presented
        };
        for other in presented().iter().filter(|leaf| !leaves.contains(&leaf.as_slice())) {
            let Ok(other) = Certificate::from_der(other) else { return false };
            let kind = |der: &&&[u8]| {
                Certificate::from_der(der)
                    .is_ok_and(|silent| silent.key_algorithm() == other.key_algorithm())
            };
            let Some(silent) = SILENT.iter().find(kind).and_then(|der| self.parse_der(der)) else {
                return false;
            };
            // SAFETY: by the caller's promise. SSL_CTX_use_certificate takes a reference of its own, so `silent` may be
            // dropped.
            unsafe { (self.SSL_CTX_use_certificate)(context, silent.x509) };
        }
        let now = presented();
        now.len() == leaves.len() && now.iter().all(|leaf| leaves.contains(&leaf.as_slice()))
    }
}
