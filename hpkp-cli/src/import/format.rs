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
            () if has("TSKPinnedDomains") || has("TSKPublicKeyHashes") => Self::Trustkit,
            () if has("NSPinnedDomains") => Self::Ios,
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
    use crate::import::samples::A;

    #[test]
    fn formats_are_recognised_by_their_content() {
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
