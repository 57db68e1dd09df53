//! The values of nginx's directives (`docs/reference/directives.md`), with errors in nginx's own phrases. nginx itself
//! checks the number of arguments and where a directive is allowed.

use hpkp_core::finding::Location;
use hpkp_core::policy::PolicySpec;
use hpkp_core::text::Excerpt;

use super::guard::{GuardSetting, GuardUse};
use crate::setting::{
    self, GlobalSettings, PolicyDirective, ServerSettings, SettingError, UseSetting,
};

/// A directive's error in nginx's own phrases.
fn phrase(error: SettingError, words: &[String]) -> String {
    match error {
        SettingError::Duplicate => format!("\"{}\" directive is duplicate", words[0]),
        SettingError::NoChoice(choices) => format!(
            "invalid value \"{}\" in \"{}\" directive, it must be {choices}",
            Excerpt::new(words.get(1).map_or("", String::as_str)),
            words[0],
        ),
        SettingError::Finding(code, text) => format!("hpkp: [{code}] -: {text}"),
        SettingError::Text(text) => text,
    }
}

fn set_choice<T: Copy>(
    setting: &mut Option<T>,
    words: &[String],
    choices: &[(&str, T)],
) -> Result<(), String> {
    let [_, value] = words else { return Err(wrong_number(words)) };
    if setting.is_some() {
        return Err(phrase(SettingError::Duplicate, words));
    }
    let chosen = setting::choose(choices, value, false);
    *setting = Some(chosen.map_err(|error| phrase(error, words))?);
    Ok(())
}

/// Handles a directive of `http` and `server`. `words` are its name and its arguments, of which there is at least one
/// (nginx has checked that); `full_path` makes a path absolute as nginx does.
///
/// # Errors
/// The error in nginx's phrases.
pub fn set_in_server(
    settings: &mut ServerSettings,
    words: &[String],
    at: Location,
    full_path: impl FnOnce(&str) -> String,
) -> Result<(), String> {
    let (name, value, option) = match words {
        [name, value] => (name, value, None),
        [name, value, option] if name == "hpkp" => (name, value, Some(option)),
        _ => return Err(wrong_number(words)),
    };
    if let Some(option) = option.filter(|option| *option != "unguarded" || value == "off") {
        return Err(format!("invalid parameter \"{}\"", Excerpt::new(option)));
    }
    match name.as_str() {
        "hpkp" | "hpkp_report_only" => {
            let setting = match name.as_str() {
                "hpkp" => &mut settings.enforced,
                _ => &mut settings.report_only,
            };
            if !matches!(setting, UseSetting::Unset) {
                return Err(phrase(SettingError::Duplicate, words));
            }
            *setting = UseSetting::new(value, at);
            settings.unguarded |= option.is_some();
            Ok(())
        }
        "hpkp_check" => set_choice(&mut settings.check, words, setting::CHECK),
        "hpkp_renewal_key" => set_choice(&mut settings.renewal_key, words, setting::RENEWAL_KEY),
        "hpkp_trusted_certificate" => {
            if settings.trusted.is_some() {
                return Err(phrase(SettingError::Duplicate, words));
            }
            settings.trusted = Some((full_path(value), at));
            Ok(())
        }
        _ => Err(unknown(name)),
    }
}

/// Handles a directive that is only allowed in `http`, other than a policy's block.
///
/// # Errors
/// The error in nginx's phrases.
pub fn set_global(
    settings: &mut GlobalSettings,
    words: &[String],
    at: Location,
    full_path: impl FnOnce(&str) -> String,
) -> Result<(), String> {
    let [name, arguments @ ..] = words else { return Ok(()) };
    let done = match name.as_str() {
        "hpkp_on_start" => return set_choice(&mut settings.on_start, words, setting::ON_START),
        "hpkp_published_pins" => {
            setting::add_records(&mut settings.published, arguments, at, full_path)
        }
        "hpkp_public_port" => {
            let [listen, public] = arguments else { return Err(wrong_number(words)) };
            settings.public_ports.add(listen, public, at, true)
        }
        "hpkp_not_served_here" => {
            setting::add_not_served_here(&mut settings.not_served_here, arguments, &at)
        }
        _ => return Err(unknown(name)),
    };
    done.map_err(|error| phrase(error, words))
}

/// Handles the directive for last good certificates. `global` is given if the directive is in `http` itself.
///
/// # Errors
/// The error in nginx's phrases.
pub fn set_keep(
    global: Option<&mut GlobalSettings>,
    server: &mut ServerSettings,
    words: &[String],
    at: Location,
    full_path: impl FnOnce(&str) -> String,
) -> Result<(), String> {
    let [_, value] = words else { return Err(wrong_number(words)) };
    if server.keep.is_some() || global.as_ref().is_some_and(|global| global.keep.is_some()) {
        return Err(phrase(SettingError::Duplicate, words));
    }
    setting::set_keep(global, server, value, at, full_path).map_err(|error| phrase(error, words))
}

/// Handles the directive that guards a certificate which is chosen during the handshake. Its values must not be the
/// variables that the guard itself sets; otherwise nginx evaluates them.
///
/// # Errors
/// The error in nginx's phrases.
pub fn set_guard(
    settings: &mut ServerSettings,
    words: &[String],
    at: Location,
) -> Result<(), String> {
    let [_, certificate, key] = words else { return Err(wrong_number(words)) };
    if settings.guard.is_some() {
        return Err(phrase(SettingError::Duplicate, words));
    }
    for value in [certificate, key] {
        if value.is_empty() {
            return Err(format!("empty value in \"{}\" directive", words[0]));
        }
        if GuardUse::of(&[value], &[value]) != GuardUse::None {
            let value = Excerpt::new(value);
            return Err(format!(
                "invalid value \"{value}\" in \"{}\" directive: the directive itself sets this variable",
                words[0]
            ));
        }
    }
    settings.guard = Some(GuardSetting { at, own: true });
    Ok(())
}

/// Begins the block of a policy.
///
/// # Errors
/// The error in nginx's phrases.
pub fn define(settings: &mut GlobalSettings, words: &[String], at: Location) -> Result<(), String> {
    let [_, name] = words else { return Err(wrong_number(words)) };
    setting::define(settings, name, at).map_err(|error| phrase(error, words))
}

/// Handles a directive inside a policy, other than nginx's own `include`.
///
/// # Errors
/// The error in nginx's phrases.
pub fn set_in_policy(
    policy: &mut PolicySpec,
    words: &[String],
    at: Location,
    full_path: impl FnOnce(&str) -> String,
) -> Result<(), String> {
    let Some(first) = words.first() else { return Ok(()) };
    let directive = match first.as_str() {
        "pin" => PolicyDirective::Pin,
        "max_age" => PolicyDirective::MaxAge,
        "include_subdomains" => PolicyDirective::IncludeSubdomains,
        "report_uri" => PolicyDirective::ReportUri,
        "include" => return Err(wrong_number(words)),
        _ => return Err(unknown(first)),
    };
    let [name, value] = words else { return Err(wrong_number(words)) };
    setting::set(policy, (directive, name), value, at, full_path, false)
        .map_err(|error| phrase(error, words))
}

fn unknown(name: &str) -> String {
    format!("unknown directive \"{}\"", Excerpt::new(name))
}

fn wrong_number(words: &[String]) -> String {
    let name = words.first().map_or("", String::as_str);
    format!("invalid number of arguments in \"{name}\" directive")
}
