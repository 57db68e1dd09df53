//! The values of httpd's directives (`docs/reference/directives.md`), with errors in httpd's own phrases. httpd itself
//! checks the number of arguments and where a directive is allowed.

use hpkp_core::finding::Location;
use hpkp_core::policy::PolicySpec;
use hpkp_core::text::Excerpt;

use crate::setting::{
    self, GlobalSettings, PolicyDirective, ServerSettings, SettingError, UseSetting,
};

/// A directive's error in the form of httpd, with the directive first.
fn phrase(error: SettingError, name: &str, value: &str) -> String {
    match error {
        SettingError::Duplicate => format!("duplicate {name}"),
        SettingError::NoChoice(choices) => {
            format!("{name} must be {choices}, not \"{}\"", Excerpt::new(value))
        }
        SettingError::Finding(code, text) => format!("hpkp: [{code}] -: {text}"),
        SettingError::Text(text) => format!("hpkp: {name}: {text}"),
    }
}

/// Handles a directive of a server. If a directive is repeated in one place, the last one counts, as with most
/// directives of httpd. `name` has the spelling of the table of directives; `full_path` makes a path absolute as httpd
/// does.
///
/// # Errors
/// The error in httpd's phrases.
pub fn set_in_server(
    settings: &mut ServerSettings,
    name: &str,
    value: &str,
    at: Location,
    full_path: impl FnOnce(&str) -> String,
) -> Result<(), String> {
    match name {
        "HPKPUse" | "HPKPUseReportOnly" => {
            let setting = match name {
                "HPKPUse" => &mut settings.enforced,
                _ => &mut settings.report_only,
            };
            let value = if value.eq_ignore_ascii_case("off") { "off" } else { value };
            *setting = UseSetting::new(value, at);
        }
        "HPKPCheck" => {
            let chosen = setting::choose(setting::CHECK, value, true);
            settings.check = Some(chosen.map_err(|error| phrase(error, name, value))?);
        }
        "HPKPRenewalKey" => {
            let chosen = setting::choose(setting::RENEWAL_KEY, value, true);
            settings.renewal_key = Some(chosen.map_err(|error| phrase(error, name, value))?);
        }
        "HPKPTrustedCertificate" => settings.trusted = Some((full_path(value), at)),
        _ => return Err(unknown(name)),
    }
    Ok(())
}

/// Handles a directive outside all servers: `text` are its arguments as written, `words` the arguments without
/// quotation marks.
///
/// # Errors
/// The error in httpd's phrases.
pub fn set_global(
    settings: &mut GlobalSettings,
    name: &str,
    (text, words): (&str, &[String]),
    at: Location,
    full_path: impl FnOnce(&str) -> String,
) -> Result<(), String> {
    let done = match name {
        "HPKPOnStart" => setting::choose(setting::ON_START, text, true)
            .map(|chosen| settings.on_start = Some(chosen)),
        "HPKPPublishedPins" => setting::add_records(&mut settings.published, words, at, full_path),
        "HPKPPublicPort" => {
            let [listen, public] = words else {
                return Err(format!("{name} takes two arguments, as in {name} 8443 443"));
            };
            settings.public_ports.add(listen, public, at, false)
        }
        "HPKPNotServedHere" => {
            if words.is_empty() {
                let example = format!("{name} api.example.com");
                return Err(format!("{name} takes one or more hosts, as in {example}"));
            }
            setting::add_not_served_here(&mut settings.not_served_here, words, &at)
        }
        _ => return Err(unknown(name)),
    };
    done.map_err(|error| phrase(error, name, text))
}

/// Handles the directive for last good certificates. `global` is given if the directive is outside all virtual hosts.
///
/// # Errors
/// The error in httpd's phrases.
pub fn set_keep(
    global: Option<&mut GlobalSettings>,
    server: &mut ServerSettings,
    name: &str,
    value: &str,
    at: Location,
    full_path: impl FnOnce(&str) -> String,
) -> Result<(), String> {
    let off = value.eq_ignore_ascii_case("off");
    setting::set_keep(global, server, if off { "off" } else { value }, at, full_path)
        .map_err(|error| phrase(error, name, value))
}

/// Begins a policy's block. `words` are its arguments, the last one without the closing bracket.
///
/// # Errors
/// The error in httpd's phrases.
pub fn define(
    settings: &mut GlobalSettings,
    words: Vec<String>,
    at: Location,
) -> Result<(), String> {
    let usage = || "<HPKPPolicy> takes one name, as in <HPKPPolicy site>".to_owned();
    let [name] = <[String; 1]>::try_from(words).map_err(|_| usage())?;
    if name.is_empty() {
        return Err(usage());
    }
    setting::define(settings, &name, at).map_err(|error| phrase(error, "<HPKPPolicy>", &name))
}

/// The directive of a policy that has this name.
#[must_use]
pub fn policy_directive(name: &str) -> Option<PolicyDirective> {
    [
        ("HPKPPin", PolicyDirective::Pin),
        ("HPKPMaxAge", PolicyDirective::MaxAge),
        ("HPKPIncludeSubDomains", PolicyDirective::IncludeSubdomains),
        ("HPKPReportURI", PolicyDirective::ReportUri),
    ]
    .into_iter()
    .find_map(|(known, directive)| known.eq_ignore_ascii_case(name).then_some(directive))
}

/// Handles a directive inside a policy; the policy is none if the directive is outside.
///
/// # Errors
/// The error in httpd's phrases.
pub fn set_in_policy(
    policy: Option<&mut PolicySpec>,
    name: &str,
    value: &str,
    at: Location,
    full_path: impl FnOnce(&str) -> String,
) -> Result<(), String> {
    let (Some(directive), Some(policy)) = (policy_directive(name), policy) else {
        return Err(format!("{name} not allowed outside <HPKPPolicy>"));
    };
    setting::set(policy, (directive, name), value, at, full_path, true)
        .map_err(|error| phrase(error, name, value))
}

fn unknown(name: &str) -> String {
    format!("unknown directive \"{}\"", Excerpt::new(name))
}
