//! Measures how long a pass takes in a large fleet, and a config test after it. `ci/scale` runs it with programs that
//! were built for release.
//!
//! ```sh
//! HPKP_SYNC=target/release/hpkp-sync HPKP_WRITERS=1000 cargo test -p hpkp-sync --test stores -- --ignored scale
//! ```
//!
//! `HPKP_MODULE` is the nginx module with which a server of 200 hosts is tested.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use hpkp_core::max_age::MaxAge;
use hpkp_core::pin::Pin;
use hpkp_core::published::{Body, Event, Lifetime, Origin, Published, WriterName};
use hpkp_tests::pki::Pki;
use hpkp_tests::recorded::held;

use crate::engine::Directory;
use crate::machine::Machine;
use crate::postgres::Postgres;

const HOSTS: usize = 200;
/// How many machines serve the same hosts.
const GROUP: usize = 10;

/// The key of the tested server.
static PIN: std::sync::OnceLock<Pin> = std::sync::OnceLock::new();

fn published(writer: usize, host: usize) -> Body {
    let mut pin = [7; Pin::BYTES];
    pin[..8].copy_from_slice(&(writer as u64).to_be_bytes());
    Body::Published(Published {
        lifetime: Lifetime::MaxAge(MaxAge::from_seconds(5_184_000).unwrap()),
        origin: Origin::Header,
        ..held(
            &format!("host-{}-{host}.example.com", writer / GROUP),
            vec![
                Pin::from_bytes(pin),
                PIN.get().copied().unwrap_or(Pin::from_bytes([9; Pin::BYTES])),
            ],
        )
    })
}

/// The file of a writer, and its heartbeat.
fn file(writer: usize) -> (String, String, String) {
    let name = format!("web-{writer}");
    let id: WriterName = name.parse().unwrap();
    let mut lines = String::new();
    let mut last = String::new();
    for host in 0..HOSTS {
        let event = Event::new(1_790_000_000, host as u64, id.clone(), published(writer, host));
        last = event.id().to_string();
        writeln!(lines, "{}", event.line()).unwrap();
    }
    let beat = format!(
        "{{\"writer\":\"{name}\",\"number\":1,\"at\":0,\"events\":{HOSTS},\"last\":\"{last}\"}}"
    );
    (name, lines, beat)
}

fn timed(machine: &Machine) -> f64 {
    let program =
        std::env::var("HPKP_SYNC").unwrap_or_else(|_| env!("CARGO_BIN_EXE_hpkp-sync").to_owned());
    let started = Instant::now();
    let output = Command::new(program)
        .arg("-d")
        .arg(machine.path())
        .args(["--json", "--timeout", "600", &machine.url])
        .output()
        .unwrap();
    let took = started.elapsed().as_secs_f64();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.stderr.is_empty() || text.contains("[peer-records-limit]"), "{text}");
    took
}

fn measured(store: &str, machine: &mut Machine, count: usize, change: impl FnOnce()) {
    machine.add(1);
    let empty = timed(machine);
    let nothing = timed(machine);
    change();
    let one = timed(machine);
    println!(
        "{store}: {count} writers: from empty {empty:.2} s, nothing new {nothing:.2} s, one new {one:.2} s"
    );
}

fn count() -> usize {
    std::env::var("HPKP_WRITERS").map_or(10, |count| count.parse().unwrap())
}

#[test]
#[ignore = "takes long"]
fn scale_directory() {
    let engine = Directory::start();
    let server = Server::new();
    let mut machine = Machine::new(&engine, "here");
    machine.run(&["--init", "--json"]).fine();
    let at = engine.at.path().join("store");
    for writer in 0..count() {
        let (name, lines, beat) = file(writer);
        std::fs::write(at.join(format!("records/{name}.jsonl")), lines).unwrap();
        std::fs::write(at.join(format!("heartbeats/{name}.json")), beat).unwrap();
    }
    measured("directory", &mut machine, count(), || add_one(&at));
    server.measure(&machine);
}

/// A server with the hosts of the first machines.
struct Server {
    at: tempfile::TempDir,
}

impl Server {
    fn new() -> Self {
        let at = tempfile::tempdir().unwrap();
        let pki = Pki::new(at.path());
        let names: Vec<String> =
            (0..HOSTS).map(|host| format!("host-0-{host}.example.com")).collect();
        pki.key("site", hpkp_tests::pki::P256);
        let names = format!("subjectAltName=DNS:{}", names.join(",DNS:"));
        pki.self_signed("site", "/CN=site", &[&names]);
        let _ = PIN.set(pki.pin("site.pem").parse().unwrap());
        Self { at }
    }

