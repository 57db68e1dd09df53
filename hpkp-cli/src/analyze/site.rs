//! Judges one server by what its addresses present and respond.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use hpkp_core::certificate::Certificate;
use hpkp_core::finding::{Class, Code};
use hpkp_core::path::{Chain, PathCertificate};
use hpkp_core::pin::Pin;
use hpkp_core::published::tlsa;
use hpkp_core::ua::FieldKind;
use hpkp_core::ua::field::{Field, Reading};
use hpkp_core::ua::host::Host;

use super::chain::{Anchored, Fault, Judged, judge};
use super::findings::{Findings, Found};
use super::report::{
    AddressReport, CertificateReport, ChainReport, HeaderReport, PinReport, Renewal, ResponseView,
    SiteReport,
};
use super::survey::{Answered, Asked, Failure};
use super::target::{Protocol, Site, Target};
use super::{policy, renewal, tlsa as dane};
use crate::arguments::Starttls;
use crate::ca::CaTable;
use crate::output;
use crate::parse::header::{Connection, Header};
use crate::presented::Presented;

/// What a judgement needs besides the server's responses.
pub(super) struct Knowledge<'a> {
    pub(super) anchored: &'a Anchored,
    pub(super) table: &'a CaTable,
    pub(super) now: i64,
}

/// Everything that the server's addresses presented and responded.
pub(super) struct Surveyed {
    pub(super) target: Target,
    /// The name that clients expect in the certificate.
    pub(super) servername: Host,
    pub(super) asked: Vec<Asked>,
    /// Responses of the same host over plain HTTP.
    pub(super) plain: Vec<Answered>,
    pub(super) tlsa: Option<Result<dane::Asked, Failure>>,
    pub(super) failures: Vec<Failure>,
}

/// A chain that one address presents.
struct OfAddress {
    address: String,
    judged: Rc<Judged>,
    /// The position of the address in `Surveyed::asked`.
    place: usize,
    seen_with: Vec<String>,
}

/// A header and the address that sent it.
struct Sent<'a> {
    address: String,
    answered: &'a Answered,
}

impl<'a> Sent<'a> {
    /// The value that clients use: the first one.
    fn value(&self, kind: FieldKind) -> Option<&'a [u8]> {
        self.answered.response.fields(kind).first().map(Vec::as_slice)
    }
}

/// Judges a server.
pub(super) fn report(surveyed: &Surveyed, knowledge: &Knowledge<'_>) -> SiteReport {
    let Site { protocol, host, port } = &surveyed.target.site;
    let mut findings = Findings::default();
    for failure in &surveyed.failures {
        findings.add(Found::new(failure.code, failure.text.clone()));
    }
    reach(surveyed, &mut findings);
    let chains = chains(surveyed, knowledge, &mut findings);
    let all: Vec<&Judged> = chains.iter().map(|one| &*one.judged).collect();
    let tlsa = match &surveyed.tlsa {
        None => None,
        Some(Err(failure)) => {
            findings.add(Found::new(failure.code, failure.text.clone()));
            None
        }
        Some(Ok(asked)) => Some(dane::judge(asked, &all, &mut findings)),
    };
    faults(surveyed, &chains, &mut findings);
    let headers = headers(surveyed, &chains, knowledge, &mut findings);
    plain(surveyed, &mut findings);
    let renewal = renewal(surveyed, &headers, &all, knowledge.table);
    if let Some((_, Some(found))) = &renewal {
        findings.add(found.clone());
    }
    let pinned: BTreeSet<Pin> = headers.iter().flat_map(|one| pins_of(&one.header)).collect();
    let addresses = surveyed.asked.iter().enumerate().map(|(place, asked)| AddressReport {
        address: asked.address.to_string(),
        tls: asked.versions.clone(),
        chains: chains
            .iter()
            .filter(|one| one.place == place)
            .map(|one| chain(one, &pinned, knowledge.table))
            .collect(),
        responses: asked.responses.iter().map(view).collect(),
    });
    SiteReport {
        url: surveyed.target.to_string(),
        host: host.to_string(),
        port: *port,
        protocol: protocol.name(),
        addresses: addresses.collect(),
        headers,
        tlsa,
        renewal: renewal.map(|(renewal, _)| renewal),
        findings: findings.finish(surveyed.asked.len()),
    }
}

