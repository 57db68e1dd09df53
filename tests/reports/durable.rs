//! Acknowledged reports are not lost: after a kill, with a full disk, after a stop.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::collector::{Collector, small};

const HOST: &str = "www.example.com";

pub const NO_LIMITS: &str = "[limits]\nclient_per_minute = 100000000\nhost_per_second = 1000000\ntotal_per_second = 1000000\n";

/// Sends reports on one connection until it breaks, and counts the acknowledged ones.
fn load(port: u16, client: u32, acknowledged: &AtomicU64, stop: &AtomicBool) {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return };
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut n = client * 1000;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let body = small(HOST, n % 40);
        let head =
            format!("POST /r/ HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        if stream.write_all(format!("{head}{body}").as_bytes()).is_err() {
            return;
        }
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0; 256];
            match stream.read(&mut byte) {
                Ok(0) | Err(_) => return,
                Ok(count) => answer.extend_from_slice(&byte[..count]),
            }
        }
        if answer.starts_with(b"HTTP/1.1 204") {
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Kills the collector under load `kills` times, and checks that all acknowledged reports are stored. Returns their
/// number.
pub fn under_load(collector: &mut Collector, kills: u64, after: impl Fn(u64)) -> u64 {
    let acknowledged = Arc::new(AtomicU64::new(0));
    let mut sent = 0;
    for round in 0..kills {
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..8)
            .map(|client| {
                let (port, acknowledged, stop) =
                    (collector.port, Arc::clone(&acknowledged), Arc::clone(&stop));
                thread::spawn(move || load(port, client, &acknowledged, &stop))
            })
            .collect();
        thread::sleep(Duration::from_millis(200 + 37 * (round % 7)));
        collector.kill();
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().unwrap());
        after(round);
        collector.run();
        let (stored, acknowledged) =
            (collector.total() as u64, acknowledged.load(Ordering::Relaxed));
        // For each client one more report may be stored, whose answer was lost.
        assert!(stored >= acknowledged, "{stored} of {acknowledged} are there");
        assert!(stored <= acknowledged + 8 * (round + 1), "{stored} for {acknowledged}");
        assert!(acknowledged > sent, "nothing was sent");
        sent = acknowledged;
    }
    sent
}

