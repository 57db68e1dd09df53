//! Signatures of records: which machine may write under which name, independent of who runs the store.
//!
//! Each machine signs its writer's heartbeat with an Ed25519 key of OpenSSH: the number of the heartbeat, and all
//! events by their ids. The signature has OpenSSH's own format (`ssh-keygen -Y`, namespace [`NAMESPACE`]) and signs the
//! text that [`Statement::text`] returns. The file [`KEYS`] of a directory for records lists which key is valid for
//! which writer, in OpenSSH's format of allowed signers (ssh-keygen(1)). The principals are names of writers.

use std::fmt;
use std::fs::Metadata;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use hpkp_cli::sync::os;
use hpkp_core::published::{EventId, WriterName};
use hpkp_core::sorted::distinct;
use hpkp_core::text::Excerpt;
use hpkp_server::file::if_there;
use hpkp_server::owner::Unsafe;
use openssl::pkey::{Id, PKey, Private};
use openssl::sign::{Signer as OpenSslSigner, Verifier};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use ssh_key::private::KeypairData;
use ssh_key::public::{Ed25519PublicKey, KeyData};
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, Signature, SshSig};

use crate::allowed::{self, Allowed};
use crate::disk;

/// The namespace of the signatures, so that a signature for another purpose is refused.
pub const NAMESPACE: &str = "hpkp-records";

/// The file with the keys of other machines, in a directory for records. Without it no signature is required.
pub const KEYS: &str = "peers.keys";

/// The largest file with a private key, in bytes.
const MAX_KEY: u64 = 64 << 10;

/// The largest file of allowed signers, in bytes.
const MAX_KEYS: u64 = 16 << 20;

/// The most ranges of numbers in a statement. A file that was compacted has a few.
const MAX_RANGES: usize = 2_000;

/// The largest signature as a text, in bytes.
const MAX_SIGNATURE: usize = 4_096;

/// What is signed: a heartbeat of a writer, and its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    /// The writer.
    pub writer: &'a WriterName,
    /// The number of the heartbeat.
    pub number: u64,
    /// The numbers of the events.
    pub seqs: &'a Ranges,
    /// The SHA-256 of the events' ids in the order of their numbers, each as 32 digits with a line feed.
    pub sha256: &'a str,
}

impl Statement<'_> {
    /// The bytes that are signed.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { writer, number, seqs, sha256 } = self;
        let lines = [
            format!("{NAMESPACE} 1"),
            format!("writer {writer}"),
            format!("number {number}"),
            format!("events {seqs}"),
            format!("sha256 {sha256}"),
        ];
        lines.map(|line| line + "\n").concat()
    }
}

/// The part of a heartbeat that signs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// The numbers of the events that are signed, as in `1-20,22`.
    pub events: String,
    /// The SHA-256 of the events' ids.
    pub sha256: String,
    /// The signature, as `ssh-keygen -Y sign` writes it.
    pub signature: String,
}

/// Numbers of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// The ranges of numbers in ascending order.
    fn of(seqs: impl Iterator<Item = u64>) -> Self {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for seq in seqs {
            match ranges.last_mut() {
                Some((_, last)) if seq <= last.saturating_add(1) => *last = seq.max(*last),
                _ => ranges.push((seq, seq)),
            }
        }
        Self(ranges)
    }

    fn read(text: &str) -> Option<Self> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            let is_behind = ranges.last().is_none_or(|(_, before)| *before < first);
            if first > last || !is_behind || ranges.len() == MAX_RANGES {
                return None;
            }
            ranges.push((first, last));
        }
        Some(Self(ranges))
    }

    /// Whether a number is in one of the ranges.
    #[must_use]
    pub fn contains(&self, seq: u64) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < seq);
        self.0.get(at).is_some_and(|(first, _)| *first <= seq)
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

