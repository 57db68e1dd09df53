//! Finds the other servers that run on this machine, in `/proc`.
//!
//! A process that is not visible here (another user's, or in another namespace) is not found; the caller must take that
//! into account.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

/// A process.
pub type Pid = libc::pid_t;

/// How long a server may take to end. nginx needs three to four seconds to kill a worker that does not end by itself.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Calls `find` until it finds no process or [`PATIENCE`] is over, and returns the last process found.
pub fn stays(mut find: impl FnMut() -> Option<Pid>) -> Option<Pid> {
    let started = Instant::now();
    loop {
        let found = find()?;
        if started.elapsed() > PATIENCE {
            return Some(found);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// The master of another server of this kind that listens at one of `addresses`. Workers whose master was killed do not
/// count: nobody can reload them.
#[must_use]
pub fn master_at(addresses: &[SocketAddr]) -> Option<Pid> {
    let there: HashSet<u64> = tcp_listeners("self")
        .into_iter()
        .filter(|(_, at)| addresses.iter().any(|wanted| takes_clients_of(*at, *wanted)))
        .map(|(inode, _)| inode)
        .collect();
    if there.is_empty() {
        return None;
    }
    // After a binary upgrade this process shares its predecessor's sockets.
    let own = socket_inodes("self").unwrap_or_default();
    let there: HashSet<u64> = there.difference(&own).copied().collect();
    let name = name("self")?;
    let same: HashMap<Pid, Pid> = pids()
        .filter_map(|pid| {
            let (its, parent) = name_and_parent(pid)?;
            (its == name).then_some((pid, parent))
        })
        .collect();
    let is_master = |pid: &Pid| same.values().any(|parent| parent == pid);
    let mut masters: Vec<Pid> = same.keys().copied().filter(is_master).collect();
    masters.sort_unstable();
    masters
        .into_iter()
        .filter(|pid| *pid != own_pid())
        .find(|pid| socket_inodes(&pid.to_string()).is_ok_and(|inodes| !inodes.is_disjoint(&there)))
}

/// Whether a socket that listens at `at` gets clients of the address `wanted`.
fn takes_clients_of(at: SocketAddr, wanted: SocketAddr) -> bool {
    let (ip, wanted_ip) = (at.ip().to_canonical(), wanted.ip().to_canonical());
    let covers = ip.is_unspecified() && ip.is_ipv4() == wanted_ip.is_ipv4();
    at.port() == wanted.port() && (ip == wanted_ip || covers)
}

/// Whether a process has a listening socket; none if that cannot be determined. A server that only finishes its last
/// requests has closed its listening sockets.
#[must_use]
pub fn listens(pid: Pid) -> Option<bool> {
    let pid = pid.to_string();
    let inodes = socket_inodes(&pid).ok()?;
    if tcp_listeners(&pid).keys().any(|inode| inodes.contains(inode)) {
        return Some(true);
    }
    // httpd serves clients on no Unix socket, but keeps those of its modules (mod_wsgi) until its last request ends.
    let is_httpd = matches!(name(&pid).as_deref(), Some(b"apache2" | b"httpd"));
    Some(!is_httpd && unix_listeners(&pid).iter().any(|inode| inodes.contains(inode)))
}

/// Whether another process runs the same program as this one, by its name.
#[must_use]
pub fn is_of_this_kind(pid: Pid) -> bool {
    let own = name("self");
    own.is_some() && name(&pid.to_string()) == own
}

/// The programs of nginx, by their names.
pub const NGINX: &[&str] = &["nginx"];

/// Those of Apache httpd.
pub const HTTPD: &[&str] = &["apache2", "httpd"];

/// Whether a process runs one of these programs.
pub(crate) fn runs(pid: Pid, programs: &[&str]) -> bool {
    let name = name(&pid.to_string());
    name.is_some_and(|name| programs.iter().any(|program| program.as_bytes() == name))
}

/// The addresses at which this process listens.
#[must_use]
pub fn own_addresses() -> Vec<SocketAddr> {
    let inodes = socket_inodes("self").unwrap_or_default();
    let listeners = tcp_listeners("self").into_iter();
    listeners.filter(|(inode, _)| inodes.contains(inode)).map(|(_, at)| at).collect()
}

/// The processes that have a file with this name open and for which `is_it` is true. `is_it` gets the process, the
/// number of the descriptor, and its text in `/proc/PID/fdinfo`.
pub(crate) fn with_file(name: &str, is_it: impl Fn(Pid, &str, &str) -> bool) -> Vec<Pid> {
    let has_it = |pid: &Pid| {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        entries.flatten().any(|entry| {
            let is_named = fs::read_link(entry.path()).is_ok_and(|path| is_named(&path, name));
            let number = entry.file_name();
            let Some(number) = number.to_str().filter(|_| is_named) else { return false };
            fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}"))
                .is_ok_and(|text| is_it(*pid, number, &text))
        })
    };
    pids().filter(has_it).collect()
}

/// Whether `/proc` shows a descriptor with this path for a file of this name.
pub(crate) fn is_named(path: &Path, name: &str) -> bool {
    let Some(last) = path.file_name().and_then(|last| last.to_str()) else { return false };
    last.strip_suffix(" (deleted)").unwrap_or(last) == name
}

/// This process.
pub(crate) fn own_pid() -> Pid {
    // Process ids always fit into the type.
    Pid::try_from(process::id()).unwrap_or(0)
}

/// All processes that can be seen.
fn pids() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The name of the program that a process runs.
fn name(pid: &str) -> Option<Vec<u8>> {
    name_and_parent_of(pid).map(|(name, _)| name)
}

fn name_and_parent(pid: Pid) -> Option<(Vec<u8>, Pid)> {
    name_and_parent_of(&pid.to_string())
}

/// Reads `PID (NAME) STATE PARENT ...`, in which the name may have parentheses and blanks. A zombie counts as gone.
fn name_and_parent_of(pid: &str) -> Option<(Vec<u8>, Pid)> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let start = stat.iter().position(|byte| *byte == b'(')? + 1;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    let mut rest = rest.split_ascii_whitespace();
    let is_alive = !matches!(rest.next()?, "Z" | "X");
    let parent = rest.next()?.parse().ok()?;
    is_alive.then_some((stat.get(start..end)?.to_vec(), parent))
}

/// The inodes of the sockets that a process has open.
fn socket_inodes(pid: &str) -> io::Result<HashSet<u64>> {
    let mut inodes = HashSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // A descriptor may have been closed meanwhile.
        let Ok(target) = fs::read_link(entry?.path()) else { continue };
        inodes.extend(target.to_str().and_then(|target| {
            target.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()
        }));
    }
    Ok(inodes)
}

