//! The result of a server's command, such as a config test: its exit code and its output.

use crate::instance::{NO_WRITER, all_codes, codes};

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

/// The exit code and the output of a server's command.
#[derive(Debug)]
pub struct Outcome {
    pub kind: Kind,
    pub code: Option<i32>,
    pub text: String,
}

impl Outcome {
    /// The codes of our findings except [`NO_WRITER`], in order, each once.
    pub fn codes(&self) -> Vec<&str> {
        codes(&self.text)
    }

    /// Fails unless the command refused with `code` and named the configuration's `line`.
    #[track_caller]
    pub fn refused(&self, code: &str, line: usize) {
        self.refused_for(&format!("hpkp: [{code}]"), self.kind.file(), line);
    }

    /// Fails unless the command refused with a message that contains `text` and names this `line` of the `file`.
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

    /// Whether one line contains `text` and names the place in the server's format. For an error found while it
    /// reads, httpd prints the place first, usually on a line of its own.
    fn names(&self, text: &str, file: &str, line: usize) -> bool {
        let ends = |outcome: &str, place: &str| {
            // The place is in parentheses in our findings, and without them in the server's own messages.
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

    /// Fails unless `nginx -s reload` sent no signal because of a finding.
    #[track_caller]
    pub fn refused_signal(&self) {
        assert_eq!(self.code, Some(1), "{}", self.text);
        assert!(self.text.contains("[emerg]"), "{}", self.text);
    }

    /// Fails unless the command accepted with the findings `codes` only; [`NO_WRITER`] is allowed as well.
    #[track_caller]
    pub fn accepted(&self, codes: &[&str]) {
        assert_eq!(self.code, Some(0), "{}", self.text);
        match self.kind {
            Kind::Nginx => assert!(!self.text.contains("[emerg]"), "{}", self.text),
            Kind::Httpd => assert!(self.text.contains("Syntax OK"), "{}", self.text),
        }
        let outcome = match codes.contains(&NO_WRITER) {
            true => all_codes(&self.text),
            false => self.codes(),
        };
        assert_eq!(outcome, codes, "{}", self.text);
    }
}
