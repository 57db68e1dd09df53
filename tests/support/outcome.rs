//! What a server's command says of a configuration.

use crate::instance::{NOT_KEPT, all_codes, codes};

/// The kinds of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Nginx,
    Httpd,
}

impl Kind {
    /// The file of the configuration, in the server's directory.
    pub const fn file(self) -> &'static str {
        match self {
            Self::Nginx => "nginx.conf",
            Self::Httpd => "httpd.conf",
        }
    }
}

/// What a run of a server's command said.
#[derive(Debug)]
pub struct Outcome {
    pub kind: Kind,
    pub code: Option<i32>,
    pub text: String,
}

impl Outcome {
    /// The codes of our findings, in order, each once, but for [`NOT_KEPT`].
    pub fn codes(&self) -> Vec<&str> {
        codes(&self.text)
    }

    /// Fails unless the command refused with `code` and named the configuration's `line`.
    #[track_caller]
    pub fn refused(&self, code: &str, line: usize) {
        self.refused_for(&format!("hpkp: [{code}]"), self.kind.file(), line);
    }

    /// Fails unless the command refused, for a reason with this text, and named the `line` of the
    /// `file` that it stands in.
    #[track_caller]
    pub fn refused_for(&self, text: &str, file: &str, line: usize) {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert!(
            self.names(text, file, line),
            "no refusal with \"{text}\" in {file}:{line}:\n{}",
            self.text
        );
        match self.kind {
            Kind::Nginx => assert!(self.text.contains("test failed"), "{self:?}"),
            Kind::Httpd => assert!(!self.text.contains("Syntax OK"), "{self:?}"),
        }
    }

    /// Whether one line says `text` and names a place, each server in its manner. What httpd finds
    /// while it reads has its place before it, mostly in a line of its own.
    fn names(&self, text: &str, file: &str, line: usize) -> bool {
        let ends = |outcome: &str, place: &str| {
            // Of a finding in parentheses, of what a server says itself without.
            let outcome = outcome.trim_end().trim_end_matches(')');
            outcome.ends_with(&format!("/{place}")) || outcome.ends_with(&format!(" {place}"))
        };
        let place = format!("{file}:{line}");
        let before = format!("Syntax error on line {line} of ");
        let mut last = "";
        self.text.lines().any(|outcome| {
            let found = outcome.contains(text)
                && match self.kind {
                    Kind::Nginx => outcome.contains("[emerg]") && ends(outcome, &place),
                    Kind::Httpd => {
                        ends(outcome, &place)
                            || (last.contains(&before) && last.ends_with(&format!("{file}:")))
                            || (outcome.contains(&before) && outcome.contains(&format!("{file}: ")))
                    }
                };
            last = outcome;
            found
        })
    }

    /// Fails unless `nginx -s reload` kept its signal to itself because of a finding.
    #[track_caller]
    pub fn refused_signal(&self) {
        assert_eq!(self.code, Some(1), "{}", self.text);
        assert!(self.text.contains("[emerg]"), "{}", self.text);
    }

    /// Fails unless the command accepted and said nothing but `codes`, and [`NOT_KEPT`] perhaps.
    #[track_caller]
    pub fn accepted(&self, codes: &[&str]) {
        assert_eq!(self.code, Some(0), "{}", self.text);
        match self.kind {
            Kind::Nginx => assert!(!self.text.contains("[emerg]"), "{}", self.text),
            Kind::Httpd => assert!(self.text.contains("Syntax OK"), "{}", self.text),
        }
        let outcome = match codes.contains(&NOT_KEPT) {
            true => all_codes(&self.text),
            false => self.codes(),
        };
        assert_eq!(outcome, codes, "{}", self.text);
    }
}
