//! Kinds of clients. There are few, so that strangers cannot create groups without limit.

use hpkp_core::ua::received::{Format, Received};

/// The kind of client that sent a report.
#[must_use]
pub fn kind(received: &Received, user_agent: &str) -> &'static str {
    let platform = received.platform.as_deref().unwrap_or_default().to_ascii_lowercase();
    match received.format {
        Format::TrustKit if platform.contains("android") => "TrustKit, Android",
        Format::TrustKit if platform.contains("ios") => "TrustKit, iOS",
        Format::TrustKit => "TrustKit",
        Format::ReactNative => "react-native-ssl-manager",
        Format::SmtpTls => "mail servers",
        Format::Rfc7469 | Format::ExpectCt | Format::NetworkError => browser(user_agent),
    }
}

/// The kind by the User-Agent. Special names come first, since derivatives of Chromium name Chrome too.
fn browser(user_agent: &str) -> &'static str {
    const NAMES: [(&str, &str); 10] = [
        ("OPR/", "Opera"),
        ("Edg", "Edge"),
        ("SamsungBrowser", "Samsung Internet"),
        ("Chrom", "Chromium"),
        ("Firefox", "Firefox"),
        ("okhttp", "OkHttp"),
        ("CFNetwork", "Apple"),
        ("curl/", "curl"),
        ("Wget", "wget"),
        ("hpkp", "hpkp"),
    ];
    let found = NAMES.iter().find(|(part, _)| user_agent.contains(part));
    found.map_or("other", |(_, name)| name)
}
