//! Dependencies between the crates: which crates and libraries a server module may have.

use std::collections::BTreeSet;
use std::process::Command;

use hpkp_tests::{succeed, target_dir};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn cargo_tree(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(ROOT).args(["tree", "--locked", "--prefix", "none"]);
    String::from_utf8(succeed(command.args(arguments))).expect("UTF-8")
}

fn tree(package: &str, more: &[&str]) -> Vec<String> {
    let arguments = ["--edges", "normal", "--format", "{p}", "--package", package];
    let tree = cargo_tree(&[&arguments[..], more].concat());
    tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// A second TLS library in a server's process corrupts memory, and a module needs none of the command's own crates.
#[test]
fn a_module_brings_no_tls_library_and_nothing_of_a_command() {
    // Crates that both the command and the modules may have.
    let shared = [
        "data-encoding",
        "hpkp-core",
        "hpkp-server",
        "libc",
        "rustix",
        "serde",
        "serde_json",
        "thiserror",
        // Overwrites the buffers in which private keys were.
        "zeroize",
    ];
    let command = tree("hpkp-cli", &["--depth", "1"]);
    let command = command.iter().map(String::as_str).filter(|name| !shared.contains(name));
    let command: Vec<&str> = command.collect();
    for own in ["hpkp-cli", "clap", "openssl", "roxmltree"] {
        assert!(command.contains(&own), "{own} not in {command:?}");
    }
    let others = [
        "openssl",
        "openssl-sys",
        "openssl-probe",
        "gnutls-sys",
        "rustls",
        "ring",
        "aws-lc-rs",
        "boring",
        "native-tls",
        "tokio",
        "reqwest",
        "hyper",
        "quick-xml",
        "plist",
    ];
    for module in ["ngx-hpkp", "apache-hpkp"] {
        let crates = tree(module, &[]);
        for needed in ["hpkp-core", "hpkp-server"] {
            assert!(crates.iter().any(|name| name == needed), "{module}: {crates:?}");
        }
        for foreign in command.iter().copied().chain(others) {
            assert!(!crates.iter().any(|name| name == foreign), "{module}: {foreign}");
        }
    }
}

#[test]
fn the_core_depends_on_no_server() {
    let crates = tree("hpkp-core", &[]);
    for server in ["hpkp-server", "ngx-hpkp", "nginx-sys", "libc"] {
        assert!(!crates.iter().any(|name| name == server), "{server} in {crates:?}");
    }
}

/// The module uses the OpenSSL that is already in nginx's process, and links none itself.
#[test]
fn the_module_links_no_tls_library() {
    let module = target_dir().join("modules/shipped/ngx_http_hpkp_module.so");
    let needed = succeed(Command::new("readelf").arg("-d").arg(&module));
    let needed = String::from_utf8_lossy(&needed);
    assert!(needed.contains("libc.so"), "{needed}");
    for library in ["libssl", "libcrypto", "libgnutls"] {
        assert!(!needed.contains(library), "{needed}");
    }
}

/// Whether the licences in `allowed` are enough for an SPDX expression; `/` is an old way to say OR.
fn is_satisfied(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_ascii_whitespace().collect();
    let (answer, rest) = either(&words, allowed);
    assert!(rest.is_empty(), "{expression}");
    answer
}

fn either<'w>(words: &'w [&'w str], allowed: &BTreeSet<&str>) -> (bool, &'w [&'w str]) {
    let (mut answer, mut rest) = both(words, allowed);
    while let ["OR", after @ ..] = rest {
        let (other, left) = both(after, allowed);
        (answer, rest) = (answer || other, left);
    }
    (answer, rest)
}

fn both<'w>(words: &'w [&'w str], allowed: &BTreeSet<&str>) -> (bool, &'w [&'w str]) {
    let (mut answer, mut rest) = one(words, allowed);
    while let ["AND", after @ ..] = rest {
        let (other, left) = one(after, allowed);
        (answer, rest) = (answer && other, left);
    }
    (answer, rest)
}

fn one<'w>(words: &'w [&'w str], allowed: &BTreeSet<&str>) -> (bool, &'w [&'w str]) {
    match words {
        ["(", inside @ ..] => match either(inside, allowed) {
            (answer, [")", rest @ ..]) => (answer, rest),
            (_, rest) => panic!("no \")\" before {rest:?}"),
        },
        [name, "WITH", exception, rest @ ..] => {
            (allowed.contains(format!("{name} WITH {exception}").as_str()), rest)
        }
        [name, rest @ ..] => (allowed.contains(name), rest),
        [] => panic!("no licence"),
    }
}

/// The licence check of `cargo deny`, for machines without it. Also, no licence is allowed that no crate needs.
#[test]
fn the_licences_that_are_allowed_are_those_of_the_crates() {
    let settings = std::fs::read_to_string(format!("{ROOT}/deny.toml")).expect("deny.toml");
    let list = settings.lines().find_map(|line| line.strip_prefix("allow = [")).expect("a list");
    let allowed: BTreeSet<&str> = list.split('"').skip(1).step_by(2).collect();
    let mut expressions = BTreeSet::new();
    for target in ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"] {
        let arguments = [
            "--workspace",
            "--edges",
            "normal,build,dev",
            "--target",
            target,
            "--format",
            "{p}|{l}",
        ];
        for line in cargo_tree(&arguments).lines().filter(|line| !line.is_empty()) {
            let (package, licence) = line.split_once('|').expect("a package and its licence");
            let licence = licence.trim_end_matches(" (*)").to_owned();
            assert!(is_satisfied(&licence, &allowed), "{package}: {licence}");
            expressions.insert(licence);
        }
    }
    for licence in &allowed {
        let others: BTreeSet<&str> = allowed.iter().copied().filter(|one| one != licence).collect();
        let is_needed = expressions.iter().any(|expression| !is_satisfied(expression, &others));
        assert!(is_needed, "no crate needs {licence}");
    }
}
