//! Test cases for both servers, each described once. A case says where and why a server differs.

pub mod configuration;
pub mod policies;
pub mod published_pins;
pub mod reached;
pub mod refusals;
pub mod responses;

use std::ops::DerefMut;

use crate::instance::Instance;
use crate::outcome::{Kind, Outcome};
use configuration::{Part, Written};

/// A server that a case runs on.
pub trait Server: DerefMut<Target = Instance> {
    const KIND: Kind;

    /// A server with a CA `ca`, a certificate `live` for localhost and a request `backup`.
    fn prepared() -> Self;

    /// Writes a configuration; returns the line of the marked directive in the file.
    fn write(&self, written: Written) -> Option<usize>;

    /// `nginx -t`, `apache2 -t`.
    fn test(&self) -> Outcome;

    /// The result of a config test of these parts.
    fn says(&self, parts: &[Part]) -> Outcome {
        self.write(Written::new(parts, Self::KIND));
        self.test()
    }

    /// Fails unless a test refuses the configuration with `code` and names the marked line.
    #[track_caller]
    fn refuses(&self, parts: &[Part], code: &str) -> Outcome {
        self.refuses_for(parts, &format!("hpkp: [{code}]"))
    }

    /// As [`Server::refuses`], for a reason with this text.
    #[track_caller]
    fn refuses_for(&self, parts: &[Part], text: &str) -> Outcome {
        let line = self.write(Written::new(parts, Self::KIND)).expect("a marked line");
        let outcome = self.test();
        outcome.refused_for(text, Self::KIND.file(), line);
        outcome
    }

    /// Fails unless a config test accepts the configuration with exactly the findings `codes`.
    #[track_caller]
    fn accepts(&self, parts: &[Part], codes: &[&str]) -> Outcome {
        let outcome = self.says(parts);
        outcome.accepted(codes);
        outcome
    }
}
