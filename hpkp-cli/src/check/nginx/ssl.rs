//! Reads the directives that configure the certificates of a server.

use hpkp_core::finding::{Location, Text};
use hpkp_core::text::Excerpt;
use hpkp_server::nginx::{GuardUse, Own};

use super::super::files::full_path;
use super::super::problem::{Read, invalid, unreadable};
use super::block::without_block;
use super::tree::Directive;

/// The TLS directives of one block.
#[derive(Clone, Debug, Default)]
pub(super) struct Ssl {
    on: Option<bool>,
    rejects: Option<bool>,
    /// The value of `starttls` in `mail`.
    starttls: Option<bool>,
    /// The value of `ssl_preread` in `stream`.
    passes_on: Option<bool>,
    pub(super) certificates: Option<Vec<String>>,
    pub(super) keys: Option<Vec<String>>,
}

impl Ssl {
    /// Reads a TLS directive; other directives are ignored.
    pub(super) fn read(&mut self, directive: &Directive, directory: &str) -> Read<()> {
        let name = directive.name();
        match name {
            "ssl_certificate" | "ssl_certificate_key" => {
                without_block(directive)?;
                let path = file(directive.argument()?, directory);
                let list = match name {
                    "ssl_certificate" => &mut self.certificates,
                    _ => &mut self.keys,
                };
                list.get_or_insert_default().push(path);
            }
            "ssl_conf_command" => other_certificates(directive)?,
            "ssl" => set(&mut self.on, directive, &["on"])?,
            "ssl_reject_handshake" => set(&mut self.rejects, directive, &["on"])?,
            "ssl_preread" => set(&mut self.passes_on, directive, &["on"])?,
            "starttls" => set(&mut self.starttls, directive, &["on", "only"])?,
            _ => {}
        }
        Ok(())
    }

    /// These directives, with the directives of the outer block as defaults.
    pub(super) fn inherited(&self, outer: &Self) -> Self {
        let or = |own: &Option<Vec<String>>, outer: &Option<Vec<String>>| {
            own.clone().or_else(|| outer.clone())
        };
        Self {
            on: self.on.or(outer.on),
            rejects: self.rejects.or(outer.rejects),
            starttls: self.starttls.or(outer.starttls),
            passes_on: self.passes_on.or(outer.passes_on),
            certificates: or(&self.certificates, &outer.certificates),
            keys: or(&self.keys, &outer.keys),
        }
    }

    /// Whether `ssl on` is set.
    pub(super) fn is_on(&self) -> bool {
        self.on == Some(true)
    }

    /// Whether `ssl on` or `starttls` is set.
    pub(super) fn is_on_or_upgrades(&self) -> bool {
        self.is_on() || self.starttls == Some(true)
    }

    /// Whether `ssl_preread on` is set.
    pub(super) fn passes_on(&self) -> bool {
        self.passes_on == Some(true)
    }

    /// The server's certificates in the form that the check needs; `None` if the server has none. The
    /// server begins `at`.
    pub(super) fn own(&self, at: &Location) -> Read<Option<Own>> {
        let keys = self.keys.as_deref().unwrap_or_default();
        let certificates = self.certificates.as_deref();
        if let Some(without) = certificates.unwrap_or_default().get(keys.len()) {
            let text = format!(
                "no \"ssl_certificate_key\" is defined for certificate \"{}\"",
                Excerpt::new(without)
            );
            return Err(invalid(at, text));
        }
        let rejects = self.rejects == Some(true);
        if certificates.is_none() && self.is_on() && !rejects {
            let text = "no \"ssl_certificate\" is defined for the \"ssl\" directive";
            return Err(invalid(at, text.to_owned()));
        }
        Ok(own(certificates, keys, rejects))
    }
}

/// Combines the certificates with `ssl_reject_handshake`.
fn own(certificates: Option<&[String]>, keys: &[String], rejects: bool) -> Option<Own> {
    let has_variables = |names: &[String]| names.iter().any(|name| name.contains('$'));
    let variables = certificates.is_some_and(has_variables) || has_variables(keys);
    let guard = GuardUse::of(certificates.unwrap_or_default(), keys);
    (certificates.is_some() || rejects).then_some(Own { variables, rejects, guard })
}

/// The path of a file. A value with a prefix such as `data:` or with a variable is no path and stays
/// unchanged.
fn file(name: &str, directory: &str) -> String {
    let is_other = ["data:", "engine:", "store:"].iter().any(|prefix| name.starts_with(prefix));
    if is_other || name.contains('$') { name.to_owned() } else { full_path(directory, name) }
}

/// OpenSSL runs `ssl_conf_command` after all directives, and some commands replace the certificates that
/// the directives have loaded.
fn other_certificates(directive: &Directive) -> Read<()> {
    without_block(directive)?;
    let name = directive.arguments().first().map_or("", String::as_str);
    let lower = name.to_ascii_lowercase();
    if lower != "certificate" && !lower.starts_with("chainca") {
        return Ok(());
    }
    let text = format!(
        "ssl_conf_command {} changes which certificates are sent, and only the server can tell how",
        Excerpt::new(name)
    );
    Err(unreadable(
        &directive.at,
        Text::new(text).fix("name the certificate and its chain in ssl_certificate"),
    ))
}

fn set(setting: &mut Option<bool>, directive: &Directive, on: &[&str]) -> Read<()> {
    without_block(directive)?;
    let value = directive.argument()?;
    if setting.is_some() {
        let name = directive.name();
        return Err(invalid(&directive.at, format!("\"{name}\" directive is duplicate")));
    }
    let is_on = on.iter().any(|word| word.eq_ignore_ascii_case(value));
    if !is_on && !value.eq_ignore_ascii_case("off") {
        let (name, value) = (directive.name(), Excerpt::new(value));
        let text = format!("invalid value \"{value}\" in \"{name}\" directive");
        return Err(invalid(&directive.at, text));
    }
    *setting = Some(is_on);
    Ok(())
}
