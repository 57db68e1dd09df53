//! What the end-to-end tests share: certificates made by openssl, servers from Debian's packages,
//! real clients.

pub mod backend;
pub mod cases;
pub mod client;
pub mod httpd;
pub mod instance;
pub mod layout;
pub mod load;
pub mod nginx;
pub mod pki;
pub mod recorded;
pub mod said;
pub mod site;

use std::path::PathBuf;
use std::process::{Command, Output};

/// Runs `command` to its end.
pub fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Runs `command` to its end, which must be a success; what it printed on standard output.
pub fn succeed(command: &mut Command) -> Vec<u8> {
    let output = output(command);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// Where cargo puts what it builds, and the scripts in `ci/` what they prepare.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target")),
        PathBuf::from,
    )
}

/// A TCP port on loopback that nobody listens on. The kernel hands out each port of its range in
/// turn, so tests that run at the same time get different ones.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("a bound address").port()
}
