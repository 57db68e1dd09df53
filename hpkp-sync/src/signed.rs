//! Signatures in a pass: signs the heartbeats of this machine, and limits the copies to records that their writers have
//! signed.

use std::collections::HashSet;
use std::path::Path;

use hpkp_core::published::{EventId, WriterName};

use crate::heartbeat::Heartbeat;
use crate::now;
use crate::records::Records;
use crate::report::{Code, Report};
use crate::signature::{KEYS, PeerKeys, Refusal, SignatureError, Signer};
use crate::store::Remote;

/// The keys that a pass uses.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    signer: Option<Signer>,
    /// None where no signature is required.
    peers: Option<PeerKeys>,
}

impl Keys {
    /// Reads the key of this machine, if it has one, and the keys of other machines.
    ///
    /// # Errors
    /// A key or a file of keys cannot be used.
    pub(crate) fn read(directory: &Path, own: Option<&Path>) -> Result<Self, SignatureError> {
        let signer = own.map(Signer::read).transpose()?;
        Ok(Self { signer, peers: PeerKeys::read(&directory.join(KEYS))? })
    }

    /// Whether the records of other machines must be signed.
    pub(crate) const fn must_be_signed(&self) -> bool {
        self.peers.is_some()
    }

    /// Signs a heartbeat, if this machine has a key.
    pub(crate) fn sign(
        &self,
        writer: &WriterName,
        records: &Records,
        mut beat: Heartbeat,
        report: &mut Report,
    ) -> Heartbeat {
        let signed =
            self.signer.as_ref().map(|signer| signer.sign(writer, beat.number, records.events()));
        match signed.transpose() {
            Ok(signed) => beat.signed = signed,
            Err(error) => report.writer(Code::KeysUnusable, writer, error.to_string()),
        }
        beat
    }

    /// The records of another writer that its heartbeat signs, and their SHA-256. All records if no signature is
    /// required. Records in `known` are kept even if the heartbeat does not sign them: the writer may have compacted
    /// its file, or somebody has restored an old heartbeat. None if no records may be taken over, which is reported.
    pub(crate) fn taken(
        &self,
        writer: &WriterName,
        remote: Option<&Remote>,
        (records, known): (Records, &HashSet<EventId>),
        report: &mut Report,
    ) -> Option<(Records, String)> {
        let Some(peers) = &self.peers else { return Some((records, String::new())) };
        let beat =
            remote.and_then(|remote| remote.beat.as_ref()).and_then(|beat| beat.as_ref().ok());
        let signed = beat.and_then(|beat| beat.signed.as_ref());
        let number = beat.map_or(0, |beat| beat.number);
        match peers.verify((writer, number), signed, records.events(), now()) {
            Ok(covered) => {
                let is_left_out =
                    |(seq, id): &(u64, EventId)| !covered.has(*seq) && !known.contains(id);
                let left_out = records.events().filter(is_left_out).count();
                if left_out > 0 {
                    report.writer(
                        Code::Signature(Refusal::Unsigned.code()),
                        writer,
                        format!("{left_out} of its records are not signed, and are left out"),
                    );
                }
                let sha256 = signed.map(|signed| signed.sha256.clone()).unwrap_or_default();
                Some((records.only(|seq, id| covered.has(seq) || known.contains(&id)), sha256))
            }
            Err(refusal) => {
                refused(writer, refusal, report);
                None
            }
        }
    }

    /// Whether the heartbeat of a writer with a copy here is accepted; reports the reason if not. `known` is the
    /// SHA-256 of the signed records in the copy.
    pub(crate) fn counts(
        &self,
        writer: &WriterName,
        beat: &Heartbeat,
        known: &str,
        copy: impl FnOnce() -> Option<Records>,
        report: &mut Report,
    ) -> bool {
        let Some(peers) = &self.peers else { return true };
        let is_known =
            beat.signed.as_ref().is_some_and(|signed| !known.is_empty() && signed.sha256 == known);
        let found = match is_known {
            true => peers.vouches((writer, beat.number), beat.signed.as_ref(), now()),
            false => {
                let records = copy().unwrap_or_default();
                let events = records.events();
                peers.verify((writer, beat.number), beat.signed.as_ref(), events, now()).map(drop)
            }
        };
        found.map_err(|refusal| refused(writer, refusal, report)).is_ok()
    }
}

fn refused(writer: &WriterName, refusal: Refusal, report: &mut Report) {
    let text = format!("{refusal}; nothing is taken over, and the copy in peers/ stays as it is");
    report.writer(Code::Signature(refusal.code()), writer, text);
}
