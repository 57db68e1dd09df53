//! OpenSSH's files of allowed signers (ssh-keygen(1), ALLOWED SIGNERS): `PRINCIPALS [OPTIONS] KEYTYPE KEY`.

use hpkp_core::date;
use hpkp_core::text::glob_fits;
use ssh_key::PublicKey;
use ssh_key::public::KeyData;

/// The most lines.
const MAX_LINES: usize = 200_000;

/// A line of the file: a key, and for which writers, purposes and times the key is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Allowed {
    principals: Vec<Pattern>,
    /// The purposes of the key; none where the line does not restrict them.
    namespaces: Option<Vec<Pattern>>,
    /// In seconds since 1970 UTC.
    valid_after: Option<i64>,
    valid_before: Option<i64>,
    pub(crate) key: [u8; 32],
}

impl Allowed {
    /// Whether the line allows the key for `principal`.
    pub(crate) fn is_for(&self, principal: &str) -> bool {
        fits(&self.principals, principal)
    }

    /// Whether the key is valid for a purpose at a time, in seconds since 1970 UTC.
    pub(crate) fn is_valid(&self, namespace: &str, now: i64) -> bool {
        self.namespaces.as_ref().is_none_or(|all| fits(all, namespace))
            && self.valid_after.is_none_or(|after| now >= after)
            && self.valid_before.is_none_or(|before| now < before)
    }
}

/// A pattern of OpenSSH: `*` matches any characters, `?` matches one character, a leading `!` excludes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    is_negated: bool,
    glob: String,
}

/// Whether at least one pattern matches the text and no excluding pattern does.
fn fits(patterns: &[Pattern], text: &str) -> bool {
    let fitting = || patterns.iter().filter(|one| glob_fits(&one.glob, text));
    fitting().next().is_some() && fitting().all(|one| !one.is_negated)
}

fn patterns(text: &str) -> Option<Vec<Pattern>> {
    let one = |text: &str| {
        let (is_negated, glob) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        (!glob.is_empty()).then(|| Pattern { is_negated, glob: glob.to_owned() })
    };
    text.split(',').map(one).collect()
}

/// Why a file cannot be used: the number of the line, counted from 1, and the error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {}: {}", .0, .1)]
pub(crate) struct AllowedError(usize, &'static str);

/// Reads a file. One line with an error makes the whole file unusable, since that line may be the one that restricts
/// a key.
pub(crate) fn read(text: &str) -> Result<Vec<Allowed>, AllowedError> {
    let mut all = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if all.len() == MAX_LINES {
            return Err(AllowedError(number, "too many lines"));
        }
        all.push(of_line(line).map_err(|why| AllowedError(number, why))?);
    }
    Ok(all)
}

fn of_line(line: &str) -> Result<Allowed, &'static str> {
    let (principals, rest) = word(line).ok_or("no key")?;
    let principals = patterns(&principals.replace('"', "")).ok_or("invalid names")?;
    let mut allowed = Allowed {
        principals,
        namespaces: None,
        valid_after: None,
        valid_before: None,
        key: [0; 32],
    };
    let (mut first, mut behind) = word(rest).ok_or("no key")?;
    if !is_key_type(&first) {
        options(&first, &mut allowed)?;
        (first, behind) = word(behind).ok_or("no key")?;
    }
    if !is_key_type(&first) {
        return Err("unknown type of key");
    }
    if first != "ssh-ed25519" {
        return Err("not an Ed25519 key (ssh-keygen -t ed25519)");
    }
    let (encoded, _) = word(behind).ok_or("no key")?;
    let key = PublicKey::from_openssh(&format!("{first} {encoded}")).map_err(|_| "invalid key")?;
    match key.key_data() {
        KeyData::Ed25519(key) => allowed.key = key.0,
        _ => return Err("invalid key"),
    }
    Ok(allowed)
}

fn is_key_type(word: &str) -> bool {
    ["ssh-", "ecdsa-", "sk-"].iter().any(|start| word.starts_with(start))
}

