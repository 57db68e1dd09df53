//! The file with a certificate, its chain and its key, in the form that both servers load.

use std::borrow::Borrow;

use hpkp_core::certificate::Certificate;
use hpkp_core::pem;
use hpkp_core::published::State;
use hpkp_core::text::Excerpt;
use zeroize::Zeroizing;

/// The object identifier of the extension that demands a stapled OCSP response (RFC 7633), in DER.
const TLS_FEATURE: &[u8] = &[0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x18];

/// The text of the file. `chain` are the certificates in DER, the leaf first; `key` is the key in PKCS #8.
#[must_use]
pub fn text(chain: &[Vec<u8>], key: &[u8]) -> Zeroizing<Vec<u8>> {
    // The buffer has its full size from the start: one that grows leaves a copy of the key in memory.
    let blocks = chain.iter().map(|der| ("CERTIFICATE", &der[..])).chain([("PRIVATE KEY", key)]);
    let room = blocks.clone().map(|(label, der)| pem::length(label, der.len())).sum();
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    blocks.for_each(|(label, der)| pem::append(&mut text, label, der));
    text
}

/// Whether a certificate demands a stapled OCSP response.
#[must_use]
pub fn demands_staple(leaf: &[u8]) -> bool {
    leaf.windows(TLS_FEATURE.len()).any(|bytes| bytes == TLS_FEATURE)
}

/// Why a kept chain must not be presented at `now`, in seconds since 1970 UTC.
#[must_use]
pub fn why_not<C: Borrow<Certificate>>(
    chain: &[C],
    state: Option<&State>,
    now: i64,
) -> Option<String> {
    let chain: Vec<&Certificate> = chain.iter().map(Borrow::borrow).collect();
    let leaf = *chain.first()?;
    if demands_staple(leaf.der()) {
        return Some(
            "the certificate demands a stapled OCSP response, and none is kept".to_owned(),
        );
    }
    if let Some(expired) = chain.iter().find(|one| one.not_after() < now) {
        let which = if std::ptr::eq(*expired, leaf) { "it" } else { "a certificate above it" };
        return Some(format!("{which} has expired ({})", expired.not_after_text()));
    }
    let compromised = |one: &&Certificate| {
        let pin = one.pin()?;
        Some((pin, state?.compromised(pin)?.to_owned()))
    };
    chain.iter().find_map(compromised).map(|(pin, why)| {
        format!("the key {pin} is recorded as compromised ({})", Excerpt::new(&why))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hpkp_core::published::{Body, Compromised, Event};

    #[test]
    fn a_file_has_the_chain_and_the_key_and_its_buffer_never_grows() {
        for length in [1, 47, 48, 49, 4_000] {
            let (leaf, above, key) = (vec![1; length], vec![2; 48], vec![3; length]);
            let text = text(&[leaf.clone(), above.clone()], &key);
            let blocks: Vec<(Vec<u8>, Vec<u8>)> = pem::blocks(&text)
                .map(|block| block.expect("a block"))
                .map(|block| (block.label.to_vec(), block.decode().expect("base64")))
                .collect();
            let expected = [
                (b"CERTIFICATE".to_vec(), leaf),
                (b"CERTIFICATE".to_vec(), above),
                (b"PRIVATE KEY".to_vec(), key),
            ];
            assert_eq!(blocks, expected);
            assert!(text.lines_fit());
            assert_eq!(text.capacity(), text.len(), "{length}");
        }
    }

    #[test]
    fn an_expired_or_compromised_chain_is_not_presented() {
        let leaf = || Certificate::from_der(include_bytes!("silent/ec.der")).unwrap();
        let until = leaf().not_after();
        let chain = [leaf()];
        assert_eq!(why_not(&chain, None, until), None);
        let why = why_not(&chain, None, until + 1).unwrap();
        assert!(why.starts_with("it has expired"), "{why}");
        let body =
            Body::Compromised(Compromised { pin: leaf().pin().unwrap(), why: "stolen".into() });
        let mut state = State::default();
        state.add(&Event::new(1_790_000_000, 1, "w".parse().unwrap(), body));
        let why = why_not(&chain, Some(&state), until).unwrap();
        assert!(why.contains("is recorded as compromised (stolen)"), "{why}");
        assert!(!demands_staple(leaf().der()));
    }

    trait Lines {
        fn lines_fit(&self) -> bool;
    }

    impl Lines for Vec<u8> {
        fn lines_fit(&self) -> bool {
            self.split(|byte| *byte == b'\n').all(|line| line.len() <= 64)
        }
    }
}
