//! Evaluates conditions on httpd itself: its version, and the directives that it has.

use fancy_regex::Regex;
use hpkp_core::text::Excerpt;

use super::known::modules_with;

/// The patch levels of httpd 2.4 that the module supports, and future ones: 2.4.47 and later.
const PATCHES: std::ops::Range<u32> = 47..200;

/// The result of a condition on the version.
pub(super) enum Version {
    /// The condition has this result for every supported version.
    Same(bool),
    /// The condition has this result for the latest 2.4, and another one for some older version.
    Late(bool),
    /// httpd refuses the condition; the text is httpd's.
    Invalid(String),
}

/// Evaluates `<IfVersion>`: a comparison, or a regular expression (`~ REGEX`, `= /REGEX/`, `/REGEX/`).
pub(super) fn version(words: &[String]) -> Version {
    let (written, version) = match words {
        [version] => ("=", version.as_str()),
        [operator, version, ..] => (operator.as_str(), version.as_str()),
        [] => ("=", ""),
    };
    let (is_negated, operator) = match written.strip_prefix('!') {
        Some(operator) => (true, operator),
        None => (false, written),
    };
    let between_slashes = version.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
    let matched: Box<dyn Fn(u32) -> bool> = match (operator, between_slashes) {
        ("~", _) | ("=" | "==", Some(_)) => match Regex::new(between_slashes.unwrap_or(version)) {
            Ok(regex) => {
                Box::new(move |patch| regex.is_match(&format!("2.4.{patch}")).unwrap_or_default())
            }
            Err(_) => {
                return Version::Invalid("Unable to compile regular expression".to_owned());
            }
        },
        ("=" | "==" | ">" | ">=" | "<" | "<=", None) => {
            let Some(asked) = numbers(version) else {
                let text = "Version appears to be invalid. It must have the format \
                            major[.minor[.patch]] where major, minor and patch are numbers.";
                return Version::Invalid(text.to_owned());
            };
            let operator = operator.to_owned();
            Box::new(move |patch| {
                let order = [2, 4, patch].cmp(&asked);
                match operator.as_str() {
                    ">" => order.is_gt(),
                    ">=" => order.is_ge(),
                    "<" => order.is_lt(),
                    "<=" => order.is_le(),
                    _ => order.is_eq(),
                }
            })
        }
        _ => {
            let operator = Excerpt::new(written);
            return Version::Invalid(format!("unrecognized operator '{operator}'"));
        }
    };
    let late = matched(PATCHES.end - 1);
    match PATCHES.clone().all(|patch| matched(patch) == late) {
        true => Version::Same(late != is_negated),
        false => Version::Late(late != is_negated),
    }
}

/// Parses a version as httpd does: missing parts are 0.
fn numbers(text: &str) -> Option<[u32; 3]> {
    let mut numbers = [0; 3];
    let text = text.strip_suffix('.').unwrap_or(text);
    for (index, part) in text.split('.').enumerate() {
        if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *numbers.get_mut(index)? = part.parse().ok()?;
    }
    Some(numbers)
}

/// Whether one of the loaded modules has a directive, or a section if `name` begins with `<`. `None` if no
/// known module has it.
pub(super) fn has_directive(name: &str, has_module: impl Fn(&str) -> bool) -> Option<bool> {
    if ["hpkp", "<hpkp"].iter().any(|ours| name.to_ascii_lowercase().starts_with(ours)) {
        return Some(has_module("hpkp"));
    }
    let mut modules = modules_with(name)?;
    Some(modules.any(has_module))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result_of(text: &str) -> String {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        match version(&words) {
            Version::Same(is_met) => is_met.to_string(),
            Version::Late(is_met) => format!("late {is_met}"),
            Version::Invalid(why) => why.split(' ').take(2).collect::<Vec<_>>().join(" "),
        }
    }

    /// The expected results are those of httpd 2.4.71.
    #[test]
    fn versions_are_compared_as_httpd_does() {
        for (text, expected) in [
            ("= 2.4", "false"),
            ("2.4", "false"),
            ("<= 2.4", "false"),
            ("> 2.4", "true"),
            (">= 2.4.", "true"),
            ("< 2.5", "true"),
            ("!= 2.4", "true"),
            ("= /^2\\.4/", "true"),
            ("/^2.4/", "true"),
            ("!~ ^2.4", "false"),
            ("~ ^2\\.4\\.[0-9]+$", "true"),
            ("~ ^2\\.4\\.5[0-9]$", "late false"),
            (">= 2.4.10", "true"),
            (">= 2.4.60", "late true"),
            ("! 2.4", "unrecognized operator"),
            ("x 2", "unrecognized operator"),
            (">= a", "Version appears"),
            ("> 2.4.1.2", "Version appears"),
        ] {
            assert_eq!(result_of(text), expected, "{text}");
        }
    }

    #[test]
    fn a_directive_exists_if_its_module_is_loaded() {
        let loaded = |module: &str| ["hpkp", "ssl", "core"].contains(&module);
        for (name, expected) in [
            ("HPKPUse", Some(true)),
            ("SSLEngine", Some(true)),
            ("MDomain", Some(false)),
            ("RewriteRule", Some(false)),
            ("VirtualHost", None),
            ("<VirtualHost", Some(true)),
            ("<HPKPPolicy", Some(true)),
            ("NoSuch", None),
        ] {
            assert_eq!(has_directive(name, loaded), expected, "{name}");
        }
    }
}
