//! Rendered headers: every policy that the renderer accepts is parsed as the same policy, by RFC 7469 and by the models
//! of the user agents that honoured the header.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::Arc;

use hpkp_core::finding::{Code, Location};
use hpkp_core::header::{Header, Kind};
use hpkp_core::max_age::MaxAge;
use hpkp_core::pin::Pin;
use hpkp_core::policy::{MAX_PINS, PinSetting, PinSource, Policy, PolicySpec};
use hpkp_core::report_uri::ReportUri;
use hpkp_core::ua::field::{Asks, Field, Reading};
use hpkp_core::ua::host::Host;
use hpkp_core::ua::uri::ReceivedUri;
use hpkp_core::ua::{FieldKind, Response, Verdict, chromium, firefox, wget2};
use proptest::prelude::*;

/// The input for a policy.
#[derive(Clone, Debug)]
struct Parts {
    /// The bytes of the hashes; they may repeat.
    pins: Vec<Pin>,
    max_age: Option<u32>,
    include_subdomains: Option<bool>,
    report_uri: Option<String>,
}

impl Parts {
    fn policy(&self) -> Policy {
        let at = Location { file: Arc::from("test.conf"), line: 1 };
        let mut spec = PolicySpec::new("test".to_owned(), at.clone());
        spec.pins = self
            .pins
            .iter()
            .map(|pin| PinSetting { source: PinSource::Literal(*pin), at: at.clone() })
            .collect();
        spec.max_age = self.max_age.and_then(|age| MaxAge::from_seconds(age.into()));
        spec.include_subdomains = self.include_subdomains;
        spec.report_uri = self.report_uri.as_ref().and_then(|uri| uri.parse().ok());
        spec.resolve(|path| Err(format!("there is no {path}")))
    }

    fn distinct_pins(&self) -> Vec<Pin> {
        let mut known = BTreeSet::new();
        self.pins.iter().copied().filter(|pin| known.insert(*pin)).collect()
    }

    /// The field that the policy must render to.
    fn field(&self, kind: Kind) -> Field {
        Field {
            pins: self.distinct_pins(),
            unknown_algorithms: false,
            max_age: self.max_age.filter(|_| kind == Kind::Enforced).map(u64::from),
            include_subdomains: self.include_subdomains == Some(true),
            report_uri: self
                .report_uri
                .as_ref()
                .map(|uri| ReceivedUri::parse(uri.as_bytes()).unwrap()),
        }
    }
}

/// A pin that no policy here has.
const FOREIGN: Pin = Pin::OF_NOTHING;

fn verdicts(kind: FieldKind, value: &str, chain: &[Pin]) -> [Verdict; 3] {
    let host = Host::parse("www.example.com").unwrap();
    let fields = [value.as_bytes()];
    let response = Response::new(kind, &fields, &host, true, chain).unwrap();
    [chromium::verdict(&response), firefox::verdict(&response), wget2::verdict(&response)]
}

fn is_read_as_written(parts: &Parts, kind: Kind) -> Result<(), TestCaseError> {
    let header = match Header::render(&parts.policy(), kind) {
        Ok(header) => header,
        Err(wrong) => return is_refused_rightly(parts, kind, &wrong),
    };
    let field_kind = match kind {
        Kind::Enforced => FieldKind::Enforced,
        Kind::ReportOnly => FieldKind::ReportOnly,
    };
    prop_assert_eq!(header.kind().field_name(), field_kind.name());
    prop_assert!(header.value().bytes().all(|byte| (b' '..=b'~').contains(&byte)));

    let reading = Reading::of(field_kind, header.value().as_bytes()).unwrap();
    prop_assert_eq!(reading.deviations(), &[]);
    let expected = parts.field(kind);
    prop_assert_eq!(reading.strict(), Some(&expected));
    prop_assert_eq!(reading.tolerant(), Some(&expected));
    match kind {
        Kind::Enforced => is_noted(&header, &expected),
        Kind::ReportOnly => is_evaluated(&header, &expected),
    }
}

