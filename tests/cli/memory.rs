//! Private keys in the memory of the command: when the command prints its result, its memory has no part of the key,
//! of the key's file, page and QR code, or of the passphrase.
//!
//! The pipe for the command's output is full, so the command blocks in its first write. The test reads its memory
//! then, which only root may.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use openssl::pkey::{PKey, Private};

use crate::hpkp;

/// Bytes of a secret that are enough to recognise it.
const ENOUGH: usize = 12;
const PASSPHRASE: &str = "7wq!correct-horse-battery";

/// The secrets to search for, each with its name.
#[derive(Default)]
struct Needles {
    all: Vec<(&'static str, HashSet<[u8; ENOUGH]>)>,
    /// Rows of a QR code, a byte for each module: 1 is dark.
    rows: Vec<Vec<u8>>,
}

impl Needles {
    fn add(&mut self, name: &'static str, secret: &[u8]) {
        let windows = secret.windows(ENOUGH).filter_map(|window| window.try_into().ok());
        // A window with few different bytes, such as padding, is no secret.
        let windows = windows.filter(|window: &[u8; ENOUGH]| {
            window.iter().collect::<HashSet<_>>().len() >= ENOUGH / 2
        });
        let windows: HashSet<_> = windows.collect();
        assert!(!windows.is_empty(), "{name}");
        self.all.push((name, windows));
    }

    fn passphrase() -> Self {
        let mut needles = Self::default();
        needles.add("passphrase", PASSPHRASE.as_bytes());
        needles
    }

    /// The numbers of a key, and each form of a file with it.
    fn key(&mut self, key: &PKey<Private>, file: &[u8]) {
        let numbers = match key.rsa() {
            Ok(rsa) => {
                let primes = [rsa.p(), rsa.q(), rsa.dmp1(), rsa.dmq1(), rsa.iqmp()];
                primes.into_iter().flatten().chain([rsa.d()]).map(|n| n.to_vec()).collect()
            }
            Err(_) => match key.ec_key() {
                Ok(key) => vec![key.private_key().to_vec()],
                Err(_) => vec![key.raw_private_key().expect("a raw key")],
            },
        };
        for number in &numbers {
            self.add("number of the key", number);
            // OpenSSL's big numbers have the least significant byte first.
            self.add("number of the key", &number.iter().rev().copied().collect::<Vec<_>>());
        }
        self.file(file, numbers.first().expect("a number"));
    }

    /// A PEM file that contains `number`. The parts before and after the number may be public.
    fn file(&mut self, file: &[u8], number: &[u8]) {
        let text = std::str::from_utf8(file).expect("PEM");
        let base64: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        let der = openssl::base64::decode_block(&base64).expect("base64");
        let start = der.windows(number.len()).position(|window| window == number);
        let start = start.expect("the number");
        let secret = &base64.as_bytes()[start.div_ceil(3) * 4..(start + number.len()) / 3 * 4];
        self.pem(secret);
    }

    /// Base64 without public parts, as text and in QR codes, where each byte is half in one byte and half in the next.
    fn pem(&mut self, secret: &[u8]) {
        self.add("PEM", secret);
        let halves: Vec<u8> = secret.windows(2).map(|two| two[0] << 4 | two[1] >> 4).collect();
        self.add("QR code", &halves);
    }

    /// A page as text.
    fn page(&mut self, page: &str) {
        let typed = |line: &&str| line.trim_start().starts_with(['2', '3']) && line.contains(": ");
        for line in page.lines().filter(typed) {
            let symbols = line.split_once(": ").expect("symbols").1.trim();
            self.add("line to type", symbols.as_bytes());
            self.add("line to type", symbols.replace(' ', "").as_bytes());
        }
        let code = page.split("\nQR code").nth(1).expect("a code").split("Lines to type").next();
        let lines: Vec<&str> = code.expect("a code").lines().filter(|l| l.contains('█')).collect();
        // Rows in the middle are away from the patterns in the corners.
        for line in &lines[lines.len() / 2 - 1..=lines.len() / 2] {
            let row = |dark: [char; 2]| {
                line.chars().skip(4).take(32).map(|c| u8::from(dark.contains(&c))).collect()
            };
            self.rows.push(row(['█', '▀']));
        }
    }

