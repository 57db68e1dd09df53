//! Compares `hpkp check` with a server's own config test: both must give the same result and the same findings for
//! every configuration that a test writes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

use crate::instance::{Instance, Module};
use crate::outcome::{Kind, Outcome};
use crate::{output, succeed, target_dir};

/// Codes that only the command reports, because it parses the text itself.
const OF_THE_COMMAND: [&str; 3] =
    ["invalid-configuration", "configuration-not-understood", "unknown-directive"];

/// Reasons for which a server refuses a configuration that the command accepts: the command reads no private keys
/// and loads no modules, so it does not know all directives.
const NOT_OF_THE_COMMAND: [&str; 11] = [
    "key values mismatch",
    "key-type mismatch",
    "cannot load certificate key",
    "SSLCertificateKeyFile: file",
    "Failed to configure certificate",
    "PEM_read_bio",
    "Cannot load",
    "requires Apache httpd",
    "unknown directive",
    "Invalid command",
    "Permission denied",
];

/// The command under test: the one that `HPKP_COMMAND` names, or one built from the present sources, because cargo
/// builds it only for the tests of its own package. `None` if the variable is empty.
fn command() -> Option<&'static Path> {
    static COMMAND: OnceLock<PathBuf> = OnceLock::new();
    let command = COMMAND.get_or_init(|| {
        if let Some(file) = std::env::var_os("HPKP_COMMAND") {
            return file.into();
        }
        let file = target_dir().join("debug/hpkp");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let sources = ["hpkp-cli/src", "hpkp-core/src", "hpkp-server/src"];
        let newest = sources.iter().filter_map(|source| newest(&root.join(source))).max();
        if changed(&file) < newest {
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let mut build = Command::new(cargo);
            build.args(["build", "--quiet", "--locked", "-p", "hpkp-cli"]).current_dir(&root);
            succeed(&mut build);
        }
        file
    });
    (!command.as_os_str().is_empty()).then_some(command)
}

/// The time of a file's last change.
fn changed(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|metadata| metadata.modified()).ok()
}

/// The time of the last change below a directory.
fn newest(directory: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(directory).expect("the sources").flatten();
    let times = entries.filter_map(|entry| match entry.path() {
        path if path.is_dir() => newest(&path),
        path => changed(&path),
    });
    times.max()
}

/// Fails unless the command's result for the configuration is that of the server's test.
#[track_caller]
pub(crate) fn assert_agreement(instance: &Instance, outcome: &Outcome) {
    // Without the module, or with a build that panics on purpose, the findings differ.
    if instance.module != Module::Shipped || instance.injects_panics() {
        return;
    }
    let Some(command) = checking(&instance.path(""), outcome) else { return };
    if let Some(text) = disagreement(instance.in_environment(command), outcome) {
        panic!("{text}");
    }
}

/// `hpkp check` of the configuration in a server's directory, to compare with the server's own test. `None` if there
/// is no command, or if the two cannot be compared.
pub fn checking(directory: &Path, outcome: &Outcome) -> Option<Command> {
    let mut command = Command::new(command()?);
    command.arg("check").arg("--config").arg(directory.join(outcome.kind.file()));
    command.arg("--config-format").arg(match outcome.kind {
        Kind::Nginx => "nginx",
        Kind::Httpd => "httpd",
    });
    if outcome.kind == Kind::Httpd {
        command.arg("--prefix").arg(directory);
    }
    // The command has an OpenSSL of its own.
    if outcome.text.contains("hpkp: [unsupported-openssl]") {
        return None;
    }
    // The command ignores the variable HPKP_CHECK and needs an option in its place.
    if outcome.text.contains("accepts what a reload would refuse") {
        command.args(["--check", "warn"]);
    }
    Some(command)
}