/// If the chain has any of the pins, the host is noted for the policy's max-age, or forgotten if that is 0. If the
/// chain has none of them, Chromium ignores the header, and wget2 notes it and then refuses the host.
fn is_noted(header: &Header, field: &Field) -> Result<(), TestCaseError> {
    let max_age = field.max_age.unwrap();
    let include_subdomains = field.include_subdomains;
    for pin in &field.pins {
        let of_the_rfc = if max_age == 0 { Asks::Forget } else { Asks::Note };
        prop_assert_eq!(field.asks(&[*pin, FOREIGN]), of_the_rfc);
        let note = |cap| match max_age {
            0 => Verdict::Delete,
            _ => Verdict::Note { max_age: max_age.min(cap), include_subdomains },
        };
        let browsers = note(MaxAge::USER_AGENTS_CAP.seconds().into());
        prop_assert_eq!(
            verdicts(FieldKind::Enforced, header.value(), &[*pin, FOREIGN]),
            [browsers, browsers, note(u64::MAX)]
        );
    }
    let [chromium, _, wget2] = verdicts(FieldKind::Enforced, header.value(), &[FOREIGN]);
    prop_assert_eq!(chromium, Verdict::Ignore);
    if max_age > 0 {
        prop_assert_eq!(wget2, Verdict::NoteThenRefuse { max_age, include_subdomains });
    }
    Ok(())
}

/// Chromium, the only user agent that knows the field, reports if and only if no pin matches.
fn is_evaluated(header: &Header, field: &Field) -> Result<(), TestCaseError> {
    let evaluate =
        |report| [Verdict::Evaluate { report }, Verdict::Unsupported, Verdict::Unsupported];
    for pin in &field.pins {
        prop_assert!(!field.report_due(&[FOREIGN, *pin]));
        prop_assert_eq!(
            verdicts(FieldKind::ReportOnly, header.value(), &[FOREIGN, *pin]),
            evaluate(false)
        );
    }
    prop_assert!(field.report_due(&[FOREIGN]));
    prop_assert_eq!(verdicts(FieldKind::ReportOnly, header.value(), &[FOREIGN]), evaluate(true));
    Ok(())
}

/// A refusal names exactly the errors of the policy.
fn is_refused_rightly(parts: &Parts, kind: Kind, wrong: &[Code]) -> Result<(), TestCaseError> {
    let pins = parts.distinct_pins().len();
    let enforced = kind == Kind::Enforced;
    let mut expected = Vec::new();
    if pins < 1 + usize::from(enforced) {
        expected.push(Code::TooFewPins);
    }
    if pins > MAX_PINS {
        expected.push(Code::TooManyPins);
    }
    if enforced && parts.max_age.is_none() {
        expected.push(Code::MissingMaxAge);
    }
    if !enforced && parts.report_uri.is_none() {
        expected.push(Code::ReportOnlyWithoutReportUri);
    }
    prop_assert!(!expected.is_empty());
    prop_assert_eq!(wrong, expected);
    Ok(())
}

fn pin() -> impl Strategy<Value = Pin> {
    // Bytes that give `+`, `/` and letters alike; few enough of them for repetitions.
    let of_one = prop::sample::select(vec![0_u8, 1, 0x7f, 0xfb, 0xff]).prop_map(|byte| [byte; 32]);
    prop_oneof![1 => of_one, 4 => any::<[u8; 32]>()].prop_map(Pin::from_bytes)
}

fn max_age() -> impl Strategy<Value = u32> {
    let cap = MaxAge::USER_AGENTS_CAP.seconds();
    prop_oneof![
        Just(0),
        Just(MaxAge::MAX.seconds()),
        cap - 1..=cap + 1,
        0..=MaxAge::MAX.seconds(),
        1..=cap,
    ]
}

