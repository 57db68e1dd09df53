//! The core on keys and certificates that openssl made.
