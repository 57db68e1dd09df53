//! Recognises methods of pinning that cannot be imported, with advice for each.

use super::residue::{Comments, Places};
use super::{ImportError, Imported, Problem};

/// A method of pinning.
struct Kind {
    /// Texts that occur only in files with this method, in lower case.
    marks: &'static [&'static str],
    what: &'static str,
    advice: &'static str,
    /// Whether the pins may be outside of the text.
    is_hidden: bool,
}

const OF_CERTIFICATES: &str = "such a hash changes with every renewal, also with the same key, so it cannot be compared \
    with a key; pin the key in place of the certificate";

const OF_FILES: &str = "the certificates are files of the app; record the pin of each (hpkp pin FILE) with: hpkp \
    published add HOST --pin PIN --origin TEXT";

const OF_HEADERS: &str = "record it with: hpkp published add HOST --header VALUE, or, where the value is not in the \
    text as it is sent: hpkp published add HOST --pin PIN --max-age TIME --origin TEXT";

const OF_CODE: &str = "the text does not show for certain which host the pins are for; record them with: hpkp published add \
    HOST --pin PIN --origin TEXT";

const KINDS: [Kind; 11] = [
    Kind {
        marks: &["allowedshafingerprints", "httpcertificatepinning"],
        what: "fingerprints of whole certificates (Flutter's http_certificate_pinning)",
        advice: OF_CERTIFICATES,
        is_hidden: true,
    },
    Kind {
        marks: &[
            "assert_fingerprint",
            "convert(cert.der",
            "convert(cert!.der",
            "convert(certificate.der",
        ],
        what: "fingerprints of whole certificates (urllib3's assert_fingerprint, Dart's certificate.der)",
        advice: OF_CERTIFICATES,
        is_hidden: true,
    },
    Kind {
        marks: &["pinnedcertificatestrustevaluator", ".pincertificates("],
        what: "certificates in the bundle of an app (Alamofire)",
        advice: "clients compare whole certificates, so each renewal locks them out; pin keys instead",
        is_hidden: true,
    },
    Kind {
        marks: &["publickeystrustevaluator", ".pinpublickeys("],
        what: "the keys of certificates in the bundle of an app (Alamofire)",
        advice: OF_FILES,
        is_hidden: true,
    },
    Kind {
        marks: &["afsslpinningmode"],
        what: "certificates in the bundle of an app (AFNetworking)",
        advice: OF_FILES,
        is_hidden: true,
    },
    Kind {
        marks: &["addpublickeypins("],
        what: "pins of Cronet",
        advice: "record them with: hpkp published add HOST --pin PIN --expires TIME --origin TEXT; unless the app \
            has enablePublicKeyPinningBypassForLocalTrustAnchors(false), Cronet passes over pins where the chain ends \
            at a private CA",
        is_hidden: true,
    },
    Kind {
        marks: &["curlopt_pinnedpublickey", "pycurl.pinnedpublickey", "peer_fingerprint"],
        what: "an option of libcurl (CURLOPT_PINNEDPUBLICKEY)",
        advice: "record its pins for the host of the URL with: hpkp published add HOST --scope leaf --port 443 --pin \
            PIN --origin TEXT",
        is_hidden: false,
    },
    Kind {
        marks: &["http.pinnedpubkey", ".pinnedpubkey", "\tpinnedpubkey", "pinnedpubkey = sha256"],
        what: "git's http.pinnedPubkey",
        advice: "record its pins for the host of the remote with: hpkp published add HOST --scope leaf --port 443 \
            --pin PIN --origin TEXT",
        is_hidden: false,
    },
    Kind {
        marks: &[
            "public-key-pins",
            "httppublickeypinning",
            "addsha256pins",
            "sha256pins(",
            "hpkp(",
            ".hpkp =",
            "<hpkp",
            "hpkp:",
            "headers.publickey=",
            "publickey: 'pin-sha256",
        ],
        what: "a Public-Key-Pins header",
        advice: OF_HEADERS,
        is_hidden: false,
    },
    Kind {
        marks: &["seckeycopyexternalrepresentation"],
        what: "hashes of bare keys, which are not pins (SecKeyCopyExternalRepresentation)",
        advice: "--cert FILE recognises the hash of that certificate's key; record the pin of that key (hpkp pin FILE)",
        is_hidden: false,
    },
    Kind {
        marks: &[
            "checkserveridentity",
            "verifypeercertificate",
            "rawsubjectpublickeyinfo",
            "servercertificatecustomvalidationcallback",
            "sectrustevaluate",
            "x509trustmanager",
            "badcertificatecallback",
        ],
        what: "code that compares keys by itself",
        advice: OF_CODE,
        is_hidden: false,
    },
];