/// A URI built from the grammar that [`ReportUri`] accepts; not all of these are accepted.
fn built_uri() -> impl Strategy<Value = String> {
    let label = "[A-Za-z0-9_-]{1,20}";
    let name = prop::collection::vec(label, 1..5).prop_map(|labels| labels.join("."));
    let host = prop_oneof![
        6 => (name, prop_oneof![Just(""), Just(".")]).prop_map(|(name, dot)| name + dot),
        1 => any::<std::net::Ipv4Addr>().prop_map(|address| address.to_string()),
        1 => any::<std::net::Ipv6Addr>().prop_map(|address| format!("[{address}]")),
        1 => prop::sample::select(vec!["xn--bcher-kva.example", "xn--a", "0x7f.1", "1.2", "a.0x"])
            .prop_map(str::to_owned),
    ];
    let port = prop_oneof![
        2 => Just(String::new()),
        1 => (0..70_000_u32).prop_map(|port| format!(":{port}")),
        1 => "(:0{0,3}[0-9]{0,5})?",
    ];
    let path = "(/([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2}){0,12}){0,4}";
    let query = r"(\?([A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2}){0,24})?";
    let scheme = prop::sample::select(vec!["https", "http", "HTTPS", "hTTp"]);
    (scheme, host, port, path, query).prop_map(|(scheme, host, port, path, query)| {
        format!("{scheme}://{host}{port}{path}{query}")
    })
}

/// Text of all kinds behind a scheme.
fn any_uri() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "a",
        ".",
        "/",
        "//",
        "?",
        "#",
        "@",
        ":",
        "%",
        "%41",
        "[",
        "]",
        "::1",
        "\\",
        "\"",
        "'",
        ";",
        ",",
        "=",
        " ",
        "\t",
        "é",
        "\0",
        "0",
        "1",
        "65535",
        "127.0.0.1",
        "0x",
        "xn--",
        "_",
        "-",
        "&",
    ]);
    let text = prop::collection::vec(pieces, 1..12).prop_map(|pieces| pieces.concat());
    prop_oneof![
        text.clone().prop_map(|text| format!("https://{text}")),
        text.prop_map(|text| format!("http://a{text}")),
        "https://[!-~]{1,24}",
        any::<String>(),
    ]
}

/// A URI that the core accepts.
fn report_uri() -> impl Strategy<Value = String> {
    prop_oneof![4 => built_uri(), 1 => any_uri()]
        .prop_filter("no URI for reports", |uri| uri.parse::<ReportUri>().is_ok())
}

fn parts() -> impl Strategy<Value = Parts> {
    let pins = prop_oneof![
        6 => prop::collection::vec(pin(), 1..=MAX_PINS),
        1 => prop::collection::vec(pin(), MAX_PINS..=MAX_PINS + 2),
        1 => prop::collection::vec(pin(), 0..=2),
    ];
    (
        pins,
        prop::option::weighted(0.9, max_age()),
        any::<Option<bool>>(),
        prop::option::weighted(0.7, report_uri()),
    )
        .prop_map(|(pins, max_age, include_subdomains, report_uri)| Parts {
            pins,
            max_age,
            include_subdomains,
            report_uri,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_024, ..ProptestConfig::default() })]

    #[test]
    fn an_enforced_policy_is_read_as_written(parts in parts()) {
        is_read_as_written(&parts, Kind::Enforced)?;
    }

    #[test]
    fn a_report_only_policy_is_read_as_written(parts in parts()) {
        is_read_as_written(&parts, Kind::ReportOnly)?;
    }
}

/// Without the pin of the missing file, the field would be another policy.
#[test]
fn a_policy_with_a_file_that_cannot_be_read_is_not_rendered() {
    let at = Location { file: Arc::from("test.conf"), line: 1 };
    let pins = [1, 2].map(|byte| PinSource::Literal(Pin::from_bytes([byte; Pin::BYTES])));
    let mut spec = PolicySpec::new("test".to_owned(), at.clone());
    spec.pins = pins
        .into_iter()
        .chain([PinSource::File("backup.pem".to_owned())])
        .map(|source| PinSetting { source, at: at.clone() })
        .collect();
    spec.max_age = MaxAge::from_seconds(60);
    let policy = spec.resolve(|_| Err("no such file".to_owned()));
    assert_eq!(Header::render(&policy, Kind::Enforced), Err(vec![Code::UnreadablePinSource]));
}
