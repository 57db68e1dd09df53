//! The findings about reports: each has a code, which is API, and says whether the report means an attack, a proxy or
//! our own mistake.

/// How urgent a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Explained; nothing to do.
    Noise,
    /// Not explained yet.
    Unexplained,
    /// Somebody should look now.
    Urgent,
}

impl Class {
    /// The name of the class, which is stable.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Noise => "noise",
            Self::Unexplained => "unexplained",
            Self::Urgent => "urgent",
        }
    }
}

/// Defines the findings: variant, code, class, title, answer, advice.
macro_rules! findings {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $class:ident, $title:literal, $answer:literal, $advice:literal;)*) => {
        /// The result of judging a report.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Finding {
            $($(#[$doc])* $variant,)*
        }

        impl Finding {
            /// All findings.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The code, which never changes.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code),* }
            }

            /// The class.
            #[must_use]
            pub const fn class(self) -> Class {
                match self { $(Self::$variant => Class::$class),* }
            }

            /// A short description.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),* }
            }

            /// The answer to: is this an attack, a proxy, or our own mistake?
            #[must_use]
            pub const fn answer(self) -> &'static str {
                match self { $(Self::$variant => $answer),* }
            }

            /// What to do.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice),* }
            }
        }
    };
}

findings! {
    /// The leaf's key, or a pinned key of the chain, is ours.
    OwnKey = "report-own-key", Urgent,
        "Clients refuse a key of ours",
        "Our own mistake, if the report is true: the served chain holds a key that is ours, and clients \
         that hold other pins refuse it. Anybody can send our public chain with pins of their own, so read \
         what the detail says about the pins.",
        "To see which pins clients hold: hpkp published why HOST. If the pins of the report are among them, serve a certificate whose key they accept. If an app of yours has them and they are on no record, record them.";
    /// The leaf's key is ours, and recorded as compromised.
    CompromisedKey = "report-compromised-key", Urgent,
        "A key that is recorded as compromised was served",
        "Possibly an attack: the key is ours, and a record says that others have it too. If a server of ours still has it, our own mistake.",
        "Check that no server of yours still serves the key. If none does, ask the CA to revoke every certificate for it.";
    /// The chain leads to a public CA, for this host, and no key in it is ours.
    PublicCa = "report-public-ca-unknown-key", Urgent,
        "A public CA issued a certificate for a key that is not on record",
        "Possibly an attack: a public CA issued this certificate for the host, and its key is on no record \
         of ours. The certificate is real, since its signatures were verified; that a client received it \
         is only a claim of the report.",
        "Ask everybody who may order certificates for this host. If nobody did, ask the CA to revoke the certificate, and look for others in the logs of Certificate Transparency. If somebody did, or did so years ago, record its key.";
    /// The chain leads to a CA whose key we pin, and the leaf's key is not ours.
    PinnedCaOtherLeaf = "report-pinned-ca-unknown-leaf", Urgent,
        "A CA that we pin issued a certificate for a key that is not on record",
        "Possibly an attack: the CA is one that we pin, but the leaf's key is on no record of ours.",
        "Ask everybody who may order certificates for this host. If nobody did, ask the CA to revoke the certificate.";
    /// The chain leads to a root of a proxy, an antivirus program or a debugging tool that is on the list.
    KnownPrivateRoot = "report-known-interception", Noise,
        "A known proxy, antivirus program or debugging tool",
        "A proxy: a program on the client's machine or in its network opens TLS connections and signs with a root of its own.",
        "Nothing to do here. The owner of the device installed it, or should know of it.";
    /// The chain leads to no public root and to none on the list.
    UnknownPrivateRoot = "report-unknown-private-root", Unexplained,
        "A private root that is not on the list",
        "Most likely a proxy: the chain leads to no public CA, so only a client whose owner added this root gets as far as comparing pins.",
        "If you know the product, add its root to the list of private roots. If many clients of one network report it, ask that network's operator.";
    /// The client says that a root its owner added is the reason.
    UserAnchor = "report-user-trust-anchor", Noise,
        "A trust anchor that the device's owner added",
        "A proxy: the client says that it trusts the chain because of a root that the device's owner added.",
        "Nothing to do here.";
    /// The chain is for other hosts.
    OtherName = "report-other-name", Unexplained,
        "A certificate for another host",
        "A captive portal or a misrouted name, most likely: the certificate is for other hosts, so a client that checks names refuses it in any case.",
        "Check that DNS leads this host to your servers, and that the default server of no machine of yours answers with this certificate.";
    /// The chain leads to a public CA, but neither at the time of the report nor now.
    NotValidThen = "report-not-valid-then", Unexplained,
        "A chain that was valid neither then nor now",
        "An old certificate, most likely: the chain leads to a public CA, but was valid neither at the time of the report nor when it came in.",
        "Check that no server of yours still has an expired certificate. If it is not yours, treat it like a possible mis-issue.";
    /// The chain lacks an intermediate, or its signatures do not hold.
    Unverifiable = "report-unverifiable-chain", Unexplained,
        "A chain that cannot be verified",
        "Unknown: the certificates form no chain that can be verified. One is missing, this machine does not trust the CA, or the report is made up.",
        "Look at the certificates. If your own server sends such a chain, it lacks an intermediate.";
    /// No certificates, and the served pins belong to no known key.
    UnknownKey = "report-unknown-key", Unexplained,
        "A key that is not on record, without its certificate",
        "Unknown: the client sends pins without certificates, and their leaf's key is on no record. Pins \
         without certificates prove nothing: anybody can put the pin of a CA beside them.",
        "Compare with reports of other clients for the same host and day.";
    /// No certificates, no pins.
    NoChain = "report-without-chain", Unexplained,
        "A report without certificates",
        "Unknown: the report does not say which certificates were served.",
        "Compare with reports of other clients for the same host and day.";
    /// A pin of the report is in its validated chain.
    PinsMatch = "report-pins-match", Noise,
        "The chain matches the pins of the report itself",
        "Neither: a key in the validated chain is among the pins that the client says it holds, so there was no violation.",
        "Nothing to do. The client has a fault, or the report is made up.";
    /// A mail server failed to verify the certificate with DANE.
    SmtpDane = "report-smtp-dane", Urgent,
        "Mail servers cannot verify the certificate against the TLSA records",
        "Our own mistake, if the report is true: the TLSA records do not match the certificate of the mail \
         server, and mail is delayed.",
        "Compare them: hpkp published why HOST --port 25";
    /// A mail server failed to apply MTA-STS.
    SmtpSts = "report-smtp-mta-sts", Urgent,
        "Mail servers cannot meet the MTA-STS policy",
        "Our own mistake, if the report is true: the policy, its web server, or the certificate of the mail server is wrong, and mail is delayed.",
        "Check the policy file and the certificate of each mail exchanger.";
    /// A mail server failed with STARTTLS, or for another reason.
    SmtpTls = "report-smtp-tls", Unexplained,
        "Mail servers cannot use TLS",
        "An attack or our own mistake: the mail server did not offer TLS, or somebody on the path removed \
         the offer.",
        "Check that each mail exchanger offers STARTTLS. If it does, somebody on the path removes the offer.";
    /// All connections of a mail server succeeded.
    SmtpSuccess = "report-smtp-success", Noise,
        "Mail servers met the policy",
        "Neither: all connections met the policy.",
        "Nothing to do. It shows that reports arrive.";
    /// A test report.
    Test = "report-test", Noise,
        "A test report",
        "Neither: the sender marked the report as a test.",
        "Nothing to do. It shows that reports arrive.";
    /// More groups than one entry of the list may have per day.
    Overflow = "report-overflow", Unexplained,
        "More different reports than are kept",
        "A flood, most likely: more different chains were reported for this host today than groups are kept.",
        "Reports are not authenticated: somebody may be making them up. Raise groups_per_day only if the chains look real.";
}

