//! Reads the names of `server_name`.

use std::rc::Rc;

use fancy_regex::{Regex, RegexBuilder};
use hpkp_core::check::NamePattern;
use hpkp_core::finding::Text;
use hpkp_core::text::Excerpt;
use hpkp_server::host_name::host_name;

use super::super::problem::{Problems, Read, invalid};
use super::tree::Directive;

/// The compiled regular expressions of a server.
pub(super) type Patterns = Vec<Rc<dyn NamePattern>>;

/// The names of a server.
#[derive(Debug, Default)]
pub(super) struct Names {
    all: Vec<Name>,
}

#[derive(Debug)]
enum Name {
    /// A name in lower case.
    Plain(String),
    /// A regular expression without the `~`, and its compiled form if this command can compile it.
    Pattern(String, Option<Rc<dyn NamePattern>>),
}

/// A regular expression of `server_name`.
#[derive(Debug)]
struct Pattern(Regex);

impl NamePattern for Pattern {
    fn fits(&self, name: &str) -> bool {
        self.0.is_match(name).unwrap_or(false)
    }
}

impl Names {
    /// Reads a `server_name` directive.
    pub(super) fn add(&mut self, directive: &Directive, problems: &mut Problems) -> Read<()> {
        if directive.arguments().is_empty() {
            directive.argument()?;
        }
        for name in directive.arguments() {
            let shown = Excerpt::new(name);
            let is_bad = match name.as_bytes() {
                [b'*', rest @ ..] => rest.len() < 2 || rest[0] != b'.',
                [b'.'] => true,
                _ => false,
            };
            if is_bad {
                return Err(invalid(&directive.at, format!("server name \"{shown}\" is invalid")));
            }
            let Some(pattern) = name.strip_prefix('~') else {
                let plain = if name == "$hostname" { hostname() } else { name.clone() };
                self.all.push(Name::Plain(plain.to_ascii_lowercase()));
                continue;
            };
            if pattern.is_empty() {
                let text = format!("empty regex in server name \"{shown}\"");
                return Err(invalid(&directive.at, text));
            }
            // nginx ignores case only if the expression contains capitals. The names to be matched contain
            // none, so ignoring case makes no difference.
            let compiled = RegexBuilder::new(pattern).case_insensitive(true).build();
            let pattern_of = |regex| Rc::new(Pattern(regex)) as Rc<dyn NamePattern>;
            if let Err(error) = &compiled {
                let text = Text::new(format!(
                    "this command cannot read the regular expression \"{shown}\" ({}), so it is not known \
                     which names lead to this server",
                    Excerpt::new(&error.to_string())
                ));
                problems.not_understood(&directive.at, text);
            }
            let compiled = compiled.ok().map(pattern_of);
            self.all.push(Name::Pattern(pattern.to_owned(), compiled));
        }
        Ok(())
    }

    /// The names in nginx's notation, and the compiled regular expressions.
    pub(super) fn split(&self) -> (Vec<String>, Patterns) {
        let mut claims: Vec<String> = self.all.iter().map(Name::claim).collect();
        if claims.is_empty() {
            claims.push(String::new());
        }
        let patterns = self.all.iter().filter_map(|name| match name {
            Name::Plain(_) => None,
            Name::Pattern(_, compiled) => compiled.clone(),
        });
        (claims, patterns.collect())
    }

    /// The names that are no regular expressions.
    pub(super) fn hosts(&self) -> Vec<String> {
        let plain = self.all.iter().filter_map(|name| match name {
            Name::Plain(name) if !name.is_empty() => Some(name.clone()),
            _ => None,
        });
        plain.collect()
    }

    /// Whether there is a name.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

impl Name {
    fn claim(&self) -> String {
        match self {
            Self::Plain(name) => name.clone(),
            Self::Pattern(pattern, _) => format!("~{pattern}"),
        }
    }
}

/// The name of this machine, by which nginx replaces `$hostname`.
fn hostname() -> String {
    host_name().to_ascii_lowercase()
}