/// The effect of the next renewal for the header that fares worst. `None` if no response of the server has
/// a header section, since its header is then unknown.
fn renewal(
    surveyed: &Surveyed,
    headers: &[HeaderReport],
    chains: &[&Judged],
    table: &CaTable,
) -> Option<(Renewal, Option<Found>)> {
    let is_http = surveyed.target.site.protocol == Protocol::Https;
    if is_http && surveyed.asked.iter().all(|asked| asked.responses.is_empty()) {
        return None;
    }
    let enforced = headers
        .iter()
        .map(|one| &one.header)
        .filter(|header| header.name == FieldKind::Enforced.name() && header.may_be_noted());
    let pins = enforced.map(pins_of).filter(|pins| !pins.is_empty());
    let answers = pins.filter_map(|pins| renewal::next(Some(&pins), chains, table));
    answers
        .max_by_key(|(renewal, _)| renewal::gravity(renewal.outcome))
        .or_else(|| renewal::next(None, chains, table))
}

/// Reports what could not be queried.
fn reach(surveyed: &Surveyed, findings: &mut Findings) {
    let is_answering = surveyed.asked.iter().any(|asked| !asked.chains.is_empty());
    for asked in &surveyed.asked {
        for failure in &asked.failures {
            let mut found = Found::new(failure.code, failure.text.clone());
            if failure.is_unroutable && is_answering {
                // Another address did respond, so the failure is this machine's: it has no route to this
                // address family.
                found.text.push_str("; this machine cannot reach addresses of this kind");
                found = found.with_class(Class::Warning);
            }
            findings.add_at(&asked.address.to_string(), found);
        }
    }
}

fn chains(
    surveyed: &Surveyed,
    knowledge: &Knowledge<'_>,
    findings: &mut Findings,
) -> Vec<OfAddress> {
    let mut all = Vec::new();
    // Most addresses of a host present the same chain, so each chain is judged once.
    let mut known: HashMap<&Presented, Result<Rc<Judged>, Fault>> = HashMap::new();
    for (place, asked) in surveyed.asked.iter().enumerate() {
        for seen in &asked.chains {
            let judged = known.entry(&seen.presented).or_insert_with(|| {
                let Knowledge { anchored, now, .. } = *knowledge;
                judge(&seen.presented, &surveyed.servername, anchored, now).map(Rc::new)
            });
            match judged.clone() {
                Ok(judged) => all.push(OfAddress {
                    address: asked.address.to_string(),
                    judged,
                    place,
                    seen_with: seen.seen_with.clone(),
                }),
                Err(Fault { code, text }) => {
                    findings.add_at(&asked.address.to_string(), Found::new(code, text));
                }
            }
        }
    }
    all
}

/// Reports why clients refuse the chains, apart from pins.
fn faults(surveyed: &Surveyed, chains: &[OfAddress], findings: &mut Findings) {
    // Sending mail servers encrypt without verifying the certificate, unless DANE or MTA-STS requires it.
    let protocol = surveyed.target.site.protocol;
    let is_opportunistic =
        matches!(protocol, Protocol::Starttls(Starttls::Smtp | Starttls::XmppServer));
    for one in chains {
        let dane = surveyed.tlsa.iter().flatten().any(|asked| dane::vouches(asked, &one.judged));
        for Fault { code, text } in &one.judged.faults {
            let mut found = Found::new(*code, text.clone()).details([leaf(&one.judged)]);
            if dane {
                found.text.push_str("; clients that use DANE accept it by its TLSA records");
            } else if is_opportunistic {
                found.text.push_str("; servers that do not verify certificates accept it");
            }
            if dane || is_opportunistic {
                found = found.with_class(Class::Warning);
            }
            findings.add_at(&one.address, found);
        }
    }
}

fn leaf(judged: &Judged) -> String {
    let leaf = judged.chain.leaf();
    let pin = leaf.pin().map_or_else(|| "no pin".to_owned(), |pin| format!("key sha256/{pin}"));
    format!(
        "certificate: {}, issued by {}, {pin}, expires {}",
        leaf.subject(),
        leaf.issuer(),
        leaf.not_after_text()
    )
}

