//! The collector with PostgreSQL from Debian's packages, which an unprivileged user runs in a directory of its own.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use hpkp_tests::{free_port, output, succeed};
use tempfile::TempDir;

use crate::collector::{Collector, small};

const HOST: &str = "www.example.com";

struct Server {
    dir: TempDir,
    port: u16,
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Only root may change the owner, and only root needs to.
        let _ = std::os::unix::fs::chown(dir.path(), Some(65_534), Some(65_534));
        let server = Self { dir, port: free_port() };
        succeed(
            program("initdb")
                .args(["--no-sync", "-A", "trust", "-U", "hpkp", "-D"])
                .arg(server.data()),
        );
        server.resume();
        succeed(
            program("createdb")
                .args(["-h", "127.0.0.1", "-U", "hpkp", "-p"])
                .args([&server.port.to_string(), "reports"]),
        );
        server
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn resume(&self) {
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -k {}",
            self.port,
            self.dir.path().display()
        );
        let mut command = program("pg_ctl");
        command.arg("-D").arg(self.data()).args(["-w", "-o", &options, "-l"]);
        succeed(command.arg(self.dir.path().join("log")).arg("start"));
    }

    fn stop(&self) {
        let mut command = program("pg_ctl");
        output(command.arg("-D").arg(self.data()).args(["-w", "-m", "immediate", "stop"]));
    }

    /// The line of a configuration for this server.
    fn store(&self) -> String {
        format!("store = \"postgresql://hpkp@127.0.0.1:{}/reports?sslmode=disable\"", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A program of PostgreSQL, run by an unprivileged user if this is root.
fn program(name: &str) -> Command {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("Debian's postgresql");
    let newest = versions.map(|version| version.unwrap().path()).max().expect("a version");
    let path = newest.join("bin").join(name);
    // SAFETY: geteuid takes no argument and always succeeds.
    if unsafe { libc::geteuid() } != 0 {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(path).current_dir("/");
    command
}

#[test]
fn collectors_share_a_database_and_recover_after_its_restart() {
    let server = Server::start();
    let first = Collector::start(&[HOST], &server.store(), "");
    let second = Collector::start(&[HOST], &server.store(), "");
    for n in 0..20 {
        assert_eq!(first.post(small(HOST, n)), 204);
        assert_eq!(second.post(small(HOST, n)), 204);
    }
    assert_eq!(first.groups().len(), 20);
    assert_eq!(second.total(), 40);
    let group = &first.groups()[0];
    assert!(group["raw"].as_str().unwrap().contains("served-pins"));
    let page = second.get(&format!("/group/{}", group["id"].as_str().unwrap()));
    assert_eq!(page.status, 200, "{}", page.body);
    assert!(second.get("/?q=unknown-key").body.contains("40 in 20 groups"));
    let host = second.get(&format!("/host/{HOST}?q=x&page=2"));
    assert_eq!(host.status, 200, "{}", host.body);
    assert_eq!(first.metric("hpkp_reports_violations_today{host=\"www.example.com\",finding=\"report-unknown-key\",class=\"unexplained\"}"), 40);

    server.stop();
    assert_eq!(first.post(small(HOST, 1)), 503);
    assert_eq!(first.get("/").status, 503);
    assert_eq!(first.get("/healthz").status, 503);
    server.resume();
    let begin = Instant::now();
    while first.post(small(HOST, 1)) != 204 {
        assert!(begin.elapsed() < Duration::from_secs(30), "{}", first.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(first.get("/").status, 200);
    assert_eq!(first.get("/healthz").status, 200);
    assert_eq!(first.total(), 41);
}

#[test]
fn a_read_only_database_is_reported_and_loses_nothing() {
    let server = Server::start();
    let collector = Collector::start(&[HOST], &server.store(), "");
    assert_eq!(collector.post(small(HOST, 1)), 204);
    let sql = |statements: &[&str]| {
        let mut command = program("psql");
        command.args(["-X", "-q", "-h", "127.0.0.1", "-U", "hpkp", "-d", "reports", "-p"]);
        command.arg(server.port.to_string());
        for statement in statements {
            command.args(["-c", statement]);
        }
        succeed(&mut command);
    };
    sql(&["ALTER DATABASE reports SET default_transaction_read_only = on"]);
    sql(&[
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hpkp-reports'",
    ]);
    let begin = Instant::now();
    while !collector.log().contains("read-only") {
        assert_eq!(collector.post(small(HOST, 2)), 503);
        assert!(begin.elapsed() < Duration::from_secs(30), "{}", collector.log());
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(collector.get("/healthz").status, 503);
    // Acknowledged reports can be read meanwhile.
    assert_eq!(collector.total(), 1);
    assert!(collector.get("/").body.contains("Reports are not being stored"));
    sql(&[
        "SET default_transaction_read_only = off",
        "ALTER DATABASE reports RESET default_transaction_read_only",
    ]);
    let begin = Instant::now();
    while collector.get("/healthz").status != 200 {
        assert!(begin.elapsed() < Duration::from_secs(30), "{}", collector.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(collector.post(small(HOST, 2)), 204);
    assert_eq!(collector.total(), 2);
}

#[test]
fn kills_of_the_collector_and_of_the_database_lose_nothing() {
    let server = Server::start();
    let mut collector = Collector::start(&[HOST], &server.store(), crate::durable::NO_LIMITS);
    let acknowledged = crate::durable::under_load(&mut collector, 3, |round| {
        if round == 1 {
            // As after a power cut of the machine with the database.
            server.stop();
            server.resume();
        }
    });
    assert!(acknowledged > 0);
}

#[test]
fn collectors_that_start_at_once_make_one_schema_and_send_one_alarm() {
    let server = Server::start();
    let store = server.store();
    let collectors: Vec<Collector> = std::thread::scope(|scope| {
        let start = || Collector::start(&[HOST], &store, crate::durable::NO_LIMITS);
        let all: Vec<_> = (0..6).map(|_| scope.spawn(start)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    // All collectors get reports of the same new groups.
    std::thread::scope(|scope| {
        for collector in &collectors {
            scope.spawn(|| {
                for n in 0..10 {
                    assert_eq!(collector.post(small(HOST, n)), 204, "{}", collector.log());
                }
            });
        }
    });
    assert_eq!(collectors[0].total(), 60);
    let begin = Instant::now();
    while collectors[0].metric("hpkp_reports_alarms_waiting") > 0 {
        assert!(begin.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(100));
    }
    let logs: Vec<String> = collectors.iter().map(Collector::log).collect();
    let alarms: usize = logs.iter().map(|log| log.matches("alarm: [").count()).sum();
    assert_eq!(alarms, 10, "{logs:#?}");
}

#[test]
fn a_cut_connection_loses_no_report() {
    let server = Server::start();
    let collector = Collector::start(&[HOST], &server.store(), "");
    assert_eq!(collector.post(small(HOST, 1)), 204);
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hpkp-reports'";
    succeed(
        program("psql")
            .args(["-h", "127.0.0.1", "-U", "hpkp", "-p", &server.port.to_string(), "-c", sql])
            .arg("reports"),
    );
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(collector.post(small(HOST, 2)), 204, "{}", collector.log());
    assert_eq!(collector.total(), 2);
}

#[test]
fn texts_that_the_database_cannot_store_are_cleaned_and_accepted() {
    let server = Server::start();
    let collector = Collector::start(&[HOST], &server.store(), "");
    let body = format!(
        r#"{{"report-id":"\u0000","date-range":{{}},"policies":[{{"policy":{{"policy-type":"sts","policy-domain":"{HOST}"}},
        "failure-details":[{{"result-type":"\u0000\u001b[31m\uffff\u202e","receiving-mx-hostname":"\u0000"}}]}}]}}"#
    );
    assert_eq!(collector.post(body), 204, "{}", collector.log());
    let detail = collector.groups()[0]["detail"].as_str().unwrap().to_owned();
    assert!(detail.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{detail:?}");
}