/// The first word and the text after it. Blanks between quotation marks belong to the word.
fn word(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start();
    let mut is_quoted = false;
    let end = text.find(|c: char| {
        is_quoted ^= c == '"';
        !is_quoted && (c == ' ' || c == '\t')
    });
    let (word, rest) = text.split_at(end.unwrap_or(text.len()));
    (!word.is_empty() && !is_quoted).then(|| (word.to_owned(), rest))
}

/// Reads the options of a line: separated by commas, some with a value in quotation marks.
fn options(text: &str, allowed: &mut Allowed) -> Result<(), &'static str> {
    let mut is_quoted = false;
    let parts = text.split(|c: char| {
        is_quoted ^= c == '"';
        !is_quoted && c == ','
    });
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        match (name.to_ascii_lowercase().as_str(), value) {
            ("namespaces", Some(value)) if allowed.namespaces.is_none() => {
                allowed.namespaces = Some(patterns(value).ok_or("invalid namespaces")?);
            }
            ("valid-after", Some(value)) if allowed.valid_after.is_none() => {
                allowed.valid_after = Some(time(value)?);
            }
            ("valid-before", Some(value)) if allowed.valid_before.is_none() => {
                allowed.valid_before = Some(time(value)?);
            }
            ("cert-authority", None) => return Err("certificates of keys are not supported"),
            _ => return Err("unknown option"),
        }
    }
    Ok(())
}

/// Reads a time: `YYYYMMDD` or `YYYYMMDDHHMM[SS]`, followed by a Z.
fn time(text: &str) -> Result<i64, &'static str> {
    let wanted = "a time must be YYYYMMDDZ or YYYYMMDDHHMM[SS]Z, in UTC";
    let digits = text.strip_suffix('Z').ok_or(wanted)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || !matches!(digits.len(), 8 | 12 | 14) {
        return Err(wanted);
    }
    let all = format!("{digits:0<14}");
    let part = |from: usize, to: usize| &all[from..to];
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(8, 10),
        part(10, 12),
        part(12, 14)
    );
    date::parse(&text).ok_or(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE0bFf3l0oYw6ZCKa1XkLTqfZqkHK4Rj3O8Y2T7eAf2q";

    #[test]
    fn names_namespaces_and_times_restrict_a_key() {
        let text = format!(
            "# the fleet\n\nweb-1,web-1.command {KEY} root@web-1\nweb-*,!web-9 namespaces=\"hpkp-records,file\",\
             valid-after=\"20270101Z\",valid-before=\"202801011200Z\" {KEY}\n"
        );
        let all = read(&text).expect("lines");
        let of = |at: usize, name| all[at].is_for(name);
        assert!(
            of(0, "web-1")
                && of(0, "web-1.command")
                && !of(0, "web-2")
                && !of(0, "web-1.commander")
        );
        assert!(of(1, "web-2") && !of(1, "web-9") && !of(1, "db-1"));
        let valid = |namespace, now| all[1].is_valid(namespace, now);
        let (after, before) = (1_798_761_600, 1_830_340_800);
        assert!(!valid("hpkp-records", after - 1) && valid("hpkp-records", after));
        assert!(valid("file", before - 1) && !valid("file", before) && !valid("git", after));
        assert!(all[0].is_valid("anything", 0));
    }

    #[test]
    fn an_invalid_line_makes_the_file_unusable() {
        for (line, why) in [
            ("web-1".to_owned(), "no key"),
            ("web-1 ssh-ed25519".to_owned(), "no key"),
            ("web-1 ssh-ed25519 AAAA".to_owned(), "invalid key"),
            ("web-1 ssh-rsa AAAA".to_owned(), "not an Ed25519 key"),
            (format!("web-1 cert-authority {KEY}"), "not supported"),
            (format!("web-1 no-touch {KEY}"), "unknown option"),
            (format!("web-1 valid-after=\"20270101\" {KEY}"), "in UTC"),
            (format!("web-1 namespaces=\"a {KEY}"), "no key"),
            (format!("web-1,,b {KEY}"), "invalid names"),
        ] {
            let error = read(&format!("\n{line}\n")).expect_err(&line).to_string();
            assert!(error.starts_with("line 2: ") && error.contains(why), "{line}: {error}");
        }
    }
}
