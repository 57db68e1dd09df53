//! End to end with Debian's Apache httpd.

mod certificates;
mod choice;
mod contexts;
mod directives;
mod interim;
mod kept;
mod managed;
mod packaging;
mod panics;
mod phases;
mod processes;
mod refusals;
mod responses;
mod versions;

/// A policy with these pins.
fn policy(name: &str, pins: &[&str]) -> String {
    let pins: String = pins.iter().map(|pin| format!("HPKPPin {pin}\n")).collect();
    format!("<HPKPPolicy {name}>\n{pins}HPKPMaxAge 1d\n</HPKPPolicy>\n")
}
