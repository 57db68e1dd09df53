//! TLS of the collector: the certificate files are read again when they change.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hpkp_tests::output;
use hpkp_tests::pki::Pki;

use crate::collector::{Collector, PROGRAM, small};

const HOST: &str = "www.example.com";

fn served(collector: &Collector) -> String {
    let address = format!("127.0.0.1:{}", collector.port);
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address, "-servername", "reports.example.net"]);
    let output = output(command.stdin(Stdio::null()));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_renewed_certificate_is_served_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new(dir.path());
    pki.ca("first");
    pki.ca("second");
    pki.leaf("server", "reports.example.net", "first");
    let tls = format!(
        "[tls]\ncertificate = {:?}\nkey = {:?}\n",
        pki.path("server.pem"),
        pki.path("server.key")
    );
    let collector = Collector::start_in(dir, &[HOST], "", &tls);
    assert!(served(&collector).contains("CN = first"));
    let body = small(HOST, 1);
    let curl = |more: &[&str]| {
        let mut command = Command::new("curl");
        let resolve = format!("reports.example.net:{}:127.0.0.1", collector.port);
        command.args([
            "-q",
            "--noproxy",
            "*",
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{http_version}",
        ]);
        command.args(["--resolve", &resolve, "--data-binary", &body]);
        command.args(["-H", "content-type: application/json"]).args(more);
        command.arg(format!("https://reports.example.net:{}/r/", collector.port));
        String::from_utf8(output(&mut command).stdout).unwrap()
    };
    let first = collector.path("first.pem");
    assert_eq!(curl(&["--cacert", first.to_str().unwrap()]), "204 2");
    assert_eq!(curl(&["--cacert", first.to_str().unwrap(), "--http1.1"]), "204 1.1");
    // An invalid file changes nothing.
    collector.pki().write("server.pem", "garbage");
    std::thread::sleep(Duration::from_secs(12));
    assert!(served(&collector).contains("CN = first"));
    collector.pki().leaf("server", "reports.example.net", "second");
    let begin = Instant::now();
    while !served(&collector).contains("CN = second") {
        assert!(begin.elapsed() < Duration::from_secs(40), "{}", collector.log());
        std::thread::sleep(Duration::from_millis(500));
    }
    let second = collector.path("second.pem");
    assert_eq!(curl(&["--cacert", second.to_str().unwrap()]), "204 2");
}

#[test]
fn an_invalid_configuration_exits_with_1_and_a_missing_one_with_3() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("reports.toml");
    let run = |command: &str| {
        let mut program = Command::new(PROGRAM);
        output(program.arg(command).arg("--config").arg(&file))
    };
    assert_eq!(run("check").status.code(), Some(3));
    let store = dir.path().join("r.sqlite");
    let good = format!("store = {store:?}\nhosts = [\"www.example.com\"]\n");
    std::fs::write(&file, &good).unwrap();
    assert_eq!(run("check").status.code(), Some(0));
    assert!(!store.exists(), "a check makes nothing");
    for wrong in [
        "[limits]\nbody = \"x\"\n",
        "[tls]\ncertificate = \"/nonexistent\"\nkey = \"/nonexistent\"\n",
        "[pages]\ntoken_file = \"/nonexistent\"\n",
        "[alarms.mail]\nserver = \"x\"\nfrom = \"a@example.com\"\nto = []\n",
    ] {
        std::fs::write(&file, format!("{good}{wrong}")).unwrap();
        let output = run("serve");
        assert_eq!(output.status.code(), Some(1), "{wrong}: {output:?}");
    }
    let output = output(Command::new(PROGRAM).arg("nonsense"));
    assert_eq!(output.status.code(), Some(2));
}
