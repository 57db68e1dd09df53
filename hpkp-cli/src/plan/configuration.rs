//! Writes a policy as directives of the servers.

use super::model::Policy;

/// The name of a policy if its name is unknown.
pub(super) const NAME: &str = "site";

/// A time in the largest unit that gives a whole number.
fn time(seconds: u32) -> String {
    match seconds {
        0 => "0".to_owned(),
        _ if seconds % 86_400 == 0 => format!("{}d", seconds / 86_400),
        _ if seconds % 3_600 == 0 => format!("{}h", seconds / 3_600),
        _ => format!("{seconds}s"),
    }
}

/// The policy as nginx directives.
pub(super) fn nginx(name: &str, policy: &Policy) -> Vec<String> {
    let mut lines = vec![format!("hpkp_policy {name} {{")];
    lines.extend(policy.pins.iter().map(|pin| format!("    pin sha256/{pin};")));
    lines.push(format!("    max_age {};", time(policy.max_age.seconds())));
    if policy.include_subdomains {
        lines.push("    include_subdomains on;".to_owned());
    }
    lines.push("}".to_owned());
    lines
}

/// The policy as httpd directives.
pub(super) fn httpd(name: &str, policy: &Policy) -> Vec<String> {
    let mut lines = vec![format!("<HPKPPolicy {name}>")];
    lines.extend(policy.pins.iter().map(|pin| format!("    HPKPPin sha256/{pin}")));
    lines.push(format!("    HPKPMaxAge {}", time(policy.max_age.seconds())));
    if policy.include_subdomains {
        lines.push("    HPKPIncludeSubDomains on".to_owned());
    }
    lines.push("</HPKPPolicy>".to_owned());
    lines
}
