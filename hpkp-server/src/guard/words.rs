//! The log messages of a guard.

use hpkp_core::finding::{Code, Finding, Text};
use hpkp_core::text::Excerpt;

use super::given::Pair;
use super::judge::Judge;
use super::notice::Notice;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// The most lines of one kind in a finding.
const MAX_DETAILS: usize = 8;

/// The parts of the message that a last good certificate is presented.
pub(super) struct Served<'a> {
    pub(super) given: Option<&'a Pair>,
    pub(super) kept: &'a Pair,
    pub(super) why: String,
    pub(super) details: &'a [String],
}

/// The parts of the message that no last good certificate is presented.
pub(super) struct NotUsed<'a> {
    pub(super) given: Option<&'a Pair>,
    pub(super) why: String,
    pub(super) details: &'a [String],
    pub(super) reasons: &'a [String],
}

fn finding(judge: &Judge, host: usize, name: &str, code: Code, text: Text) -> Finding {
    let host = &judge.hosts[host];
    let mut finding = Finding::new(code, host.at.clone(), text);
    finding.add_host(if name.is_empty() { &host.label } else { name });
    finding
}

/// The subject of messages about the certificates of a host.
fn about(judge: &Judge, host: usize, name: &str) -> String {
    format!("{}/{name}", judge.hosts[host].label)
}

fn certificate(what: &str, pair: &Pair) -> Option<String> {
    let leaf = pair.leaf()?;
    let pin = leaf.pin().map(|pin| format!(", key sha256/{pin}")).unwrap_or_default();
    Some(format!("{what}: {}{pin}, expires {}", leaf.subject(), leaf.not_after_text()))
}

/// The interval at which the log repeats that a last good certificate is presented, which is not renewed: the less time
/// it has left, the shorter.
fn interval(remaining: i64) -> i64 {
    match remaining {
        ..DAY => HOUR,
        DAY..604_800 => 6 * HOUR,
        _ => DAY,
    }
}

pub(super) fn served(
    judge: &Judge,
    (host, name): (usize, &str),
    Served { given, kept, why, details }: &Served<'_>,
    now: i64,
) -> Notice {
    let until = kept.valid_until;
    let chain = kept.chain.as_ref().map(|chain| chain.certificates()).unwrap_or_default();
    let first = chain.iter().find(|one| one.not_after() == until);
    let mut text = Text::new(format!(
        "the certificate that hpkp_guard was given {why}, so the last good certificate is presented in its \
         place until it expires at {}",
        first.map_or("", |one| one.not_after_text())
    ))
    .fix("get a certificate for a key whose pin clients hold; no reload is needed");
    let pin = kept.leaf().and_then(|leaf| leaf.pin());
    if let (Some(pin), Some(records)) = (pin, judge.records()) {
        text = text.fix(format!(
            "if the key sha256/{pin} was replaced because others may have it, record that: \
             hpkp published {records} compromised sha256/{pin} --why REASON"
        ));
    }
    let text = text
        .details(certificate("presented", kept))
        .details(given.and_then(|given| certificate("given", given)))
        .details(details.iter().take(MAX_DETAILS).map(|why| format!("not presented: {why}")));
    let finding = finding(judge, host, name, Code::KeptCertificateServed, text);
    let given = given.map_or([0; 16], |given| given.id.bytes());
    let parts = [b"served".as_slice(), &given, &kept.id.bytes()];
    Notice::new(about(judge, host, name), &parts, interval(until.saturating_sub(now)), finding)
}

pub(super) fn not_used(
    judge: &Judge,
    (host, name): (usize, &str),
    NotUsed { given, why, details, reasons }: &NotUsed<'_>,
) -> Notice {
    let reason = reasons.first().map_or("", String::as_str);
    let text = Text::new(format!(
        "the certificate that hpkp_guard was given {why}, and no last good certificate is presented in its \
         place: {}",
        Excerpt::new(reason)
    ))
    .fix("get a certificate for a key whose pin clients hold; no reload is needed")
    .details(given.and_then(|given| certificate("given", given)))
    .details(details.iter().take(MAX_DETAILS).cloned())
    .details(reasons.iter().skip(1).take(MAX_DETAILS).cloned());
    let finding = finding(judge, host, name, Code::KeptCertificateNotUsed, text);
    let given = given.map_or([0; 16], |given| given.id.bytes());
    Notice::new(about(judge, host, name), &[b"not used", &given], HOUR, finding)
}

pub(super) fn not_kept(
    judge: &Judge,
    (host, name): (usize, &str),
    pair: &Pair,
    why: &str,
) -> Notice {
    let text = Text::new(format!(
        "the certificate that hpkp_guard presents is not kept as the last good one: {}",
        Excerpt::new(why)
    ))
    .details(certificate("presented", pair));
    let finding = finding(judge, host, name, Code::CertificateNotKept, text);
    let about = format!("{}/kept", about(judge, host, name));
    Notice::new(about, &[b"not kept", &pair.id.bytes(), why.as_bytes()], DAY, finding)
}

/// The message names the first host, since all hosts share the files.
pub(super) fn not_written(judge: &Judge, why: &str) -> Option<Notice> {
    judge.hosts.first()?;
    let text = Text::new(format!(
        "a worker cannot keep the last good certificates of hpkp_guard in files, so a restart forgets the \
         newest: {}",
        Excerpt::new(why)
    ))
    .fix("make room or mend the file system, then reload");
    let finding = finding(judge, 0, "", Code::CertificateNotKept, text);
    Some(Notice::new("files".to_owned(), &[b"files", why.as_bytes()], HOUR, finding))
}

pub(super) fn records_unread(judge: &Judge, host: usize, why: &str) -> Notice {
    let text = Text::new(format!(
        "a worker cannot read whether the records of published pins have changed, so hpkp_guard continues \
         with those that were read at the last start or reload: {}",
        Excerpt::new(why)
    ))
    .fix("let the user of the workers read the directory and its files, or reload after each change");
    let finding = finding(judge, host, "", Code::RecordsUnreadable, text);
    Notice::new("records".to_owned(), &[b"records", why.as_bytes()], HOUR, finding)
}

/// The given certificate is accepted, so there is nothing to report any more.
pub(super) fn good(judge: &Judge, (host, name): (usize, &str)) -> Notice {
    Notice { about: about(judge, host, name), tag: 0, interval: 0, finding: None }
}