/// The difference between the command and the server's test; `None` if both agree.
pub fn disagreement(mut command: Command, outcome: &Outcome) -> Option<String> {
    let checked = output(&mut command);
    let (text, errors) =
        (String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
    let different = |what: &str| {
        Some(format!("{what}; the server:\n{}\nhpkp check:\n{text}{errors}", outcome.text))
    };
    let is_refused = match checked.status.code() {
        Some(0) => false,
        Some(1 | 3) => true,
        code => return different(&format!("hpkp check ended with {code:?}")),
    };
    let is_own = outcome.code != Some(0) && refuses_by_itself(outcome);
    if is_own && !is_refused {
        let is_known = NOT_OF_THE_COMMAND.iter().any(|why| outcome.text.contains(why));
        return match is_known {
            true => None,
            false => different("the server refuses, and hpkp check does not"),
        };
    }
    if is_refused != (outcome.code != Some(0)) {
        return different("different answers");
    }
    // The server stopped at its error, and the command may have found more.
    if is_own {
        return None;
    }
    // nginx may check twice, if it finds servers behind `http` that it did not expect. Then the last check counts.
    let last = outcome.text.rsplit("syntax is ok").find(|part| part.contains("hpkp: ["));
    let last = last.filter(|_| outcome.kind == Kind::Nginx).unwrap_or(&outcome.text);
    let (ours, theirs) = (findings(&text), findings(last));
    let only = || ours.symmetric_difference(&theirs).cloned().collect::<Vec<_>>().join("\n");
    if ours == theirs { None } else { different(&format!("different findings:\n{}\n", only())) }
}

/// Whether the server refuses for an error of its own.
fn refuses_by_itself(outcome: &Outcome) -> bool {
    let is_own = |line: &str| match outcome.kind {
        Kind::Nginx => line.contains("[emerg]") && !line.contains("hpkp: ["),
        Kind::Httpd => false,
    };
    let has_ours = outcome.text.lines().any(|line| line.contains("hpkp: ["));
    outcome.text.lines().any(is_own) || !has_ours
}

/// Lines about the running server, which the command does not know.
const OUTCOMES: [&str; 4] = [
    "nothing was changed; ",
    "the test passes; ",
    "continuing without ",
    "the server does not start",
];

/// The lines of findings with their places, without the server's log prefix.
fn findings(text: &str) -> BTreeSet<String> {
    let mut place = String::new();
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if let Some(line) = finding(line) {
            found.insert(without_times(&format!("{line}{place}")));
        }
        place = place_of_next(line).unwrap_or_default();
    }
    found
}

/// The part of a line that belongs to a finding.
fn finding(line: &str) -> Option<String> {
    let found = &line[line.find("hpkp: [")?..];
    let (code, rest) = found.strip_prefix("hpkp: [")?.split_once("] ")?;
    let (_, text) = rest.split_once(": ")?;
    let is_compared = !OF_THE_COMMAND.contains(&code)
        && !OUTCOMES.iter().any(|outcome| text.starts_with(outcome));
    // httpd doubles backslashes and escapes the bytes of letters outside ASCII. nginx's messages about a directive
    // have the place without parentheses.
    let line = escaped(found.trim_end()).replace("\\\\", "\\").replace(" (configured at ", " in ");
    is_compared.then(|| line.trim_end_matches(')').to_owned())
}

/// A text in which letters outside ASCII are escaped as bytes.
fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte.is_ascii() {
        true => char::from(byte).to_string(),
        false => format!("\\x{byte:02x}"),
    };
    text.bytes().map(byte).collect()
}

/// httpd prints the place of an error in a directive on the line before the error.
fn place_of_next(line: &str) -> Option<String> {
    let (_, place) = line.split_once("Syntax error on line ")?;
    let (number, file) = place.strip_suffix(':')?.split_once(" of ")?;
    Some(format!(" in {file}:{number}"))
}

/// A text without its times: some are relative to the present time, and a second may have passed.
fn without_times(text: &str) -> String {
    const FORM: &[u8] = b"0000-00-00T00:00:00Z";
    let is_time = |part: &[u8]| {
        let mut both = part.iter().zip(FORM);
        both.all(|(byte, form)| byte == form || *form == b'0' && byte.is_ascii_digit())
    };
    let mut bytes = text.as_bytes().to_vec();
    for at in 0..bytes.len().saturating_sub(FORM.len() - 1) {
        if is_time(&bytes[at..at + FORM.len()]) {
            bytes[at..at + FORM.len()].copy_from_slice(FORM);
        }
    }
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    // Pins that one run calls replaced may have been current in the other run, a second earlier.
    for last in
        [" after this server stops sending these pins", " after this server stops sending them"]
    {
        while let Some(end) = text.find(last) {
            let Some(until) = text[..end].rfind("until ") else { break };
            let form = std::str::from_utf8(FORM).expect("a text");
            text.replace_range(until + "until ".len()..end + last.len(), form);
        }
    }
    text
}