/// The headers of both kinds: deviations in the text, each client's reaction, and the comparison with the
/// chains.
fn headers(
    surveyed: &Surveyed,
    chains: &[OfAddress],
    knowledge: &Knowledge<'_>,
    findings: &mut Findings,
) -> Vec<HeaderReport> {
    let mut reports = Vec::new();
    for kind in [FieldKind::Enforced, FieldKind::ReportOnly] {
        let sent = sent(surveyed);
        differences(kind, &sent, findings);
        let mut distinct: Vec<(&[Vec<u8>], Vec<String>)> = Vec::new();
        for one in sent.iter().filter(|one| !one.answered.response.fields(kind).is_empty()) {
            let values = one.answered.response.fields(kind);
            match distinct.iter_mut().find(|(known, _)| *known == values) {
                Some((_, from)) if from.contains(&one.address) => {}
                Some((_, from)) => from.push(one.address.clone()),
                None => distinct.push((values, vec![one.address.clone()])),
            }
        }
        for (values, from) in distinct {
            reports.extend(header(kind, values, from, surveyed, chains, knowledge, findings));
        }
    }
    reports
}

/// All responses over TLS.
fn sent(surveyed: &Surveyed) -> Vec<Sent<'_>> {
    let of = |asked: &'_ Asked| asked.address.to_string();
    surveyed
        .asked
        .iter()
        .flat_map(|asked| {
            asked.responses.iter().map(move |answered| Sent { address: of(asked), answered })
        })
        .collect()
}