/// The listening TCP sockets in the network namespace of a process: their inodes and addresses.
fn tcp_listeners(pid: &str) -> HashMap<u64, SocketAddr> {
    const LISTEN: &str = "0A";
    let mut found = HashMap::new();
    for file in ["tcp", "tcp6"] {
        each_line(&format!("/proc/{pid}/net/{file}"), |line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            if fields.get(3) != Some(&LISTEN) {
                return;
            }
            let at = fields.get(1).and_then(|at| address(at));
            let inode = fields.get(9).and_then(|inode| inode.parse().ok());
            found.extend(inode.zip(at));
        });
    }
    found
}

/// The inodes of the listening Unix sockets.
fn unix_listeners(pid: &str) -> HashSet<u64> {
    /// The kernel's `__SO_ACCEPTCON`.
    const LISTENS: u32 = 1 << 16;
    let mut found = HashSet::new();
    each_line(&format!("/proc/{pid}/net/unix"), |line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let flags = fields.get(3).and_then(|flags| u32::from_str_radix(flags, 16).ok());
        if flags.is_some_and(|flags| flags & LISTENS != 0) {
            found.extend(fields.get(6).and_then(|inode| inode.parse::<u64>().ok()));
        }
    });
    found
}

/// Reads a file line by line. A busy server has a line for each connection, so the lines are not kept.
fn each_line(path: &str, mut take: impl FnMut(&str)) {
    let Ok(file) = File::open(path) else { return };
    for line in BufReader::new(file).lines().map_while(Result::ok) {
        take(&line);
    }
}

/// Reads an address in the kernel's form: words of 32 bits, each in the machine's own byte order.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let mut bytes = Vec::new();
    for start in (0..ip.len()).step_by(8) {
        let word = u32::from_str_radix(ip.get(start..start + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let ip = match bytes.len() {
        4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        _ => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_listening_socket_is_found_until_it_is_closed() {
        for at in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(at) else { continue };
            let address = listener.local_addr().unwrap();
            assert!(own_addresses().contains(&address));
            assert_eq!(listens(own_pid()), Some(true));
            // This process is not another one.
            assert_eq!(master_at(&[address]), None);
            drop(listener);
            assert!(!own_addresses().contains(&address));
        }
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixListener::bind(dir.path().join("socket")).unwrap();
        assert_eq!(listens(own_pid()), Some(true));
        drop(socket);
        assert_eq!(listens(Pid::MAX), None);
    }

    #[test]
    fn a_wildcard_takes_the_clients_of_its_own_family() {
        let takes =
            |at: &str, wanted: &str| takes_clients_of(at.parse().unwrap(), wanted.parse().unwrap());
        assert!(takes("127.0.0.1:443", "127.0.0.1:443"));
        assert!(takes("0.0.0.0:443", "127.0.0.1:443"));
        assert!(takes("[::]:443", "[::1]:443"));
        assert!(takes("[::ffff:127.0.0.1]:443", "127.0.0.1:443"));
        assert!(!takes("127.0.0.1:443", "0.0.0.0:443"));
        assert!(!takes("127.0.0.1:443", "127.0.0.1:444"));
        assert!(!takes("127.0.0.1:443", "127.0.0.2:443"));
        assert!(!takes("[::]:443", "127.0.0.1:443"));
    }

    #[test]
    fn addresses_are_read_in_the_form_of_the_kernel() {
        assert_eq!(address("nothing"), None);
        assert_eq!(address("00000000:01BB"), Some("0.0.0.0:443".parse().unwrap()));
        let own = format!("{:08X}:01BB", u32::from_ne_bytes([127, 0, 0, 1]));
        assert_eq!(address(&own), Some("127.0.0.1:443".parse().unwrap()));
        let zero = "00000000".repeat(3);
        let one = format!("{zero}{:08X}:01BB", u32::from_ne_bytes([0, 0, 0, 1]));
        assert_eq!(address(&one), Some("[::1]:443".parse().unwrap()));
        assert_eq!(address("000000:01BB"), None);
    }
}
