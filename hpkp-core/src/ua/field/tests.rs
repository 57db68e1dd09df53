use super::*;
use crate::ua::uri::UriError;
use proptest::prelude::*;

const LIVE: &str = "d6qzRu9zOECb90Uez27xWltNsj0e1Md7GkYYkVoZWmM=";
const BACKUP: &str = "E9CZ9INDbd+2eRQozYqqbQ2yXLVKB9+xcprMF+44U1g=";

fn read(text: &str) -> Reading {
    let text = text
        .replace("LIVE", &format!("pin-sha256=\"{LIVE}\""))
        .replace("BACKUP", &format!("pin-sha256=\"{BACKUP}\""));
    Reading::of(FieldKind::Enforced, text.as_bytes()).unwrap()
}

fn situations(text: &str) -> Vec<Situation> {
    let deviations = read(text).deviations;
    deviations.into_iter().map(|d| d.situation).collect()
}

#[test]
fn a_valid_field_has_no_deviations() {
    let reading = read("LIVE; BACKUP; max-age=5; includeSubDomains; report-uri=\"https://a/\"");
    let field = reading.strict().unwrap();
    assert_eq!(reading.deviations(), []);
    assert_eq!(field.pins.len(), 2);
    assert_eq!(field.max_age, Some(5));
    assert!(field.include_subdomains);
}

#[test]
fn each_mistake_has_its_own_situation() {
    for (text, expected) in [
        ("LIVE", Situation::MissingMaxAge),
        ("max-age", Situation::MaxAgeNotDigits),
        ("max-age=-1", Situation::MaxAgeNotDigits),
        ("max-age=\"\"", Situation::MaxAgeNotDigits),
        ("max-age=1; MAX-AGE=1", Situation::RepeatedDirective),
        ("max-age=1; includeSubDomains=\"\"", Situation::IncludeSubDomainsWithValue),
        ("max-age=1; pin-sha256", Situation::PinWithoutValue),
        ("max-age=1; pin-x=y", Situation::PinUnquoted),
        ("max-age=1; pin-sha256=\"?\"", Situation::MalformedPin(PinError::NotBase64)),
        ("max-age=1; LIVE; LIVE", Situation::RepeatedPin),
        ("max-age=1; pin-sha1=\"\"", Situation::UnknownAlgorithm),
        ("max-age=1; pin-=\"\"", Situation::UnknownDirective),
        ("max-age=1; report-uri=x", Situation::ReportUriUnquoted),
        ("max-age=1; report-uri", Situation::ReportUriUnquoted),
        ("max-age=1; report-uri=\"x\"", Situation::ReportUriMalformed(UriError::Relative)),
        ("max-age=1; report-uri=\"ftp://x\"", Situation::ReportUriUnusable),
    ] {
        assert_eq!(situations(text), [expected], "{text}");
    }
}

#[test]
fn a_deviation_has_its_place() {
    let text = "max-age=1; pin-sha256=\"abc\" ; includeSubDomains =1";
    let reading = Reading::of(FieldKind::Enforced, text.as_bytes()).unwrap();
    let places: Vec<&str> =
        reading.deviations().iter().map(|deviation| &text[deviation.at.clone()]).collect();
    assert_eq!(places, ["\"abc\"", " ", "1"]);
}

#[test]
fn seconds_saturate_and_never_wrap() {
    for (digits, expected) in [
        ("0", Some(0)),
        ("000060", Some(60)),
        ("9223372036854775807", Some(Field::MAX_AGE)),
        ("18446744073709551616", Some(Field::MAX_AGE)),
        ("", None),
        ("+1", None),
        (" 1", None),
    ] {
        assert_eq!(seconds(digits.as_bytes()), expected, "{digits}");
    }
    assert_eq!(seconds(&[b'9'; 5000]), Some(Field::MAX_AGE));
    assert_eq!(seconds(&[b'0'; 5000]), Some(0));
}

#[test]
fn the_hash_of_nothing_is_a_pin_with_a_deviation() {
    let text = "max-age=1; pin-sha256=\"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\"";
    let reading = read(text);
    assert_eq!(situations(text), [Situation::PinOfNothing]);
    assert_eq!(reading.strict().unwrap().pins, [Pin::OF_NOTHING]);
}

#[test]
fn a_long_field_is_refused() {
    let text = vec![b';'; MAX_FIELD + 1];
    assert_eq!(Reading::of(FieldKind::ReportOnly, &text), Err(TooLong { bytes: MAX_FIELD + 1 }));
    let reading = Reading::of(FieldKind::ReportOnly, &text[1..]).unwrap();
    assert!(reading.strict().is_none());
    assert!(reading.tolerant().is_some());
}

/// Strings of pieces, which give meaningful combinations far more often than random bytes.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        &b"max-age"[..],
        b"includeSubDomains",
        b"report-uri",
        b"pin-sha256",
        b"pin-x",
        b"=",
        b";",
        b" ",
        b"\"",
        b"\\",
        b"1",
        b"https://a/",
        LIVE.as_bytes(),
        b"\x00",
        b"\xe9",
        b"'",
        b",",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes_are_read_and_deviations_are_inside_the_text(text in pieces()) {
        for kind in [FieldKind::Enforced, FieldKind::ReportOnly] {
            let reading = Reading::of(kind, &text).unwrap();
            for deviation in reading.deviations() {
                prop_assert!(deviation.at.start <= deviation.at.end);
                prop_assert!(deviation.at.end <= text.len());
            }
            // A field that is valid strictly is also valid tolerantly, with the same content.
            if let Some(field) = reading.strict() {
                prop_assert_eq!(reading.tolerant(), Some(field));
            }
        }
    }

    #[test]
    fn the_order_of_directives_is_irrelevant(
        directives in Just(vec!["max-age=7", "includeSubDomains", "x=\"a;b\"",
                                "report-uri=\"https://a/\""]).prop_shuffle(),
    ) {
        let reading = read(&directives.join(" ;\t"));
        let field = reading.strict().unwrap();
        prop_assert_eq!(field.max_age, Some(7));
        prop_assert!(field.include_subdomains && field.report_uri.is_some());
    }
}