/// The SHA-256 of the ids of events, which are in the order of their numbers.
fn digest(events: &[(u64, EventId)]) -> String {
    let mut hash = Sha256::new();
    for (_, id) in events {
        hash.update(id.to_string());
        hash.update(b"\n");
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The key with which this machine signs.
pub struct Signer {
    key: PKey<Private>,
    public: Ed25519PublicKey,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("public", &self.public).finish_non_exhaustive()
    }
}

impl Signer {
    /// Reads a private key as `ssh-keygen -t ed25519 -N ''` writes it.
    ///
    /// # Errors
    /// [`SignatureError::Key`].
    pub fn read(path: &Path) -> Result<Self, SignatureError> {
        let error = |why: String| SignatureError::Key(path.display().to_string(), why);
        let (bytes, metadata) = read(path, MAX_KEY).map_err(|why| error(os(&why)))?;
        if metadata.mode() & 0o077 != 0 {
            return Err(error("other users can read the private key; chmod 0600".to_owned()));
        }
        let key = PrivateKey::from_openssh(&bytes).map_err(|_| {
            error("not a private key of OpenSSH (ssh-keygen -t ed25519)".to_owned())
        })?;
        if key.is_encrypted() {
            return Err(error("the key is encrypted; make one without a passphrase".to_owned()));
        }
        let KeypairData::Ed25519(pair) = key.key_data() else {
            return Err(error("not an Ed25519 key (ssh-keygen -t ed25519)".to_owned()));
        };
        let seed = pair.private.to_bytes();
        let openssl = PKey::private_key_from_raw_bytes(&seed, Id::ED25519);
        let key = openssl.map_err(|_| error("OpenSSL cannot use the key".to_owned()))?;
        Ok(Self { key, public: pair.public })
    }

    /// Signs a heartbeat of `writer` with this number, and all its events with their numbers.
    ///
    /// # Errors
    /// [`SignatureError::TooManyGaps`], [`SignatureError::Library`].
    pub fn sign(
        &self,
        writer: &WriterName,
        number: u64,
        events: impl Iterator<Item = (u64, EventId)>,
    ) -> Result<Signed, SignatureError> {
        let events = distinct(events);
        let seqs = Ranges::of(events.iter().map(|(seq, _)| *seq));
        if seqs.0.len() > MAX_RANGES {
            return Err(SignatureError::TooManyGaps);
        }
        let sha256 = digest(&events);
        let text = Statement { writer, number, seqs: &seqs, sha256: &sha256 }.text();
        let signature = self.sign_bytes(text.as_bytes()).ok_or(SignatureError::Library)?;
        Ok(Signed { events: seqs.to_string(), sha256, signature })
    }

    fn sign_bytes(&self, bytes: &[u8]) -> Option<String> {
        let data = SshSig::signed_data(NAMESPACE, HashAlg::Sha512, bytes).ok()?;
        let raw =
            OpenSslSigner::new_without_digest(&self.key).ok()?.sign_oneshot_to_vec(&data).ok()?;
        let signature = Signature::new(Algorithm::Ed25519, raw).ok()?;
        let public = KeyData::Ed25519(self.public);
        let signature = SshSig::new(public, NAMESPACE, HashAlg::Sha512, signature).ok()?;
        signature.to_pem(LineEnding::LF).ok()
    }
}

/// The keys that are valid for each writer.
#[derive(Debug)]
pub struct PeerKeys {
    allowed: Vec<Allowed>,
}

/// The events that a signature covers.
#[derive(Debug, PartialEq, Eq)]
pub struct Covered {
    seqs: Ranges,
    /// How many of the checked events are not covered.
    pub unsigned: usize,
}

impl Covered {
    /// Whether the event with this number is signed.
    #[must_use]
    pub fn has(&self, seq: u64) -> bool {
        self.seqs.contains(seq)
    }
}

impl PeerKeys {
    /// Reads the file of a directory for records. None where there is no such file.
    ///
    /// # Errors
    /// [`SignatureError::Keys`]: in this case no records may be taken over.
    pub fn read(path: &Path) -> Result<Option<Self>, SignatureError> {
        let error = |why: String| SignatureError::Keys(path.display().to_string(), why);
        let found = if_there(read(path, MAX_KEYS)).map_err(|why| error(os(&why)))?;
        let Some((bytes, metadata)) = found else { return Ok(None) };
        match Unsafe::of(&metadata) {
            Some(Unsafe::Owner) => {
                return Err(error("the file belongs to another user".to_owned()));
            }
            Some(why @ Unsafe::Mode) => return Err(error(format!("{why}; {}", why.remedy()))),
            None => {}
        }
        let text = String::from_utf8(bytes).map_err(|_| error("not UTF-8".to_owned()))?;
        let allowed = allowed::read(&text).map_err(|why| error(why.to_string()))?;
        Ok(Some(Self { allowed }))
    }

    /// Whether the file has a key for a writer.
    #[must_use]
    pub fn knows(&self, writer: &WriterName) -> bool {
        self.allowed.iter().any(|one| one.is_for(writer.as_str()))
    }

    /// Which events of `writer` its heartbeat with this number and signature covers, wherever the events come from.
    /// Only these may be taken over.
    ///
    /// `now` is in seconds since 1970 UTC.
    ///
    /// # Errors
    /// Why none may be taken over.
    pub fn verify(
        &self,
        (writer, number): (&WriterName, u64),
        signed: Option<&Signed>,
        events: impl Iterator<Item = (u64, EventId)>,
        now: i64,
    ) -> Result<Covered, Refusal> {
        if !self.knows(writer) {
            return Err(Refusal::UnknownWriter);
        }
        let signed = signed.ok_or(Refusal::Unsigned)?;
        let seqs = Ranges::read(&signed.events).ok_or(Refusal::Malformed)?;
        self.verify_statement((writer, number), signed, &seqs, now)?;
        // The signature is valid. Now compare what it covers.
        let mut all = distinct(events);
        let count = all.len();
        all.retain(|(seq, _)| seqs.contains(*seq));
        if digest(&all) != signed.sha256 {
            return Err(Refusal::OtherContent);
        }
        Ok(Covered { unsigned: count - all.len(), seqs })
    }

    /// Whether a key of the writer has signed a heartbeat, without a look at the events: for callers that know that
    /// their copy has the same [`Signed::sha256`].
    ///
    /// # Errors
    /// Why the heartbeat is refused.
    pub fn vouches(
        &self,
        (writer, number): (&WriterName, u64),
        signed: Option<&Signed>,
        now: i64,
    ) -> Result<(), Refusal> {
        if !self.knows(writer) {
            return Err(Refusal::UnknownWriter);
        }
        let signed = signed.ok_or(Refusal::Unsigned)?;
        let seqs = Ranges::read(&signed.events).ok_or(Refusal::Malformed)?;
        self.verify_statement((writer, number), signed, &seqs, now)
    }

    fn verify_statement(
        &self,
        (writer, number): (&WriterName, u64),
        signed: &Signed,
        seqs: &Ranges,
        now: i64,
    ) -> Result<(), Refusal> {
        if signed.signature.len() > MAX_SIGNATURE {
            return Err(Refusal::Malformed);
        }
        let signature = SshSig::from_pem(&signed.signature).map_err(|_| Refusal::Malformed)?;
        if signature.namespace() != NAMESPACE {
            return Err(Refusal::OtherPurpose);
        }
        let KeyData::Ed25519(public) = signature.public_key() else {
            return Err(Refusal::OtherKey);
        };
        let mut keys =
            self.allowed.iter().filter(|one| one.is_for(writer.as_str()) && one.key == public.0);
        let Some(first) = keys.next() else { return Err(Refusal::OtherKey) };
        if !std::iter::once(first).chain(keys).any(|one| one.is_valid(NAMESPACE, now)) {
            return Err(Refusal::NotValidNow);
        }
        let text = Statement { writer, number, seqs, sha256: &signed.sha256 }.text();
        let is_right = || {
            let data =
                SshSig::signed_data(NAMESPACE, signature.hash_alg(), text.as_bytes()).ok()?;
            let key = PKey::public_key_from_raw_bytes(&public.0, Id::ED25519).ok()?;
            let mut verifier = Verifier::new_without_digest(&key).ok()?;
            verifier.verify_oneshot(signature.signature_bytes(), &data).ok()
        };
        if is_right() == Some(true) { Ok(()) } else { Err(Refusal::Invalid) }
    }
}

/// Why records of a writer are not taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No key is valid for the writer.
    #[error("peers.keys has no key for this writer")]
    UnknownWriter,
    /// The heartbeat has no signature.
    #[error("the records are not signed")]
    Unsigned,
    /// The signature cannot be read.
    #[error("the signature cannot be read")]
    Malformed,
    /// The signature has another namespace.
    #[error("the signature is for another purpose than hpkp-records")]
    OtherPurpose,
    /// The signature is by a key that is not valid for this writer.
    #[error("the signature is by a key that peers.keys does not have for this writer")]
    OtherKey,
    /// The signature is by a key that is not valid at this time, or not for records.
    #[error(
        "the signature is by a key that peers.keys does not allow for hpkp-records at this time"
    )]
    NotValidNow,
    /// The signature is wrong: the heartbeat was changed, or belongs to another writer.
    #[error("the signature is wrong: the heartbeat was changed, or belongs to another writer")]
    Invalid,
    /// The signature is valid but covers other events: some are missing or were changed.
    #[error("the signature covers other records: some are missing in the store, or were changed")]
    OtherContent,
}

