//! What the end-to-end tests share: certificates made by openssl, servers from Debian's packages,
//! real clients.

mod agreement;
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
pub mod session;
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

/// A TCP port on loopback that nobody listens on and that stays this process's own, also where other
/// processes with tests ask for one. It lies below those that the kernel gives to clients, which would
/// otherwise take it before the server does.
pub fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    const FIRST: u16 = 10_240;
    const COUNT: u16 = 20_480;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes begin at different places.
    let start = (std::process::id() % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + start.wrapping_mul(97).wrapping_add(next) % COUNT;
        let is_free = || std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
        if reserve(port) && is_free() {
            return port;
        }
    }
    panic!("no port is free")
}

/// Keeps a port for this process as long as it lives.
fn reserve(port: u16) -> bool {
    use std::os::fd::{AsRawFd as _, IntoRawFd as _};
    // SAFETY: takes nothing and cannot fail.
    let user = unsafe { libc::geteuid() };
    let directory = std::env::temp_dir().join(format!("hpkp-test-ports-{user}"));
    std::fs::create_dir_all(&directory).expect("a directory");
    let file = std::fs::File::create(directory.join(port.to_string())).expect("a file");
    // SAFETY: the descriptor is open.
    let is_ours = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0;
    if is_ours {
        // Programs that are started do not inherit it, and nobody closes it before the end.
        let _ = file.into_raw_fd();
    }
    is_ours
}
