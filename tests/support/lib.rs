//! Shared parts of the end-to-end tests: certificates made by openssl, servers from Debian's packages, real clients.

pub mod agreement;
pub mod backend;
pub mod cases;
pub mod client;
pub mod clock;
pub mod httpd;
pub mod instance;
pub mod layout;
pub mod listed;
pub mod load;
pub mod nginx;
pub mod outcome;
pub mod pki;
pub mod random;
pub mod recorded;
pub mod session;
pub mod site;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Runs `command` to its end.
pub fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Runs `command` to its end, which must be a success; returns its standard output.
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

/// Writes a program by a separate process. If this process wrote the file, a process forked by another test could
/// inherit the open descriptor for a moment, and the kernel does not execute a file that is open for writing.
pub fn write_program(path: impl AsRef<Path>, contents: impl AsRef<[u8]>) {
    let mut install = Command::new("install");
    install.args(["-m", "755", "/dev/stdin"]).arg(path.as_ref()).stdin(Stdio::piped());
    let mut install = install.spawn().expect("install");
    let written = install.stdin.take().expect("a pipe").write_all(contents.as_ref());
    assert!(install.wait().expect("install").success(), "{}", path.as_ref().display());
    written.expect("a program written");
}

/// The directory of cargo's build results, and of the files that the scripts in `ci/` prepare.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target")),
        PathBuf::from,
    )
}

/// A free TCP port on loopback, reserved for this process also against other test processes. It is below the ports
/// that the kernel gives to clients, so that no client takes it before the server does.
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
        if reserve(port) && bound(port).is_some() {
            return port;
        }
    }
    panic!("no port is free")
}

/// A socket bound to a port on loopback, if no process listens there. The socket itself does not listen: a process
/// that another test forks now inherits it until it executes its program, and a listening socket would keep the port
/// in use meanwhile.
pub fn bound(port: u16) -> Option<std::os::fd::OwnedFd> {
    use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(std::net::Ipv4Addr::LOCALHOST).to_be() },
        sin_zero: [0; 8],
    };
    let reuse: libc::c_int = 1;
    // SAFETY: creates a new descriptor, which this function owns; the option and the address have the lengths that are
    // passed.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return None;
        }
        let socket = OwnedFd::from_raw_fd(socket);
        // Servers set this option too: without it, connections that have just ended would keep the port in use.
        let length = size_of_val(&reuse) as libc::socklen_t;
        let (level, option) = (libc::SOL_SOCKET, libc::SO_REUSEADDR);
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const reuse).cast(), length);
        let length = size_of_val(&address) as libc::socklen_t;
        let done = libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length);
        (done == 0).then_some(socket)
    }
}

/// Keeps a port for this process as long as it lives.
fn reserve(port: u16) -> bool {
    use std::os::fd::{AsRawFd as _, IntoRawFd as _};
    // SAFETY: geteuid takes no argument and always succeeds.
    let user = unsafe { libc::geteuid() };
    let directory = std::env::temp_dir().join(format!("hpkp-test-ports-{user}"));
    std::fs::create_dir_all(&directory).expect("a directory");
    let file = std::fs::File::create(directory.join(port.to_string())).expect("a file");
    // SAFETY: the descriptor is open.
    let is_ours = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0;
    if is_ours {
        // Programs started later do not inherit the descriptor, and it stays open until this process ends.
        let _ = file.into_raw_fd();
    }
    is_ours
}