/// Reports a header that one response contains several times, that is missing in some responses, or whose
/// meaning differs between responses.
fn differences(kind: FieldKind, sent: &[Sent<'_>], findings: &mut Findings) {
    for one in sent {
        let count = one.answered.response.fields(kind).len();
        if count > 1 {
            let name = kind.name();
            let text = format!(
                "{name} is sent {count} times in one response; clients read the first only"
            );
            let found = Found::new(Code::RepeatedHeader, text)
                .fix("remove all but one of the settings that add the header");
            findings.add_at(&one.address, found);
        }
    }
    let mut meanings: Vec<Meaning<'_>> = Vec::new();
    for value in sent.iter().filter_map(|one| one.value(kind)) {
        let meaning = Meaning::of(kind, value);
        if !meanings.contains(&meaning) {
            meanings.push(meaning);
        }
    }
    // Another program may generate a redirect than the page, so only responses of the same URL are
    // compared.
    let has_it =
        |url: &str| sent.iter().any(|one| one.answered.url == url && one.value(kind).is_some());
    let is_lacking = |one: &&Sent<'_>| one.value(kind).is_none() && has_it(&one.answered.url);
    let without = sent.iter().filter(is_lacking).count();
    if meanings.len() > 1 || without > 0 {
        findings.add(difference(kind, sent, meanings.len(), without));
    }
}

fn difference(kind: FieldKind, sent: &[Sent<'_>], count: usize, without: usize) -> Found {
    let (name, all) = (kind.name(), counted(sent.len()));
    let what = match (count, without) {
        (1, _) => format!("{name} is missing in {without} of {all}"),
        (_, 0) => format!("{name} has {count} different values in {all}"),
        _ => format!("{name} has {count} different values in {all} and is missing in {without}"),
    };
    let lines: BTreeSet<String> = sent
        .iter()
        .map(|one| {
            let value = one.value(kind).map_or_else(
                || "no header".to_owned(),
                |value| hpkp_core::text::Excerpt::new(value).to_string(),
            );
            format!("{} {}: {value}", one.address, one.answered.url)
        })
        .collect();
    const SHOWN: usize = 8;
    Found::new(Code::HeaderDiffers, format!("{what}; clients remember what they got last"))
        .fix("give all servers behind the name the same policy")
        .details(lines.into_iter().take(SHOWN))
}

/// The meaning of a value, independent of its spelling.
#[derive(PartialEq, Eq)]
enum Meaning<'a> {
    Field { pins: BTreeSet<Pin>, max_age: Option<u64>, subdomains: bool, report: Option<String> },
    Text(&'a [u8]),
}

impl<'a> Meaning<'a> {
    fn of(kind: FieldKind, value: &'a [u8]) -> Self {
        let reading = Reading::of(kind, value).ok();
        match reading.as_ref().and_then(Reading::tolerant) {
            Some(field) => Self::Field {
                pins: field.pins.iter().copied().collect(),
                max_age: field.max_age,
                subdomains: field.include_subdomains,
                report: field.report_uri.as_ref().map(ToString::to_string),
            },
            None => Self::Text(value),
        }
    }
}

fn header(
    kind: FieldKind,
    values: &[Vec<u8>],
    from: Vec<String>,
    surveyed: &Surveyed,
    chains: &[OfAddress],
    knowledge: &Knowledge<'_>,
    findings: &mut Findings,
) -> Option<HeaderReport> {
    let host = &surveyed.servername;
    let own = chains.iter().filter(|one| from.contains(&one.address));
    let own: Vec<&OfAddress> = own.collect();
    // The chain that most clients get. Headers are judged for a connection with this chain.
    let first = own.first();
    let (validated, sent) =
        first.map(|one| (one.judged.compared(), one.judged.sent())).unwrap_or_default();
    let secure = first.is_some_and(|one| one.judged.faults.is_empty());
    let connection = Connection { secure, validated: &validated, sent: &sent };
    let header = match Header::over(kind, values.to_vec(), host, &connection) {
        Ok(header) => header,
        Err(error) => {
            findings.add(Found::new(Code::OversizedInput, format!("{}: {error}", kind.name())));
            return None;
        }
    };
    for found in policy::text(kind, &header.departures) {
        from.iter().for_each(|address| findings.add_at(address, found.clone()));
    }
    let reading = Reading::of(kind, header.bytes.as_slice()).ok();
    if let Some(field) = reading.as_ref().and_then(Reading::tolerant) {
        compared(kind, field, &from, surveyed, chains, knowledge, findings);
    }
    let pin_roles = pins_of(&header).into_iter().map(|pin| role(pin, chains, knowledge.table));
    Some(HeaderReport { pin_roles: pin_roles.collect(), header, from })
}

/// Compares a field with the chains of every address: of those that send the field, and of the others with
/// the same name.
fn compared(
    kind: FieldKind,
    field: &Field,
    from: &[String],
    surveyed: &Surveyed,
    chains: &[OfAddress],
    knowledge: &Knowledge<'_>,
    findings: &mut Findings,
) {
    let Knowledge { anchored, now, .. } = *knowledge;
    let host = &surveyed.servername;
    // Equal sets of chains are compared once. Each chain has one `Judged`, so its pointer identifies the
    // chain.
    let mut known: HashMap<Vec<*const Judged>, Vec<Found>> = HashMap::new();
    for asked in &surveyed.asked {
        let address = asked.address.to_string();
        let own: Vec<&OfAddress> = chains.iter().filter(|one| one.address == address).collect();
        if own.is_empty() {
            continue;
        }
        let found = known.entry(own.iter().map(|one| Rc::as_ptr(&one.judged)).collect());
        let found = found.or_insert_with(|| {
            let chains: Vec<Chain> = own.iter().map(|one| one.judged.chain.clone()).collect();
            policy::compare(kind, field, host, &chains, anchored, now)
        });
        for found in found.iter().cloned() {
            match (from.contains(&address), found.code) {
                (true, _) => findings.add_at(&address, found),
                (false, Code::NoPinInChain) => findings.add_at(
                    &address,
                    Found {
                        code: Code::PeerServerPinMismatch,
                        text: format!(
                            "no pin in {}, which {} sends, matches a key in the certificate chain; \
                             clients that noted it there refuse this server",
                            kind.name(),
                            from.join(", ")
                        ),
                        ..found
                    },
                ),
                _ => {}
            }
        }
    }
}

/// Reports a header over plain HTTP, which clients must ignore.
fn plain(surveyed: &Surveyed, findings: &mut Findings) {
    let mut all: Vec<&Answered> = surveyed.plain.iter().collect();
    if surveyed.target.site.protocol == Protocol::Http {
        all.extend(surveyed.asked.iter().flat_map(|asked| &asked.responses));
    }
    for kind in [FieldKind::Enforced, FieldKind::ReportOnly] {
        let with = all.iter().find(|one| !one.response.fields(kind).is_empty());
        if let Some(answered) = with {
            let text = format!(
                "{} is sent over plain HTTP ({}); clients ignore it there",
                kind.name(),
                answered.url
            );
            let found = Found::new(Code::HeaderOverPlainHttp, text)
                .fix("add the header in the server for TLS only");
            findings.add(found);
        }
    }
}

fn pins_of(header: &Header) -> Vec<Pin> {
    let judgement = if header.rfc7469.valid { &header.rfc7469 } else { &header.tolerant };
    let mut pins: Vec<Pin> = judgement.pins.iter().filter_map(|pin| pin.parse().ok()).collect();
    if pins.is_empty() {
        // If the header is invalid as a whole, its valid pins still show the operator's intention.
        let text = String::from_utf8_lossy(&header.bytes);
        pins.extend(text.split('"').filter_map(|part| Pin::from_base64(part).ok()));
    }
    let mut seen = BTreeSet::new();
    pins.retain(|pin| seen.insert(*pin));
    pins
}

/// The kind of key that a pin belongs to.
fn role(pin: Pin, chains: &[OfAddress], table: &CaTable) -> PinReport {
    let known = table.find(pin).map(|key| format!("{} ({})", key.name, key.ca));
    let named = |role, backup, name| PinReport { pin: format!("sha256/{pin}"), role, backup, name };
    if chains.is_empty() {
        return named("unknown", false, known);
    }
    let is_it = |certificate: &Certificate| certificate.pin() == Some(pin);
    for one in chains {
        if let Some((at, node)) =
            one.judged.path.iter().enumerate().find(|(_, node)| is_it(&node.certificate))
        {
            let name = known.unwrap_or_else(|| node.certificate.subject().to_owned());
            return named(role_of(at, node), false, Some(name));
        }
    }
    let extra = chains.iter().flat_map(|one| &one.judged.superfluous).find(|one| is_it(one));
    if let Some(certificate) = extra {
        return named(
            "superfluous",
            false,
            Some(known.unwrap_or_else(|| certificate.subject().to_owned())),
        );
    }
    match known {
        Some(name) => named("known-ca", true, Some(name)),
        None => named("backup", true, None),
    }
}

fn role_of(at: usize, node: &PathCertificate) -> &'static str {
    match at {
        0 => "leaf",
        _ if node.anchor.is_some() || node.certificate.is_self_issued() => "root",
        _ => "intermediate",
    }
}

fn chain(one: &OfAddress, pinned: &BTreeSet<Pin>, table: &CaTable) -> ChainReport {
    let report = |certificate: &Certificate| CertificateReport {
        pin: certificate.pin().map(|pin| format!("sha256/{pin}")),
        role: "superfluous",
        subject: certificate.subject().to_owned(),
        issuer: certificate.issuer().to_owned(),
        dns_names: certificate.dns_names().to_vec(),
        not_after: certificate.not_after_text().to_owned(),
        known_as: certificate.pin().and_then(|pin| table.find(pin)).map(|key| key.name.clone()),
        sent: true,
        trusted: false,
        on_path: false,
        pinned: certificate.pin().is_some_and(|pin| pinned.contains(&pin)),
        issuers: Vec::new(),
    };
    let path = one.judged.path.iter().enumerate().map(|(at, node)| CertificateReport {
        role: role_of(at, node),
        sent: node.served,
        trusted: node.anchor.is_some(),
        on_path: node.on_path,
        issuers: node.issuers.clone(),
        ..report(&node.certificate)
    });
    let is_on_path = |extra: &&std::sync::Arc<Certificate>| {
        one.judged.path.iter().any(|node| node.certificate.der() == extra.der())
    };
    let extra = one.judged.superfluous.iter().filter(|extra| !is_on_path(extra));
    ChainReport {
        seen_with: one.seen_with.clone(),
        accepted: one.judged.faults.is_empty(),
        certificates: path.chain(extra.map(|extra| report(extra))).collect(),
    }
}

/// A response in the form of the report.
pub(super) fn view(answered: &Answered) -> ResponseView {
    let text = |values: &[Vec<u8>]| -> Vec<String> {
        values.iter().map(|value| value.iter().copied().map(char::from).collect()).collect()
    };
    ResponseView {
        url: answered.url.clone(),
        status: answered.response.status,
        public_key_pins: text(&answered.response.enforced),
        public_key_pins_report_only: text(&answered.response.report_only),
    }
}

/// The name of a site's TLSA records.
pub(super) fn owner(host: &Host, port: u16) -> String {
    format!("_{port}._{}.{host}", tlsa::Protocol::Tcp.as_str())
}

/// A count of responses, in words.
pub(super) fn counted(responses: usize) -> String {
    output::counted(responses, "response")
}
