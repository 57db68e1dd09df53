//! Which certificate a connection has presented, in the form that its TLS session keeps. The data are short, because
//! each ticket contains them. They are complete, because the session may be resumed with another worker or
//! configuration that does not know the certificate.

use hpkp_core::pin::Pin;
use hpkp_core::published::Fingerprint;

/// The origin of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The certificate was loaded with the configuration, which has been checked.
    Loaded,
    /// The certificate was chosen during the handshake.
    Chosen,
}

impl Origin {
    const fn byte(self) -> u8 {
        match self {
            Self::Loaded => 1,
            Self::Chosen => 2,
        }
    }
}

/// The first half of a pin, which is enough to distinguish keys.
pub type ShortPin = [u8; 16];

/// The first half of `pin`.
#[must_use]
pub fn short(pin: Pin) -> ShortPin {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = *pin.bytes();
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

/// An id that distinguishes what was presented from anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresentedId([u8; 16]);

/// Bytes in front of the pins: the id and the origin.
const HEAD: usize = 17;

/// The most pins that are kept. A chain has only a few keys on its paths.
const MAX_PINS: usize = 16;

/// The data in a session about the certificate that its connection has presented: the id, the origin, and the pins of
/// the keys on its candidate paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented(Box<[u8]>);

impl Presented {
    /// A certificate with these keys on its candidate paths, the leaf's first.
    #[must_use]
    pub fn new(origin: Origin, pins: &[Pin]) -> Self {
        let mut kept: Vec<ShortPin> = Vec::new();
        for pin in pins.iter().copied().map(short) {
            if kept.len() < MAX_PINS && !kept.contains(&pin) {
                kept.push(pin);
            }
        }
        let origin = [origin.byte()];
        let parts = std::iter::once(&origin[..]).chain(kept.iter().map(|pin| &pin[..]));
        let mut bytes = Fingerprint::of(parts).bytes().to_vec();
        bytes.extend(origin);
        bytes.extend(kept.iter().flatten());
        Self(bytes.into())
    }

    /// The bytes for the session.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same data, as read from a session.
    #[must_use]
    pub fn session_data(&self) -> SessionData<'_> {
        SessionData(&self.0)
    }
}

/// The data in a session about the presented certificate.
#[derive(Clone, Copy, Debug)]
pub struct SessionData<'a>(&'a [u8]);

impl<'a> SessionData<'a> {
    /// Reads the bytes of a session; none if this module did not write them.
    #[inline]
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        (bytes.len() >= HEAD).then_some(Self(bytes))
    }

    /// The id of what was presented.
    #[inline]
    #[must_use]
    pub fn id(self) -> Option<PresentedId> {
        self.0.first_chunk().copied().map(PresentedId)
    }

    /// The origin of the certificate; none if another version of this module wrote one that is not known here.
    #[must_use]
    pub fn origin(self) -> Option<Origin> {
        let byte = self.0.get(HEAD - 1)?;
        [Origin::Loaded, Origin::Chosen].into_iter().find(|origin| origin.byte() == *byte)
    }

    /// The keys on its candidate paths.
    pub fn pins(self) -> impl Iterator<Item = &'a ShortPin> {
        self.0
            .get(HEAD..)
            .unwrap_or_default()
            .chunks_exact(16)
            .filter_map(|pin| pin.try_into().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(first: u8) -> Pin {
        Pin::from_bytes([first; 32])
    }

    #[test]
    fn written_session_data_are_read_back() {
        let presented = Presented::new(Origin::Chosen, &[pin(1), pin(2), pin(1)]);
        let session_data = SessionData::new(presented.bytes()).unwrap();
        assert_eq!(session_data.origin(), Some(Origin::Chosen));
        assert_eq!(session_data.pins().collect::<Vec<_>>(), [&[1; 16], &[2; 16]]);
        assert_eq!(session_data.id(), presented.session_data().id());
    }

    #[test]
    fn different_keys_or_origins_have_different_ids() {
        let id = |origin, pins: &[Pin]| Presented::new(origin, pins).session_data().id();
        let all = [
            id(Origin::Loaded, &[]),
            id(Origin::Loaded, &[pin(1)]),
            id(Origin::Chosen, &[pin(1)]),
            id(Origin::Loaded, &[pin(1), pin(2)]),
            id(Origin::Loaded, &[pin(2), pin(1)]),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(!all[..index].contains(one), "{index}");
        }
    }

    #[test]
    fn session_data_are_short() {
        let pins: Vec<Pin> = (0..200).map(pin).collect();
        assert_eq!(
            Presented::new(Origin::Loaded, &pins).bytes().len(),
            HEAD + MAX_PINS * size_of::<ShortPin>()
        );
        assert_eq!(Presented::new(Origin::Loaded, &pins[..3]).bytes().len(), 65);
    }

    #[test]
    fn bytes_of_other_programs_are_not_read() {
        assert!(SessionData::new(b"").is_none());
        assert!(SessionData::new(&[0; 16]).is_none());
        let session_data = SessionData::new(&[9; 40]).unwrap();
        assert_eq!((session_data.origin(), session_data.pins().count()), (None, 1));
    }
}
