//! What a connection has presented, in the form in which it is kept in the TLS session: short, for it
//! travels in each ticket, and complete, for the session may be resumed with another worker or another
//! configuration, which knows nothing of that certificate.

use hpkp_core::pin::Pin;
use hpkp_core::published::Fingerprint;

/// Where a certificate came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was loaded with the configuration, which has been checked.
    Loaded,
    /// It was chosen during the handshake.
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

/// The first half of a pin: no more is needed to tell keys from each other.
pub type ShortPin = [u8; 16];

/// The first half of `pin`.
#[must_use]
pub fn short(pin: Pin) -> ShortPin {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = *pin.bytes();
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

/// Tells what was presented from everything else that could have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresentedId([u8; 16]);

/// Bytes in front of the pins: the id and the origin.
const HEAD: usize = 17;

/// The most pins that are kept. A chain has a handful of keys on its paths.
const MAX_PINS: usize = 16;

/// What a connection has presented, as it is written into its session: the id, the origin, and the pins
/// of the keys on the candidate paths of the certificate.
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

    /// What is written into the session.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// As it is read again.
    #[must_use]
    pub fn seen(&self) -> Seen<'_> {
        Seen(&self.0)
    }
}

/// What a session says.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a>(&'a [u8]);

impl<'a> Seen<'a> {
    /// What these bytes of a session say; none where they are not ours.
    #[inline]
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        (bytes.len() >= HEAD).then_some(Self(bytes))
    }

    /// Which certificate it is.
    #[inline]
    #[must_use]
    pub fn id(self) -> Option<PresentedId> {
        self.0.first_chunk().copied().map(PresentedId)
    }

    /// Where it came from; none where another version of this module wrote what this one does not know.
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
    fn what_is_written_is_read_again() {
        let presented = Presented::new(Origin::Chosen, &[pin(1), pin(2), pin(1)]);
        let seen = Seen::new(presented.bytes()).unwrap();
        assert_eq!(seen.origin(), Some(Origin::Chosen));
        assert_eq!(seen.pins().collect::<Vec<_>>(), [&[1; 16], &[2; 16]]);
        assert_eq!(seen.id(), presented.seen().id());
    }

    #[test]
    fn what_differs_has_another_id() {
        let id = |origin, pins: &[Pin]| Presented::new(origin, pins).seen().id();
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
    fn it_is_short() {
        let pins: Vec<Pin> = (0..200).map(pin).collect();
        assert_eq!(
            Presented::new(Origin::Loaded, &pins).bytes().len(),
            HEAD + MAX_PINS * size_of::<ShortPin>()
        );
        assert_eq!(Presented::new(Origin::Loaded, &pins[..3]).bytes().len(), 65);
    }

    #[test]
    fn what_others_wrote_is_not_read() {
        assert!(Seen::new(b"").is_none());
        assert!(Seen::new(&[0; 16]).is_none());
        let seen = Seen::new(&[9; 40]).unwrap();
        assert_eq!((seen.origin(), seen.pins().count()), (None, 1));
    }
}