/// `HPKP_KILLS` sets the number of kills.
#[test]
fn a_kill_under_load_loses_no_acknowledged_report() {
    let kills = std::env::var("HPKP_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let mut collector = Collector::start(&[HOST], "", NO_LIMITS);
    let sent = under_load(&mut collector, kills, |_| {});
    eprintln!("{sent} acknowledged, {kills} kills");
}

#[test]
fn a_stop_waits_for_running_requests() {
    let mut collector = Collector::start(&[HOST], "", NO_LIMITS);
    let acknowledged = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let port = collector.port;
    thread::scope(|scope| {
        scope.spawn(|| load(port, 1, &acknowledged, &stop));
        thread::sleep(Duration::from_millis(300));
        assert!(collector.stop().success());
    });
    assert_eq!(collector.total() as u64, acknowledged.load(Ordering::Relaxed));
}

#[test]
fn a_full_store_gives_507_and_deletes_old_groups() {
    // Each report becomes a group with its text, so the database reaches its limit.
    let limits = format!("{NO_LIMITS}groups_per_day = 1000000\n[retention]\nsize = \"300k\"\n");
    let collector = Collector::start(&[HOST], "", &limits);
    let mut full = 0;
    for n in 0..2000 {
        match collector.post(small(HOST, n)) {
            204 => {}
            507 => full += 1,
            status => panic!("{status}: {}", collector.log()),
        }
    }
    // Old groups are deleted, so that new ones have room.
    assert!(full < 1000, "{full} were refused");
    let size = std::fs::metadata(collector.path("reports.sqlite")).unwrap().len();
    assert!(size < 400 << 10, "{size} bytes");
    assert!(collector.groups().len() > 20);
}

/// A small tmpfs, if this process may mount one.
struct Disk(std::path::PathBuf);

impl Disk {
    fn mount(path: &Path) -> Option<Self> {
        std::fs::create_dir(path).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=3m", "hpkp-reports-test"]).arg(path);
        let is_mounted = command.output().is_ok_and(|output| output.status.success());
        is_mounted.then(|| Self(path.to_owned()))
    }

    /// Fills the remaining space.
    fn fill(&self) {
        let mut ballast = std::fs::File::create(self.0.join("ballast")).unwrap();
        let block = [b'x'; 512];
        while ballast.write_all(&block).is_ok() {}
    }

    fn empty(&self) {
        std::fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// Posts reports until one is refused for lack of space. Returns the number of accepted ones.
fn post_until_full(collector: &Collector, first: u32) -> i64 {
    for n in first..first + 5000 {
        match collector.post(small(HOST, n)) {
            204 => {}
            507 => return i64::from(n - first),
            status => panic!("{status}: {}", collector.log()),
        }
    }
    panic!("the disk is not full");
}

fn wait_for_health(collector: &Collector, status: u16) {
    let begin = Instant::now();
    while collector.get("/healthz").status != status {
        assert!(begin.elapsed() < Duration::from_secs(30), "{}", collector.log());
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_full_disk_is_reported_and_loses_no_acknowledged_report() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    let Some(disk) = Disk::mount(&path) else {
        eprintln!("skipped: only root may mount a file system");
        return;
    };
    let store = format!("store = {:?}", path.join("reports.sqlite"));
    let limits = format!("{NO_LIMITS}groups_per_day = 1000000\n");
    let mut collector = Collector::start_in(dir, &[HOST], &store, &limits);
    for n in 0..50 {
        assert_eq!(collector.post(small(HOST, n)), 204);
    }
    disk.fill();
    let mut acknowledged = 50 + post_until_full(&collector, 50);
    assert_eq!(collector.get("/healthz").status, 503);
    let health = crate::collector::request(collector.port, "GET", "/healthz", &[], b"").unwrap();
    assert_eq!((health.status, health.body.as_str()), (503, ""), "nothing for strangers");
    let page = collector.get("/").body;
    assert!(page.contains("Reports are not being stored"), "{page}");
    assert!(collector.log().contains("no space is left"), "{}", collector.log());
    assert_eq!(collector.metric("hpkp_reports_store_up"), 0);
    assert_eq!(collector.total(), acknowledged);
    // After a kill, and after a normal stop, which removes SQLite's additional files.
    collector.kill();
    collector.run();
    assert_eq!(collector.total(), acknowledged);
    acknowledged += post_until_full(&collector, 10_000);
    collector.stop();
    disk.fill();
    collector.run();
    assert_eq!(collector.post(small(HOST, 1)), 507, "{}", collector.log());
    assert_eq!(collector.get("/healthz").status, 503);
    // The collector recovers by itself, even without new reports.
    disk.empty();
    wait_for_health(&collector, 200);
    assert!(collector.log().contains("reports are stored again"), "{}", collector.log());
    assert_eq!(collector.post(small(HOST, 1)), 204);
    assert_eq!(collector.total(), acknowledged + 1);
    collector.kill();
}

#[test]
fn retention_by_size_comes_before_a_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    let Some(_disk) = Disk::mount(&path) else {
        eprintln!("skipped: only root may mount a file system");
        return;
    };
    let store = format!("store = {:?}", path.join("reports.sqlite"));
    let limits = format!("{NO_LIMITS}groups_per_day = 1000000\n[retention]\nsize = \"700k\"\n");
    let mut collector = Collector::start_in(dir, &[HOST], &store, &limits);
    let statuses: Vec<u16> = (0..3000).map(|n| collector.post(small(HOST, n))).collect();
    let refused = statuses.iter().filter(|status| **status != 204).count();
    assert!(refused < 100, "{refused} were refused: {statuses:?}\n{}", collector.log());
    assert!(collector.log().contains("old groups of reports"), "{}", collector.log());
    assert!(!collector.groups().is_empty());
    collector.kill();
}

/// A collector on a small disk, whose database has free pages that are not returned to the system yet.
fn with_free_pages() -> Option<(Collector, Disk)> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    let disk = Disk::mount(&path)?;
    let file = path.join("reports.sqlite");
    let limits = format!("{NO_LIMITS}groups_per_day = 1000000\n[retention]\nsize = \"1M\"\n");
    let mut collector = Collector::start_in(dir, &[HOST], &format!("store = {file:?}"), &limits);
    for n in 0..300 {
        assert_eq!(collector.post(small(HOST, n)), 204);
    }
    assert!(collector.stop().success());
    let delete = "DELETE FROM report_groups WHERE id IN (SELECT id FROM report_groups ORDER BY id LIMIT 200)";
    let database = rusqlite::Connection::open(file).unwrap();
    database.execute_batch(&format!("PRAGMA foreign_keys = 1; {delete}")).unwrap();
    drop(database);
    collector.run();
    Some((collector, disk))
}

/// Opens a read transaction: while it is open, SQLite's log cannot restart and grows with each report.
fn read_on(disk: &Disk) -> rusqlite::Connection {
    let reader = rusqlite::Connection::open(disk.0.join("reports.sqlite")).unwrap();
    reader.execute_batch("BEGIN; SELECT COUNT(*) FROM report_groups").unwrap();
    reader
}

/// Posts the same report until it is refused. Returns the status.
fn post_until_refused(collector: &Collector) -> u16 {
    let statuses = (0..5000).map(|_| collector.post(small(HOST, 299)));
    statuses.into_iter().find(|status| *status != 204).expect("one that is refused")
}

#[test]
fn a_log_that_fills_the_disk_is_emptied_after_the_reader_ends() {
    let Some((mut collector, disk)) = with_free_pages() else {
        eprintln!("skipped: only root may mount a file system");
        return;
    };
    let reader = read_on(&disk);
    disk.fill();
    let ballast = std::fs::File::options().write(true).open(disk.0.join("ballast")).unwrap();
    ballast.set_len(ballast.metadata().unwrap().len() - (100 << 10)).unwrap();
    assert_eq!(post_until_refused(&collector), 507, "{}", collector.log());
    drop(reader);
    // The first refused report makes room for the next.
    let statuses = [collector.post(small(HOST, 299)), collector.post(small(HOST, 299))];
    assert_eq!(statuses[1], 204, "{statuses:?}: {}", collector.log());
    collector.kill();
}

#[test]
fn a_long_reader_does_not_let_the_log_fill_the_disk() {
    let Some((mut collector, disk)) = with_free_pages() else {
        eprintln!("skipped: only root may mount a file system");
        return;
    };
    let reader = read_on(&disk);
    let log = || std::fs::metadata(disk.0.join("reports.sqlite-wal")).unwrap().len();
    assert_eq!(post_until_refused(&collector), 503, "{}", collector.log());
    assert!(log() < 600 << 10, "{} bytes", log());
    assert!(collector.log().contains("somebody reads the database"), "{}", collector.log());
    assert_eq!(collector.get("/healthz").status, 503);
    let total = collector.total();
    assert_eq!(collector.post(small(HOST, 299)), 503);
    drop(reader);
    assert_eq!(collector.post(small(HOST, 299)), 204, "{}", collector.log());
    assert_eq!(collector.total(), total + 1);
    for _ in 0..20 {
        assert_eq!(collector.post(small(HOST, 299)), 204);
    }
    assert!(log() < 600 << 10, "{} bytes", log());
    collector.kill();
}

#[test]
fn only_its_owner_can_read_the_database() {
    use std::os::unix::fs::PermissionsExt as _;
    let collector = Collector::start(&[HOST], "", "");
    assert_eq!(collector.post(small(HOST, 1)), 204);
    for file in ["reports.sqlite", "reports.sqlite-wal", "reports.sqlite-shm"] {
        let mode = std::fs::metadata(collector.path(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

fn database(collector: &Collector) -> rusqlite::Connection {
    rusqlite::Connection::open(collector.path("reports.sqlite")).unwrap()
}

#[test]
fn after_a_removal_of_the_database_reports_go_into_a_new_file() {
    let collector = Collector::start(&[HOST], "", "");
    assert_eq!(collector.post(small(HOST, 1)), 204);
    for file in ["reports.sqlite", "reports.sqlite-wal", "reports.sqlite-shm"] {
        std::fs::remove_file(collector.path(file)).unwrap();
    }
    // From now on acknowledged reports are in the new file.
    assert_eq!(collector.post(small(HOST, 2)), 204);
    assert_eq!(collector.total(), 1);
    assert!(collector.log().contains("was removed or replaced"), "{}", collector.log());
}

#[test]
fn an_older_database_is_migrated_and_a_newer_one_refused() {
    let mut collector = Collector::start(&[HOST], "", "");
    assert_eq!(collector.post(small(HOST, 1)), 204);
    assert!(collector.stop().success());
    database(&collector)
        .execute_batch(
            "DROP TABLE report_alarms; DROP TABLE report_texts; ALTER TABLE report_groups ADD COLUMN raw BLOB; \
             ALTER TABLE report_groups DROP COLUMN names; \
             DELETE FROM report_versions WHERE version > 1",
        )
        .unwrap();
    collector.run();
    assert_eq!(collector.post(small(HOST, 2)), 204);
    assert_eq!(collector.total(), 2);
    assert!(collector.stop().success());
    database(&collector).execute_batch("INSERT INTO report_versions VALUES (99)").unwrap();
    let mut command = std::process::Command::new(crate::collector::PROGRAM);
    let output = hpkp_tests::output(command.args(["serve", "--config"]).arg(collector.config()));
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("a newer hpkp-reports made the database (version 99"), "{text}");
}

#[test]
fn deleted_groups_free_space_in_the_file() {
    let mut collector = Collector::start(&[HOST], "", NO_LIMITS);
    let mut random = 1_u64;
    for n in 0..150 {
        let noise: String = (0..20_000)
            .map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                char::from(b' ' + 1 + ((random >> 33) % 90) as u8)
            })
            .filter(|c| !matches!(c, '"' | '\\'))
            .collect();
        let body = small(HOST, n).replace("\"test\"", &format!("\"{noise}\""));
        assert_eq!(collector.post(body), 204);
    }
    assert!(collector.stop().success());
    let size = || std::fs::metadata(collector.path("reports.sqlite")).unwrap().len();
    assert!(size() > 1 << 20, "{}", size());
    let text = std::fs::read_to_string(collector.config()).unwrap();
    std::fs::write(collector.config(), format!("{text}[retention]\nsize = \"500k\"\n")).unwrap();
    collector.run();
    let begin = std::time::Instant::now();
    let size =
        |collector: &Collector| std::fs::metadata(collector.path("reports.sqlite")).unwrap().len();
    while size(&collector) > 600 << 10 {
        assert!(begin.elapsed() < Duration::from_secs(30), "{} bytes", size(&collector));
        thread::sleep(Duration::from_millis(50));
    }
    // Groups are also deleted by age.
    assert!(!collector.groups().is_empty());
    assert!(collector.stop().success());
    database(&collector)
        .execute_batch("UPDATE report_groups SET last_seen = last_seen - 91 * 86400")
        .unwrap();
    collector.run();
    let begin = std::time::Instant::now();
    while !collector.groups().is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(30));
        thread::sleep(Duration::from_millis(50));
    }
}