/// The first of these methods that occurs in `text`, outside of comments.
fn find(text: &str, of: impl Fn(&Kind) -> bool) -> Option<ImportError> {
    let lower = text.to_ascii_lowercase();
    let comments = Comments::of(text);
    let found = KINDS.iter().filter(|kind| of(kind)).find_map(|kind| {
        let marks = kind.marks.iter().flat_map(|mark| lower.match_indices(mark));
        let first = marks.map(|(at, _)| at).filter(|at| !comments.contains(*at)).min()?;
        Some((first, kind))
    });
    let (at, Kind { what, advice, .. }) = found?;
    let (line, column) = Places::of(text).find(at);
    let error = Problem::Foreign { what, advice }.at(line);
    Some(ImportError { column: Some(column), ..error })
}

/// The method of pinning that `text` seems to use. For texts in which no known format was found.
pub(super) fn of(text: &str) -> Option<ImportError> {
    find(text, |_| true)
}

/// Notes a method of pinning whose pins may be outside of the text, if the text has other pins that were
/// read.
///
/// # Errors
/// [`Problem::Foreign`] if nothing else was read.
pub(super) fn check(text: &str, imported: &mut Imported) -> Result<(), ImportError> {
    match find(text, |kind| kind.is_hidden || imported.sets.is_empty()) {
        None => Ok(()),
        Some(error) if imported.sets.is_empty() && imported.notes.is_empty() => Err(error),
        Some(error) => {
            let column = error.column.unwrap_or(1);
            let text =
                format!("column {column}: {}; NOT recorded unless it is listed", error.problem);
            imported.note(error.line, text);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::{Certificates, format::Format};

    /// The error of an import of `text` in the recognised format.
    fn error(text: &str) -> ImportError {
        let format = Format::of(text.as_bytes()).unwrap_or(Format::Hosts);
        format.read(text.as_bytes(), &Certificates::default()).unwrap_err()
    }

    #[test]
    fn other_pinning_methods_are_reported_with_their_line() {
        for (text, line) in [
            ("CertificatePinningInterceptor(\n  allowedSHAFingerprints: [A, B])", 2),
            (
                "await HttpCertificatePinning.check(serverURL: url,\n allowedSHAFingerprints: list)",
                1,
            ),
            ("x(\n[\"api.example.com\": PinnedCertificatesTrustEvaluator()])", 2),
            ("let p: [String: T] = [\n\"a.example\": .pinCertificates(\ncertificates: all())]", 2),
            ("let m = M(evaluators: [\n\n\"a.example\": PublicKeysTrustEvaluator()])", 3),
            ("p = [AFSecurityPolicy policyWithPinningMode:AFSSLPinningModeCertificate];", 1),
        ] {
            let error = error(text);
            assert!(matches!(error.problem, Problem::Foreign { .. }), "{text}: {error}");
            assert_eq!(error.line, line, "{text}: {error}");
        }
    }

    #[test]
    fn a_pinning_method_in_a_comment_is_ignored() {
        let error = error("// allowedSHAFingerprints: no\nlet x = [1]");
        assert!(matches!(error.problem, Problem::Nothing { .. }), "{error}");
    }
}
