//! Just enough DER to write certificates that the fuzzer can shape, and PEM round them.

/// What differs between the certificates of one run.
pub(crate) struct Shape {
    /// Names are numbers; certificates with the same name differ in the other fields.
    pub(crate) subject: u32,
    pub(crate) issuer: u32,
    /// The key. [`UNPINNABLE`] has its issuer's parameters.
    pub(crate) key: u32,
    /// The certificate's identifier for its own key.
    pub(crate) subject_key_id: Option<u8>,
    /// The certificate's identifier for its issuer's key.
    pub(crate) authority_key_id: Option<u8>,
    pub(crate) serial: u8,
}

/// A key of which no pin can be formed (RFC 7469 section 2.4).
pub(crate) const UNPINNABLE: u32 = 15;

/// The first key of another kind than those before it.
pub(crate) const OTHER_KIND: u32 = 112;

/// 1.3.101.112, Ed25519.
const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
/// 1.3.101.113, Ed448: the algorithm of keys from [`OTHER_KIND`] on.
const ED448: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x71];
/// 1.2.840.10045.2.1, a key on an elliptic curve, whose parameters are NULL: those of its issuer.
const EC_INHERITED: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x05, 0x00];
/// 2.5.4.3, the common name.
const COMMON_NAME: &[u8] = &[0x06, 0x03, 0x55, 0x04, 0x03];

impl Shape {
    /// The certificate; its signature is only zeros, because no test verifies it.
    pub(crate) fn certificate(&self) -> Vec<u8> {
        self.certificate_for(&[])
    }

    /// The same, for these host names.
    pub(crate) fn certificate_for(&self, hosts: &[&str]) -> Vec<u8> {
        let algorithm = match self.key {
            UNPINNABLE => EC_INHERITED,
            OTHER_KIND.. => ED448,
            _ => ED25519,
        };
        let key = [&[0][..], &self.key.to_be_bytes().repeat(8)].concat();
        let spki = sequence(&[&sequence(&[algorithm]), &value(0x03, &key)]);
        let time = value(0x17, b"300101000000Z");
        let mut extensions = Vec::new();
        if let Some(id) = self.subject_key_id {
            extensions.push(extension(0x0e, &value(0x04, &[id; 4])));
        }
        if let Some(id) = self.authority_key_id {
            extensions.push(extension(0x23, &sequence(&[&value(0x80, &[id; 4])])));
        }
        if !hosts.is_empty() {
            let names: Vec<Vec<u8>> =
                hosts.iter().map(|host| value(0x82, host.as_bytes())).collect();
            extensions.push(extension(0x11, &sequence(&[&names.concat()])));
        }
        let extensions = match extensions.is_empty() {
            true => Vec::new(),
            false => value(0xa3, &sequence(&[&extensions.concat()])),
        };
        let tbs = sequence(&[
            &value(0xa0, &value(0x02, &[2])),
            &value(0x02, &[self.serial & 0x7f]),
            &sequence(&[ED25519]),
            &name(self.issuer),
            &sequence(&[&time, &time]),
            &name(self.subject),
            &spki,
            &extensions,
        ]);
        sequence(&[&tbs, &sequence(&[ED25519]), &value(0x03, &[0; 65])])
    }
}

fn name(number: u32) -> Vec<u8> {
    let text = value(0x0c, format!("N{number}").as_bytes());
    sequence(&[&value(0x31, &sequence(&[COMMON_NAME, &text]))])
}

/// An extension of `id-ce`.
fn extension(id: u8, content: &[u8]) -> Vec<u8> {
    sequence(&[&value(0x06, &[0x55, 0x1d, id]), &value(0x04, content)])
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    value(0x30, &parts.concat())
}

fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let [.., high, low] = content.len().to_be_bytes();
    let length = match (high, low) {
        (0, low @ ..0x80) => vec![low],
        (0, low) => vec![0x81, low],
        (high, low) => vec![0x82, high, low],
    };
    [&[tag][..], &length, content].concat()
}

/// PEM with lines of 64 characters.
pub(crate) fn armoured(label: &str, der: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n").into_bytes();
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let byte = |at| u32::from(group.get(at).copied().unwrap_or(0));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for sextet in 0..4 {
                let index = (bits >> (18 - 6 * sextet)) as usize & 63;
                text.push(if sextet > group.len() { b'=' } else { ALPHABET[index] });
            }
        }
        text.push(b'\n');
    }
    text.extend(format!("-----END {label}-----\n").into_bytes());
    text
}
