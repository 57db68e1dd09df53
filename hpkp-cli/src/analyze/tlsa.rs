//! Compares TLSA records with the presented chains (RFC 6698, RFC 7671).

use hpkp_core::finding::Code;
use hpkp_core::published::tlsa::{Combination, Protocol, Rrset, Tlsa, usage};

use super::chain::Judged;
use super::dns::{Answer, Resolver};
use super::findings::{Findings, Found};
use super::report::{TlsaRecord, TlsaReport};

/// The name of the records, and the resolver's response.
pub(super) struct Asked {
    pub(super) owner: String,
    pub(super) resolver: Resolver,
    pub(super) answer: Answer<Tlsa>,
}

/// Compares the records with all chains.
pub(super) fn judge(asked: &Asked, chains: &[&Judged], findings: &mut Findings) -> TlsaReport {
    let Asked { owner, resolver, answer } = asked;
    let records = answer.records.iter().map(|record| TlsaRecord {
        record: record.to_string(),
        usable: record.is_usable(),
        matches: !chains.is_empty() && chains.iter().all(|chain| matches(record, chain)),
    });
    let report = TlsaReport {
        owner: owner.clone(),
        resolver: resolver.server.to_string(),
        dnssec: if answer.authentic { "validated" } else { "not-validated" },
        ttl: answer.ttl,
        records: records.collect(),
    };
    let Some(set) = Rrset::new(Some(Protocol::Tcp), answer.ttl, answer.records.clone()) else {
        return report;
    };
    if !answer.authentic {
        findings.add(
            Found::new(
                Code::TlsaNotValidated,
                format!(
                    "the resolver {} does not say that the TLSA records of {owner} are validated by \
                     DNSSEC; clients ignore records that are not",
                    resolver.server
                ),
            )
            .fix("ask a resolver that validates, over a path that you trust, for example one on this machine"),
        );
    }
    if set.counted().is_empty() {
        let text = format!("no client can use any of the TLSA records of {owner}");
        findings.add(Found::new(Code::TlsaNotUsable, text));
        return report;
    }
    for chain in chains {
        findings.extend(compare(owner, &set, chain));
    }
    report
}

/// The finding for one chain that the records do not match.
fn compare(owner: &str, set: &Rrset, chain: &Judged) -> Option<Found> {
    let counted = set.counted();
    let unmet: Vec<&&Tlsa> = counted.iter().filter(|record| !matches(record, chain)).collect();
    let lines = unmet.iter().map(|record| format!("no match: {owner} TLSA {record}"));
    if unmet.len() == counted.len() {
        let text = format!(
            "no TLSA record of {owner} matches the certificate chain; clients that use DANE refuse it"
        );
        return Some(Found::new(Code::PublishedPinsUnmet, text).details(lines));
    }
    // Each combination of usage, selector and matching type counts as a whole: during a key change the
    // record of the next key has the same combination and does not match yet.
    let of_kind =
        |kind: Combination| counted.iter().filter(move |record| record.combination() == kind);
    let is_unmet = |kind: &Combination| {
        of_kind(*kind).next().is_some() && !of_kind(*kind).any(|record| matches(record, chain))
    };
    let kinds: Vec<String> = set
        .combinations()
        .into_iter()
        .filter(is_unmet)
        .map(|(usage, selector, matching)| format!("{usage} {selector} {matching}"))
        .collect();
    if kinds.is_empty() {
        return None;
    }
    let text = format!(
        "the TLSA records of {owner} of the kind {} match nothing in the chain, though others do; \
         clients that support only these refuse it",
        kinds.join(" and ")
    );
    Some(Found::new(Code::TlsaCombinationUnmet, text).details(lines))
}

/// Whether the record matches a certificate of the chain in the position that its usage requires.
fn matches(record: &Tlsa, chain: &Judged) -> bool {
    let is_of = |certificate| record.is_usable() && record.is_of(certificate);
    let sent = chain.chain.certificates();
    match record.usage {
        usage::PKIX_EE | usage::DANE_EE => is_of(chain.chain.leaf()),
        usage::DANE_TA => sent.iter().skip(1).any(|one| is_of(one)),
        usage::PKIX_TA => {
            chain.path.iter().skip(1).any(|node| node.on_path && is_of(&node.certificate))
        }
        _ => false,
    }
}

/// Whether a client that uses DANE accepts the chain without a trusted root.
pub(super) fn vouches(asked: &Asked, chain: &Judged) -> bool {
    let is_dane = |record: &&Tlsa| matches!(record.usage, usage::DANE_TA | usage::DANE_EE);
    asked.answer.records.iter().filter(is_dane).any(|record| matches(record, chain))
}
