//! The arrows between the crates: what a server module is made of.

use std::process::Command;

use hpkp_tests::{succeed, target_dir};

fn tree(package: &str, more: &[&str]) -> Vec<String> {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    command.args(["tree", "--locked", "--edges", "normal", "--prefix", "none"]);
    let tree = succeed(command.args(["--format", "{p}", "--package", package]).args(more));
    let tree = String::from_utf8(tree).expect("UTF-8");
    tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// A second TLS library in a server's process corrupts memory; a command's crates have no business
/// there.
#[test]
fn a_module_brings_no_tls_library_and_nothing_of_a_command() {
    let crates = tree("ngx-hpkp", &[]);
    for needed in ["hpkp-core", "hpkp-server", "nginx-sys"] {
        assert!(crates.iter().any(|name| name == needed), "{crates:?}");
    }
    // What a module may have as well is for the list below to say.
    let shared = ["hpkp-core", "hpkp-server", "libc", "serde", "serde_json"];
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
    for foreign in command.into_iter().chain(others) {
        assert!(!crates.iter().any(|name| name == foreign), "{foreign} in {crates:?}");
    }
}

#[test]
fn the_core_knows_no_server() {
    let crates = tree("hpkp-core", &[]);
    for server in ["hpkp-server", "ngx-hpkp", "nginx-sys", "libc"] {
        assert!(!crates.iter().any(|name| name == server), "{server} in {crates:?}");
    }
}

/// nginx's process has OpenSSL; the module takes it from there and links none itself.
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