    /// The names of the secrets that `memory` contains.
    fn found(&self, memory: &[u8]) -> Vec<&'static str> {
        let mut found = Vec::new();
        let mut first = [false; 1 << 16];
        let starts = self.all.iter().flat_map(|(_, windows)| windows);
        starts.for_each(|window| {
            first[usize::from(u16::from_ne_bytes([window[0], window[1]]))] = true
        });
        for window in memory.windows(ENOUGH) {
            if first[usize::from(u16::from_ne_bytes([window[0], window[1]]))] {
                let named = self.all.iter().filter(|(_, windows)| windows.contains(window));
                found.extend(named.map(|(name, _)| *name));
            }
        }
        // A row is searched for in three forms: one byte for each module, as the encoder has it, and four pixels for
        // each module, as shades of grey and inverted.
        let bits: Vec<u8> = memory.iter().map(|byte| byte & 1).collect();
        for row in &self.rows {
            let grey: Vec<u8> = row.iter().flat_map(|dark| [1 - dark; 4]).collect();
            let dark: Vec<u8> = row.iter().flat_map(|dark| [*dark; 4]).collect();
            for row in [row, &grey, &dark] {
                if memchr::memmem::find(&bits, row).is_some() {
                    found.push("row of the QR code");
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// The reading and the writing end of a pipe that is full.
fn full() -> (UnixStream, UnixStream) {
    let (reader, mut writer) = UnixStream::pair().expect("a pair of sockets");
    writer.set_nonblocking(true).expect("a mode");
    loop {
        match writer.write(&[0; 4096]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    writer.set_nonblocking(false).expect("a mode");
    (reader, writer)
}

/// Waits until the process is blocked in a write to standard output.
fn wait_for_write(child: &mut Child) {
    let call = format!("{} 0x1 ", libc::SYS_write);
    let start = Instant::now();
    loop {
        let now = fs::read_to_string(format!("/proc/{}/syscall", child.id())).unwrap_or_default();
        if now.starts_with(&call) {
            return;
        }
        assert_eq!(child.try_wait().expect("its state"), None);
        assert!(start.elapsed() < Duration::from_secs(600), "in {now:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// All memory of a process that can be written to.
fn memory(process: u32) -> Vec<u8> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).expect("its maps");
    let file = File::open(format!("/proc/{process}/mem")).expect("its memory");
    let mut all = Vec::new();
    for line in maps
        .lines()
        .filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rw")))
    {
        let (start, end) =
            line.split(' ').next().expect("a range").split_once('-').expect("a range");
        let number = |text| u64::from_str_radix(text, 16).expect("a number");
        let (start, end) = (number(start), number(end));
        let mut part = vec![0; usize::try_from(end - start).expect("a size")];
        file.read_exact_at(&mut part, start).expect("its memory");
        // Pages of zeros contain no secret.
        all.extend(part.chunks(4096).filter(|page| page.iter().any(|byte| *byte != 0)).flatten());
    }
    all
}

/// Runs the command with `input`. Returns the secrets in its memory at its first write, and its output.
fn left(
    directory: &Path,
    arguments: &[&str],
    input: &[u8],
    needles: impl FnOnce() -> Needles,
) -> (Vec<&'static str>, String) {
    let (mut reader, writer) = full();
    let mut command: Command = hpkp();
    command.current_dir(directory).args(arguments).stdin(Stdio::piped());
    let mut child =
        command.stdout(OwnedFd::from(writer)).stderr(Stdio::piped()).spawn().expect("the command");
    drop(command);
    child.stdin.take().expect("a pipe").write_all(input).expect("a write");
    wait_for_write(&mut child);
    let memory = memory(child.id());
    let needles = needles();
    let found = needles.found(&memory);
    let mut out = Vec::new();
    reader.read_to_end(&mut out).expect("its output");
    let output = child.wait_with_output().expect("its end");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    (found, String::from_utf8_lossy(&out).replace('\0', ""))
}

fn is_root() -> bool {
    // SAFETY: geteuid takes no argument and always succeeds.
    let is_root = unsafe { libc::geteuid() } == 0;
    if !is_root {
        eprintln!("skipped: only root reads the memory of the command");
    }
    is_root
}

/// The secrets of the key in a file: its numbers, each form of its file, its page and its passphrase.
fn needles_of(directory: &Path, key: &str, page: &str, passphrase: Option<&str>) -> Needles {
    let read = |name: &str| fs::read(directory.join(name)).expect("a file");
    let file = read(key);
    let mut needles = Needles::default();
    match passphrase {
        None => needles.key(&PKey::private_key_from_pem(&file).expect("a key"), &file),
        Some(passphrase) => {
            let key = PKey::private_key_from_pem_passphrase(&file, passphrase.as_bytes());
            let key = key.expect("a key");
            needles.key(&key, &key.private_key_to_pem_pkcs8().expect("PEM"));
            needles.add("passphrase", passphrase.as_bytes());
        }
    }
    if Path::new(page).extension().is_some_and(|end| end == "txt") {
        needles.page(&String::from_utf8(read(page)).expect("UTF-8"));
    }
    needles
}

#[test]
fn no_part_of_a_new_key_stays_in_memory() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let here = dir.path();
    fs::write(here.join("passphrase"), format!("{PASSPHRASE}\n")).expect("a file");
    for kind in ["p256", "ed25519", "rsa-2048"] {
        for (page, passphrase) in [("txt", None), ("pdf", None), ("txt", Some(PASSPHRASE))] {
            let name = format!("{kind}-{page}-{}", passphrase.is_some());
            let (key, page) = (format!("{name}.key"), format!("{name}.{page}"));
            let mut arguments =
                vec!["key", "new", "--type", kind, "--name", "a.example", "--paper", &page];
            if passphrase.is_some() {
                arguments.extend(["--passphrase-file", "passphrase"]);
            }
            arguments.push(&key);
            let (found, out) =
                left(here, &arguments, b"", || needles_of(here, &key, &page, passphrase));
            assert!(out.starts_with("sha256/"), "{out}");
            assert!(found.is_empty(), "{name}: {found:?}");
        }
    }
}

/// Makes a key with a page of text, a second one with a sheet of QR codes, and one with a passphrase. Returns the
/// name of the last.
fn new_keys(here: &Path, key: &str, kind: &str) -> String {
    let locked = format!("{key}-locked");
    let (lines, codes, second) = (format!("{key}.txt"), format!("{key}.pdf"), format!("{key}-2"));
    for more in [
        ["--paper", &lines, key],
        ["--paper", &codes, &second],
        ["--passphrase-file", "passphrase", &locked],
    ] {
        crate::run(here, &[&["key", "new", "--type", kind][..], &more].concat()).fine();
    }
    locked
}

#[test]
fn no_part_of_a_key_that_was_read_stays_in_memory() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let here = dir.path();
    fs::write(here.join("passphrase"), format!("{PASSPHRASE}\n")).expect("a file");
    for (key, kind) in [("ec", "p256"), ("rsa", "rsa-2048"), ("ed", "ed25519")] {
        let locked = new_keys(here, key, kind);
        let plain = fs::read(here.join(key)).expect("a key");
        let parsed = PKey::private_key_from_pem(&plain).expect("a key");
        fs::write(here.join("der"), parsed.private_key_to_der().expect("DER")).expect("a file");
        let pin = |key: &str| {
            let outcome =
                crate::run(here, &["pin", "--private-key", "--passphrase-file", "passphrase", key]);
            outcome.fine().split(' ').next().expect("a pin").to_owned()
        };
        let (own, other) = (pin(key), pin(&locked));
        let page = format!("{key}.txt");
        let lines = fs::read(here.join(&page)).expect("a page");
        for (arguments, input) in [
            (&["pin", "--private-key", key][..], &b""[..]),
            (&["pin", "--private-key", "-"], &plain),
            (&["pin", "--private-key", "--json", "der"], b""),
            (&["find", "--json", &own, "."], b""),
            (&["find", key, key], b""),
            (&["key", "drill", "--pin", &own, key], b""),
            (&["key", "drill", "--pin", &own, "-"], &plain),
            (&["key", "drill", "--pin", &own, &page], b""),
            (&["key", "drill", "--pin", &own, "-"], &lines),
        ] {
            let (found, _) = left(here, arguments, input, || needles_of(here, key, &page, None));
            assert!(found.is_empty(), "{arguments:?}: {found:?}");
        }
        let passphrase = ["--passphrase-file", "passphrase"];
        for arguments in [
            &["pin", "--private-key", &locked][..],
            &["find", "--json", &other, "."],
            &["key", "drill", "--pin", &other, &locked],
        ] {
            let arguments = [arguments, &passphrase].concat();
            let needles = || needles_of(here, &locked, &page, Some(PASSPHRASE));
            let (found, _) = left(here, &arguments, b"", needles);
            assert!(found.is_empty(), "{arguments:?}: {found:?}");
        }
        match key {
            "ec" => scan(here, key, &pin("ec-2"), "png"),
            "ed" => scan(here, key, &pin("ed-2"), "jpeg"),
            // The scan of an RSA key takes longer, since its page has several sheets.
            _ => {}
        }
    }
}

/// The drill with a scan of the page.
fn scan(here: &Path, key: &str, pin: &str, form: &str) {
    let mut print = Command::new("pdftoppm");
    let (page, form) = (format!("{key}.pdf"), format!("-{form}"));
    print.current_dir(here).args(["-r", "100", "-gray", "-singlefile", &form, &page, "sheet"]);
    hpkp_tests::succeed(&mut print);
    let sheet = if form == "-png" { "sheet.png" } else { "sheet.jpg" };
    let arguments = ["key", "drill", "--pin", pin, sheet];
    let needles = || needles_of(here, &format!("{key}-2"), "none", None);
    let (found, _) = left(here, &arguments, b"", needles);
    assert!(found.is_empty(), "{arguments:?}: {found:?}");
}

#[test]
fn secrets_in_memory_are_found() {
    let mut needles = Needles::passphrase();
    needles.rows.push(vec![1, 0, 0, 1, 1, 1, 0, 1, 0, 0, 0, 1, 0, 1, 1, 0, 0, 1, 0, 1]);
    let grey: Vec<u8> =
        needles.rows[0].iter().flat_map(|dark| [if *dark == 1 { 0 } else { 255 }; 4]).collect();
    assert!(needles.found(&[7; 4096]).is_empty());
    assert_eq!(needles.found(&[&[7; 99], PASSPHRASE.as_bytes(), &[0; 9]].concat()), ["passphrase"]);
    assert_eq!(needles.found(&[&[7; 99], &grey[..], &[0; 9]].concat()), ["row of the QR code"]);
}