impl Refusal {
    /// The code of the finding.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::UnknownWriter => "peer-key-unknown",
            Self::Unsigned => "peer-records-unsigned",
            Self::OtherContent => "peer-signature-of-other-records",
            _ => "peer-signature-invalid",
        }
    }
}

/// Why nothing can be signed or verified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// A private key cannot be used: its file, and the reason.
    #[error("cannot sign with \"{}\": {}", Excerpt::new(.0), .1)]
    Key(String, String),
    /// The file with the keys of other machines cannot be used: its path, and the reason.
    #[error("cannot use \"{}\": {}; no records of other machines are taken over", Excerpt::new(.0), .1)]
    Keys(String, String),
    /// The numbers of the events have too many gaps.
    #[error("cannot sign: the numbers of the records have more than {MAX_RANGES} gaps")]
    TooManyGaps,
    /// OpenSSL fails to sign.
    #[error("cannot sign: OpenSSL fails")]
    Library,
}

fn read(path: &Path, most: u64) -> io::Result<(Vec<u8>, Metadata)> {
    let file = disk::open(path)?;
    let metadata = file.metadata()?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("larger than {most} bytes")));
    }
    Ok((bytes, metadata))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;
    use std::process::{Command, Stdio};

    use super::*;

    const NOW: i64 = 1_800_000_000;

    struct Machine {
        dir: tempfile::TempDir,
    }

    impl Machine {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().expect("a directory") }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        /// Creates a key with the real ssh-keygen. Returns the public key.
        fn key(&self, name: &str) -> String {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "a comment", "-f"])
                .arg(self.path(name))
                .status();
            assert!(made.expect("ssh-keygen").success());
            fs::read_to_string(self.path(&format!("{name}.pub"))).expect("a key")
        }

        fn signer(&self, name: &str) -> Signer {
            Signer::read(&self.path(name)).expect("a key")
        }

        fn keys(&self, lines: &[String]) -> PeerKeys {
            fs::write(self.path(KEYS), lines.concat()).expect("a file");
            PeerKeys::read(&self.path(KEYS)).expect("keys").expect("a file")
        }
    }

    fn name(text: &str) -> WriterName {
        text.parse().expect("a name")
    }

    fn events(numbers: &[u64]) -> Vec<(u64, EventId)> {
        let id = |number: &u64| format!("{number:032x}").parse().expect("an id");
        numbers.iter().map(|number| (*number, id(number))).collect()
    }

    #[test]
    fn only_unchanged_events_with_a_key_of_their_writer_are_verified() {
        let machine = Machine::new();
        let public = machine.key("web-2");
        let keys = machine.keys(&[format!("web-2,web-2.command {public}")]);
        let all = events(&[1, 2, 3, 5, 9]);
        let web_2 = name("web-2");
        let signed = machine.signer("web-2").sign(&web_2, 7, all.iter().copied()).expect("signed");
        assert_eq!(signed.events, "1-3,5,9");
        let verify = |writer: &str, number, signed: Option<&Signed>, events: &[(u64, EventId)]| {
            keys.verify((&name(writer), number), signed, events.iter().copied(), NOW)
        };
        let covered = verify("web-2", 7, Some(&signed), &all).expect("right");
        assert!(covered.has(3) && !covered.has(4) && covered.has(9) && !covered.has(10));
        assert_eq!(covered.unsigned, 0);
        // Unsigned events are counted. No signed event may be missing or changed.
        let more = events(&[1, 2, 3, 4, 5, 9, 10]);
        assert_eq!(verify("web-2", 7, Some(&signed), &more).expect("right").unsigned, 2);
        for less in [&[1, 2, 3, 5][..], &[], &[2, 3, 5, 9]] {
            let found = verify("web-2", 7, Some(&signed), &events(less));
            assert_eq!(found, Err(Refusal::OtherContent), "{less:?}");
        }
        let mut other = all.clone();
        other[2].1 = events(&[77])[0].1;
        assert_eq!(verify("web-2", 7, Some(&signed), &other), Err(Refusal::OtherContent));
        // Two events have the same number.
        other = all.clone();
        other.push((3, events(&[77])[0].1));
        assert_eq!(verify("web-2", 7, Some(&signed), &other), Err(Refusal::OtherContent));
        // An older heartbeat under a new number, and the heartbeat of another writer.
        assert_eq!(verify("web-2", 8, Some(&signed), &all), Err(Refusal::Invalid));
        assert_eq!(verify("web-2.command", 7, Some(&signed), &all), Err(Refusal::Invalid));
        assert_eq!(verify("web-3", 7, Some(&signed), &all), Err(Refusal::UnknownWriter));
        assert_eq!(verify("web-2", 7, None, &all), Err(Refusal::Unsigned));
        let changed = |change: &dyn Fn(&mut Signed)| {
            let mut signed = signed.clone();
            change(&mut signed);
            verify("web-2", 7, Some(&signed), &all)
        };
        assert_eq!(changed(&|signed| signed.events = "1-9".into()), Err(Refusal::Invalid));
        assert_eq!(changed(&|signed| signed.sha256 = digest(&events(&[1]))), Err(Refusal::Invalid));
        for events in ["", "3-1", "1,1", "5,1", "x", "1-", "18446744073709551616"] {
            let found = changed(&|signed| signed.events = events.into());
            assert_eq!(found, Err(Refusal::Malformed), "{events}");
        }
        assert_eq!(changed(&|signed| signed.signature = "x".into()), Err(Refusal::Malformed));
        assert_eq!(
            changed(&|signed| signed.signature = "x".repeat(9_999)),
            Err(Refusal::Malformed)
        );
        // The key of another machine of the fleet.
        let other = machine.key("web-3");
        let keys = machine.keys(&[format!("web-3 {other}"), format!("web-2 {public}")]);
        let signed = machine.signer("web-3").sign(&web_2, 7, all.iter().copied()).expect("signed");
        let found = keys.verify((&web_2, 7), Some(&signed), all.iter().copied(), NOW);
        assert_eq!(found, Err(Refusal::OtherKey));
    }

    #[test]
    fn ssh_keygen_verifies_our_signatures_and_we_verify_its() {
        let machine = Machine::new();
        let public = machine.key("web-2");
        let keys = machine.keys(&[format!("web-2 namespaces=\"{NAMESPACE}\" {public}")]);
        let (web_2, all) = (name("web-2"), events(&[1, 2]));
        let signed = machine.signer("web-2").sign(&web_2, 7, all.iter().copied()).expect("signed");
        let seqs = Ranges::read(&signed.events).expect("numbers");
        let statement =
            Statement { writer: &web_2, number: 7, seqs: &seqs, sha256: &signed.sha256 };
        fs::write(machine.path("text"), statement.text()).expect("a file");
        fs::write(machine.path("sig"), &signed.signature).expect("a file");
        let verified = Command::new("ssh-keygen")
            .args(["-Y", "verify", "-I", "web-2", "-n", NAMESPACE, "-f"])
            .arg(machine.path(KEYS))
            .arg("-s")
            .arg(machine.path("sig"))
            .stdin(fs::File::open(machine.path("text")).expect("a file"))
            .stdout(Stdio::null())
            .status();
        assert!(verified.expect("ssh-keygen").success());

        let sign = |namespace: &str| {
            let _ = fs::remove_file(machine.path("text.sig"));
            let made = Command::new("ssh-keygen")
                .args(["-q", "-Y", "sign", "-n", namespace, "-f"])
                .arg(machine.path("web-2"))
                .arg(machine.path("text"))
                .stderr(Stdio::null())
                .status();
            assert!(made.expect("ssh-keygen").success());
            let signature = fs::read_to_string(machine.path("text.sig")).expect("a signature");
            let signed = Signed { signature, ..signed.clone() };
            keys.verify((&web_2, 7), Some(&signed), all.iter().copied(), NOW)
        };
        assert!(sign(NAMESPACE).is_ok());
        assert_eq!(sign("file"), Err(Refusal::OtherPurpose));
    }

    #[test]
    fn a_key_is_valid_only_at_its_time_and_for_its_namespace() {
        let machine = Machine::new();
        let public = machine.key("web-2");
        let (web_2, all) = (name("web-2"), events(&[1]));
        let signed = machine.signer("web-2").sign(&web_2, 1, all.iter().copied()).expect("signed");
        let verify = |options: &str, now| {
            let keys = machine.keys(&[format!("web-2 {options} {public}")]);
            keys.verify((&web_2, 1), Some(&signed), all.iter().copied(), now).map(drop)
        };
        let before = "valid-before=\"20270101Z\"";
        assert_eq!(verify(before, 1_798_761_599), Ok(()));
        assert_eq!(verify(before, 1_798_761_600), Err(Refusal::NotValidNow));
        assert_eq!(verify("namespaces=\"git\"", NOW), Err(Refusal::NotValidNow));
    }

    #[test]
    fn unsafe_or_invalid_key_files_are_refused() {
        let machine = Machine::new();
        let public = machine.key("web-2");
        assert!(PeerKeys::read(&machine.path(KEYS)).expect("none").is_none());
        let keys = |text: &[u8]| {
            fs::write(machine.path(KEYS), text).expect("a file");
            PeerKeys::read(&machine.path(KEYS)).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(keys(b""), Ok(()));
        assert!(keys(b"web-2 nonsense\n").expect_err("no key").contains("line 1: "));
        assert!(keys(b"\xff\n").expect_err("no text").contains("not UTF-8"));
        let good = format!("web-2 {public}");
        fs::write(machine.path(KEYS), good).expect("a file");
        let mode = |name: &str, mode| {
            fs::set_permissions(machine.path(name), fs::Permissions::from_mode(mode))
                .expect("a file");
        };
        mode(KEYS, 0o666);
        let error = PeerKeys::read(&machine.path(KEYS)).expect_err("others may write");
        assert!(error.to_string().contains("chmod go-w"), "{error}");

        let refused =
            |name: &str| Signer::read(&machine.path(name)).expect_err("no key").to_string();
        assert!(refused("web-2.pub").contains("other users can read"));
        mode("web-2.pub", 0o600);
        assert!(refused("web-2.pub").contains("not a private key of OpenSSH"));
        assert!(refused("nothing").contains("no such file"));
        for (name, options, why) in [
            ("secret", &["-t", "ed25519", "-N", "secret"][..], "encrypted"),
            ("rsa", &["-t", "rsa", "-b", "2048", "-N", ""], "not an Ed25519 key"),
        ] {
            let made = Command::new("ssh-keygen")
                .arg("-q")
                .args(options)
                .arg("-f")
                .arg(machine.path(name))
                .status();
            assert!(made.expect("ssh-keygen").success());
            assert!(refused(name).contains(why), "{name}");
        }
    }
}
