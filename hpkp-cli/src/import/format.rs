//! Recognises the format of a text.

use std::fmt;

use clap::ValueEnum;

use super::{
    Certificates, ImportError, Imported, Problem, android, curl, foreign, hosts, ios, json, okhttp,
    read_with, stubby, tlsa, trustkit, utf8,
};

/// An input format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Android: network_security_config.xml
    Android,
    /// curl: commands with --pinnedpubkey, or a .curlrc
    Curl,
    /// Objects with hosts and their pins: JSON, JavaScript and the like
    Hosts,
    /// iOS: NSPinnedDomains in Info.plist
    Ios,
    /// Lines of JSON, as "hpkp published export --format json" writes them
    Json,
    /// Lines "HOST sha256/..."
    Lines,
    /// OkHttp: CertificatePinner in Java or Kotlin
    Okhttp,
    /// stubby.yml: tls_pubkey_pinset
    Stubby,
    /// TLSA records of a zone file, or as dig and host print them
    Tlsa,
    /// TrustKit: TSKConfiguration in Info.plist, Swift or Objective-C
    Trustkit,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_possible_value().map_or(Ok(()), |value| f.write_str(value.get_name()))
    }
}

impl Format {
    /// The format of a text, by characteristics that only this format has; `None` if no format is
    /// recognised.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let bytes = utf8(bytes);
        let text = String::from_utf8_lossy(&bytes);
        let has = |mark: &str| text.contains(mark);
        let word = |word: &str| text.split_ascii_whitespace().any(|other| other == word);
        Some(match () {
            () if has("\"hpkp_pins\"") => Self::Json,
            () if has("<network-security-config") => Self::Android,
            () if OF_TRUSTKIT.iter().any(|mark| has(mark)) => Self::Trustkit,
            () if has(OF_IOS) => Self::Ios,
            () if has("tls_pubkey_pinset") => Self::Stubby,
            () if has("pinnedpubkey") => Self::Curl,
            () if word("TLSA") || word("TYPE52") || tlsa::is_elsewhere(&text) => Self::Tlsa,
            () if has("CertificatePinner") => Self::Okhttp,
            () if has("sha256/") && is_lines(&text) => Self::Lines,
            () if has(".add(") && has("sha256/") => Self::Okhttp,
            () if text.contains(['{', '[']) => Self::Hosts,
            () => return None,
        })
    }

    /// Reads a text of this format. Every pin in the text is recorded or reported.
    ///
    /// # Errors
    /// See [`Problem`].
    pub fn read(self, bytes: &[u8], certificates: &Certificates) -> Result<Imported, ImportError> {
        let reader = match self {
            Self::Android => android::read,
            Self::Curl => curl::read,
            Self::Hosts => hosts::read,
            Self::Ios | Self::Trustkit if has_both(bytes) => of_both,
            Self::Ios => ios::read,
            Self::Json => json::read,
            Self::Lines | Self::Okhttp => okhttp::read,
            Self::Stubby => stubby::read,
            Self::Tlsa => tlsa::read,
            Self::Trustkit => trustkit::read,
        };
        read_with(reader, bytes, certificates)
    }

    /// The name of the format that the text probably has, if it is not this one.
    #[must_use]
    pub fn instead(self, bytes: &[u8], error: &ImportError) -> Option<String> {
        if let Some(format) = self.other(bytes, error) {
            return Some(format!("the text looks like {format}: --format {format}"));
        }
        looks_like(bytes, error)
    }

    fn other(self, bytes: &[u8], error: &ImportError) -> Option<Self> {
        let is_about_format = matches!(
            error.problem,
            Problem::Nothing { .. }
                | Problem::Xml(_)
                | Problem::NotRead
                | Problem::NoXml
                | Problem::Unexpected { .. }
        );
        Self::of(bytes).filter(|other| is_about_format && *other != self)
    }
}

const OF_TRUSTKIT: [&str; 2] = ["TSKPinnedDomains", "TSKPublicKeyHashes"];

const OF_IOS: &str = "NSPinnedDomains";

/// Whether a text names the pins of TrustKit and those of iOS, as an Info.plist may. An app that has both
/// refuses what either of them refuses.
fn has_both(bytes: &[u8]) -> bool {
    let bytes = utf8(bytes);
    let text = String::from_utf8_lossy(&bytes);
    text.contains(OF_IOS) && OF_TRUSTKIT.iter().any(|mark| text.contains(mark))
}