    /// Times the config test with the records of the fleet, without the index, and with only this machine's records.
    fn measure(&self, machine: &Machine) {
        let Ok(module) = std::env::var("HPKP_MODULE") else { return };
        let at = self.at.path().display();
        let mut servers = String::new();
        for host in 0..HOSTS {
            writeln!(
                servers,
                "server {{ listen 127.0.0.1:18443 ssl; server_name host-0-{host}.example.com; }}"
            )
            .unwrap();
        }
        let records = machine.path();
        let conf = self.at.path().join("nginx.conf");
        let text = format!(
            "load_module {module};\npid {at}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n\
             hpkp_published_pins {} writer=here;\nssl_certificate {at}/site.pem;\nssl_certificate_key {at}/site.key;\n\
             server_names_hash_max_size 4096;\n{servers}}}\n",
            records.display()
        );
        std::fs::write(&conf, text).unwrap();
        let test = |what: &str| {
            let mut times: Vec<f64> = (0..3).map(|_| self.test(&conf, what)).collect();
            times.sort_by(f64::total_cmp);
            times[1]
        };
        let index = records.join("hpkp-index");
        let bytes = std::fs::metadata(&index).unwrap().len();
        let with = test("with");
        std::fs::rename(&index, records.join("index-away")).unwrap();
        let full =
            if count() <= 1_000 { format!("{:.2} s", test("full")) } else { "too many".to_owned() };
        std::fs::rename(records.join("peers"), records.join("peers-away")).unwrap();
        let without = test("without");
        println!(
            "nginx -t, {HOSTS} hosts: without other machines {without:.2} s, with them {with:.2} s, without the index {full}; \
             index {:.1} MB",
            bytes as f64 / 1e6
        );
    }

    fn test(&self, conf: &Path, what: &str) -> f64 {
        let started = Instant::now();
        let output = Command::new("nginx").arg("-t").arg("-c").arg(conf).output().unwrap();
        let took = started.elapsed().as_secs_f64();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && !text.contains("[records-"),
            "{what}: {}",
            &text[..text.len().min(2_000)]
        );
        took
    }
}

/// Adds a record of one writer.
fn add_one(at: &Path) {
    let path = at.join("records/web-3.jsonl");
    let event = Event::new(1_790_000_001, 1_000, "web-3".parse().unwrap(), published(3, 999));
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}{}\n", event.line())).unwrap();
}

#[test]
#[ignore = "takes long"]
fn scale_postgres() {
    let engine = Postgres::start();
    let mut machine = Machine::new(&engine, "here");
    machine.run(&["--init", "--json"]).fine();
    let rows = engine.directory().join("rows");
    let writers = engine.directory().join("writers");
    let (mut records, mut names) = (String::new(), String::new());
    for writer in 0..count() {
        let (name, lines, beat) = file(writer);
        let last = beat.split('"').rev().nth(1).unwrap().to_owned();
        writeln!(names, "{name}\t{}\t{last}\t{beat}", HOSTS - 1).unwrap();
        for (seq, line) in lines.lines().enumerate() {
            writeln!(records, "{name}\t{seq}\tx\t{}", line.replace('\\', "\\\\")).unwrap();
        }
    }
    std::fs::write(&rows, records).unwrap();
    std::fs::write(&writers, names).unwrap();
    for (table, file) in [("writer", &writers), ("record", &rows)] {
        engine.sql("hpkp", &format!("\\copy hpkp.{table} FROM '{}'", file.display()));
    }
    engine.sql("hpkp", "ANALYZE");
    measured("postgres", &mut machine, count(), || {
        let event = Event::new(1_790_000_001, 1_000, "web-3".parse().unwrap(), published(3, 999));
        let (id, line) = (event.id().to_string(), event.line().replace('\'', "''"));
        engine.sql(
            "hpkp",
            &format!(
                "INSERT INTO hpkp.record VALUES ('web-3', 1000, '{id}', '{line}'); \
                 UPDATE hpkp.writer SET seq = 1000, id = '{id}' WHERE writer = 'web-3'"
            ),
        );
    });
}