impl Finding {
    /// The finding of a code.
    #[must_use]
    pub fn of_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|finding| finding.code() == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The heading before the entries in docs/reference/findings.md.
    const HEADING: &str = "\n## Violation reports\n";

    fn entries() -> String {
        let entry = |finding: &Finding| {
            let (code, class) = (finding.code(), finding.class().name());
            let (title, answer, advice) = (finding.title(), finding.answer(), finding.advice());
            format!(
                "\n### {code}\n\nClass: {class}\n\n{title}. {answer}\n\n**What to do.** {advice}\n"
            )
        };
        Finding::ALL.iter().map(entry).collect()
    }

    /// `HPKP_DOCS=update` writes the entries.
    #[test]
    fn every_finding_has_its_entry_in_the_reference() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/findings.md");
        let page = std::fs::read_to_string(path).expect("docs/reference/findings.md");
        let (before, section) = page.split_once(HEADING).expect("a section for reports");
        let begin = section.find("\n### ").unwrap_or(section.len());
        let wanted = entries();
        if std::env::var_os("HPKP_DOCS").is_some_and(|value| value == "update") {
            let page = format!("{before}{HEADING}{}{wanted}", &section[..begin]);
            std::fs::write(path, page).expect("docs/reference/findings.md");
        } else {
            assert_eq!(
                &section[begin..],
                wanted,
                "HPKP_DOCS=update writes docs/reference/findings.md"
            );
        }
        for finding in Finding::ALL {
            assert_eq!(Finding::of_code(finding.code()), Some(*finding));
        }
    }
}