/// Reads the pins of TrustKit and those of iOS. One of the names may be in a comment only.
fn of_both(bytes: &[u8], certificates: &Certificates) -> Result<Imported, ImportError> {
    let is_nothing = |error: &ImportError| matches!(error.problem, Problem::Nothing { .. });
    match (trustkit::read(bytes, certificates), ios::read(bytes, certificates)) {
        (Ok(imported), Err(nothing)) if is_nothing(&nothing) => Ok(imported),
        (Err(nothing), other) if is_nothing(&nothing) => other,
        (imported, other) => imported?.and(other?),
    }
}

/// The method of pinning that the text probably uses, if `error` does not already name one.
#[must_use]
pub fn looks_like(bytes: &[u8], error: &ImportError) -> Option<String> {
    // Errors about a single pin do not reveal the method of pinning.
    if !matches!(error.problem, Problem::NotRead | Problem::Unexpected { .. }) {
        return None;
    }
    let bytes = utf8(bytes);
    let found = foreign::of(std::str::from_utf8(&bytes).ok()?)?;
    Some(found.to_string())
}

fn is_lines(text: &str) -> bool {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty()).all(|line| {
        let mut words = line.split_ascii_whitespace().skip(1).peekable();
        words.peek().is_some() && words.all(|word| word.starts_with("sha256/"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::{Scope, samples::A};

    #[test]
    fn both_methods_of_an_app_are_read() {
        let trustkit = format!(
            "<key>TSKConfiguration</key><dict><key>TSKPinnedDomains</key><dict>\n<key>a.example</key>\
             <dict><key>TSKPublicKeyHashes</key><array><string>{A}</string></array></dict></dict></dict>"
        );
        let system = format!(
            "<key>NSAppTransportSecurity</key><dict><key>NSPinnedDomains</key><dict><key>a.example</key>\n\
             <dict><key>NSPinnedLeafIdentities</key><array><dict><key>SPKI-SHA256-BASE64</key>\n\
             <string>{A}</string></dict></array></dict></dict></dict>"
        );
        let list = |inside: &str| format!("<plist><dict>{inside}</dict></plist>");
        let scopes = |text: &str, format: Format| {
            let imported = format.read(text.as_bytes(), &Certificates::default()).unwrap();
            let groups: std::collections::HashSet<usize> =
                imported.sets.iter().map(|set| set.group).collect();
            assert_eq!(groups.len(), imported.sets.len());
            imported.sets.iter().map(|set| set.scope).collect::<Vec<_>>()
        };
        for format in [Format::Ios, Format::Trustkit] {
            let text = list(&format!("{system}{trustkit}"));
            assert_eq!(scopes(&text, format), [Scope::Chain, Scope::Leaf], "{format}");
            let text = list(&format!("{system}<!-- {trustkit} -->"));
            assert_eq!(scopes(&text, format), [Scope::Leaf], "{format}");
            let text = list(&format!("<!-- {system} -->{trustkit}"));
            assert_eq!(scopes(&text, format), [Scope::Chain], "{format}");
        }
    }

    #[test]
    fn a_format_is_recognised_by_its_content() {
        for (text, format) in [
            ("<network-security-config/>".to_owned(), Some(Format::Android)),
            ("kTSKPinnedDomains: [".to_owned(), Some(Format::Trustkit)),
            ("<key>NSPinnedDomains</key>".to_owned(), Some(Format::Ios)),
            (format!("curl --pinnedpubkey sha256//{A}"), Some(Format::Curl)),
            ("_443._tcp.a.example. IN TLSA 3 1 1 00".to_owned(), Some(Format::Tlsa)),
            ("CertificatePinner.Builder()".to_owned(), Some(Format::Okhttp)),
            (format!("# pins\na.example sha256/{A}\n"), Some(Format::Lines)),
            (format!("{{\"a.example\": [\"{A}\"]}}"), Some(Format::Hosts)),
            ("  tls_pubkey_pinset:".to_owned(), Some(Format::Stubby)),
            ("nothing".to_owned(), None),
        ] {
            assert_eq!(Format::of(text.as_bytes()), format, "{text}");
        }
    }
}
