//! Alarms: one for each group, by command, webhook and mail, within the limit.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use hpkp_tests::free_port;
use serde_json::Value;

use crate::collector::{Collector, small};

const HOST: &str = "www.example.com";

fn wait_for<T>(mut what: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(begin.elapsed() < Duration::from_secs(30), "it does not come");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Writes a program that stores its arguments and its input in files.
fn script(dir: &std::path::Path) -> String {
    let path = dir.join("alarm");
    let out = dir.join("alarms.jsonl");
    let text = format!("#!/bin/sh\nprintf '%s\\n' \"$@\" > {0}.args\ncat >> {0}\n", out.display());
    hpkp_tests::write_program(&path, text);
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_command_gets_one_json_for_each_group_up_to_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let program = script(dir.path());
    let alarms = format!("[alarms]\nper_hour = 6\ncommand = [{program:?}, \"$(id)\", \"; x\"]\n");
    let collector = Collector::start_in(dir, &[HOST], "", &alarms);
    let read = || -> Vec<Value> {
        let text = std::fs::read_to_string(collector.path("alarms.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    for _ in 0..5 {
        assert_eq!(collector.post(small(HOST, 1)), 204);
    }
    let alarm = wait_for(|| read().into_iter().next());
    assert_eq!((&alarm["v"], &alarm["host"]), (&1.into(), &HOST.into()));
    assert_eq!(alarm["finding"], "report-unknown-key");
    assert!(alarm["page"].as_str().unwrap().contains("/group/"));
    // The arguments were not passed through a shell.
    let arguments = std::fs::read_to_string(collector.path("alarms.jsonl.args")).unwrap();
    assert_eq!(arguments, "$(id)\n; x\n");
    for n in 2..10 {
        assert_eq!(collector.post(small(HOST, n)), 204);
    }
    // These findings may use only half of the limit; the rest is reserved for urgent ones.
    wait_for(|| (read().len() == 3).then_some(()));
    wait_for(|| collector.log().contains("more alarms than per_hour").then_some(()));
    thread::sleep(Duration::from_millis(300));
    assert_eq!(read().len(), 3);
}

#[test]
fn a_webhook_gets_json() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        while !bytes.ends_with(b"}") {
            let count = stream.read(&mut buffer).unwrap();
            bytes.extend_from_slice(&buffer[..count]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        sender.send(String::from_utf8(bytes).unwrap()).unwrap();
    });
    let alarms = format!("[alarms.webhook]\nurl = \"http://127.0.0.1:{port}/hook\"\n");
    let collector = Collector::start(&[HOST], "", &alarms);
    assert_eq!(collector.post(small(HOST, 1)), 204);
    let request = receiver.recv_timeout(Duration::from_secs(30)).unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /hook HTTP/1.1"), "{head}");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["finding"], "report-unknown-key");
}

#[test]
fn a_redirected_alarm_stays_queued() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 8192];
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"}") {
            let count = stream.read(&mut buffer).unwrap();
            bytes.extend_from_slice(&buffer[..count]);
        }
        let answer = b"HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).unwrap();
        thread::sleep(Duration::from_secs(2));
    });
    let alarms = format!("[alarms.webhook]\nurl = \"http://127.0.0.1:{port}/hook\"\n");
    let collector = Collector::start(&[HOST], "", &alarms);
    assert_eq!(collector.post(small(HOST, 1)), 204);
    wait_for(|| collector.log().contains("by webhook: http status: 302").then_some(()));
    assert_eq!(collector.metric("hpkp_reports_alarms_waiting"), 1);
}

#[test]
fn the_certificate_of_a_webhook_is_verified_and_a_failed_alarm_sent_later() {
    let dir = tempfile::tempdir().unwrap();
    let pki = hpkp_tests::pki::Pki::new(dir.path());
    pki.ca("authority");
    pki.leaf("server", "localhost", "authority");
    let (trusted, port) = (pki.path("authority.pem"), free_port());
    let mut server = Command::new("openssl");
    server.args(["s_server", "-quiet", "-accept", &format!("127.0.0.1:{port}")]);
    server.arg("-cert").arg(pki.path("server.pem")).arg("-key").arg(pki.path("server.key"));
    server.stdin(std::process::Stdio::piped());
    let out = std::fs::File::create(dir.path().join("heard")).unwrap();
    let mut server = server.stdout(out).spawn().unwrap();
    let answer = b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n";
    wait_for(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
    let alarms = format!("[alarms.webhook]\nurl = \"https://localhost:{port}/hook\"\n");
    // A server whose certificate is not trusted gets no alarm.
    let mut collector = Collector::start_in(dir, &[HOST], "", &alarms);
    assert_eq!(collector.post(small(HOST, 1)), 204);
    wait_for(|| collector.log().contains("cannot send the alarm by webhook").then_some(()));
    let heard = || std::fs::read_to_string(collector.path("heard")).unwrap_or_default();
    assert_eq!(heard(), "");
    collector.stop();
    make_due(&collector);
    collector.run_with(&[("SSL_CERT_FILE", trusted.to_str().unwrap())]);
    let heard = wait_for(|| {
        let text = std::fs::read_to_string(collector.path("heard")).unwrap_or_default();
        text.contains("\"note\"").then_some(text)
    });
    server.stdin.take().unwrap().write_all(answer).unwrap();
    let _ = server.kill();
    let _ = server.wait();
    assert!(heard.starts_with("POST /hook HTTP/1.1"), "{heard}");
}

/// Debian's aiosmtpd, which stores each mail in a directory, with the recipients as a header field. It is used because
/// it can be installed beside a mail server of the system.
struct MailServer(std::process::Child);

impl MailServer {
    fn start(letters: &std::path::Path, port: u16) -> Self {
        let mut command = Command::new("aiosmtpd");
        command.args(["-n", "-l", &format!("127.0.0.1:{port}"), "-c", "aiosmtpd.handlers.Mailbox"]);
        let server = Self(command.arg(letters).spawn().expect("Debian's python3-aiosmtpd"));
        wait_for(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
        server
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_mail_has_the_finding_and_the_advice() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let letters = dir.path().join("letters");
    let _server = MailServer::start(&letters, port);
    let alarms = format!(
        "[alarms.mail]\nserver = \"smtp://127.0.0.1:{port}\"\nfrom = \"hpkp@example.com\"\n\
         to = [\"Operators <ops@example.com>\", \"second@example.com\"]\n"
    );
    let collector = Collector::start_in(dir, &[HOST], "", &alarms);
    assert_eq!(collector.post(small(HOST, 1)), 204);
    let letter = wait_for(|| {
        assert!(!collector.log().contains("cannot send"), "{}", collector.log());
        let letter = std::fs::read_dir(letters.join("new")).ok()?.next()?.unwrap();
        std::fs::read_to_string(letter.path()).ok()
    });
    for part in [
        "X-RcptTo: ops@example.com, second@example.com",
        "From: hpkp@example.com",
        "Subject: [report-unknown-key] www.example.com",
        "To do: ",
        "/group/",
    ] {
        assert!(letter.contains(part), "{letter}\nhas no {part}");
    }
}

#[test]
fn a_failed_alarm_is_logged_and_reports_are_still_stored() {
    let alarms = "[alarms]\ncommand = [\"/bin/false\"]\n";
    let collector = Collector::start(&[HOST], "", alarms);
    assert_eq!(collector.post(small(HOST, 1)), 204);
    wait_for(|| collector.log().contains("cannot send the alarm by command").then_some(()));
    assert_eq!(collector.post(small(HOST, 2)), 204);
}

/// Makes all waiting alarms due now, as if time had passed.
fn make_due(collector: &Collector) {
    let database = rusqlite::Connection::open(collector.path("reports.sqlite")).unwrap();
    database.busy_timeout(Duration::from_secs(10)).unwrap();
    database.execute("UPDATE report_alarms SET due = 0 WHERE sent IS NULL", []).unwrap();
}

#[test]
fn an_unsent_alarm_survives_a_restart_and_is_sent_once() {
    let dir = tempfile::tempdir().unwrap();
    let (program, out) = (dir.path().join("alarm"), dir.path().join("out"));
    let text = format!("#!/bin/sh\n[ -e {0}.open ] || exit 1\ncat >> {0}\n", out.display());
    hpkp_tests::write_program(&program, text);
    let alarms = format!("[alarms]\ncommand = [{program:?}]\n");
    let mut collector = Collector::start_in(dir, &[HOST], "", &alarms);
    assert_eq!(collector.post(small(HOST, 1)), 204);
    wait_for(|| collector.log().contains("next try at").then_some(()));
    assert_eq!(collector.metric("hpkp_reports_alarms_waiting"), 1);
    collector.kill();
    std::fs::write(collector.path("out.open"), "").unwrap();
    make_due(&collector);
    collector.run();
    let lines = || std::fs::read_to_string(collector.path("out")).unwrap_or_default();
    wait_for(|| lines().contains("report-unknown-key").then_some(()));
    wait_for(|| (collector.metric("hpkp_reports_alarms_waiting") == 0).then_some(()));
    // The alarm is not sent again after another start.
    collector.stop();
    collector.run();
    assert_eq!(collector.post(small(HOST, 1)), 204);
    thread::sleep(Duration::from_secs(1));
    assert_eq!(std::fs::read_to_string(collector.path("out")).unwrap().lines().count(), 1);
}

#[test]
fn one_alarm_stands_for_all_that_the_limit_delayed() {
    let dir = tempfile::tempdir().unwrap();
    let program = script(dir.path());
    let alarms = format!("[alarms]\nper_hour = 2\ncommand = [{program:?}]\n");
    let collector = Collector::start_in(dir, &[HOST], "", &alarms);
    let read = || -> Vec<Value> {
        let text = std::fs::read_to_string(collector.path("alarms.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    for n in 0..5 {
        assert_eq!(collector.post(small(HOST, n)), 204);
    }
    wait_for(|| collector.log().contains("more alarms than per_hour").then_some(()));
    wait_for(|| (collector.metric("hpkp_reports_alarms_waiting") == 4).then_some(()));
    assert_eq!(read().len(), 1);
    let database = rusqlite::Connection::open(collector.path("reports.sqlite")).unwrap();
    database.busy_timeout(Duration::from_secs(10)).unwrap();
    database.execute("UPDATE report_alarms SET sent = sent - 4000 WHERE told = 1", []).unwrap();
    make_due(&collector);
    let second = wait_for(|| read().into_iter().nth(1));
    assert_eq!(second["left_out"], 3);
    wait_for(|| (collector.metric("hpkp_reports_alarms_waiting") == 0).then_some(()));
    assert_eq!(read().len(), 2);
    assert!(second["note"].as_str().unwrap().contains("not authenticated"));
}

#[test]
fn due_times_of_a_clock_that_was_ahead_delay_no_alarm() {
    let dir = tempfile::tempdir().unwrap();
    let program = script(dir.path());
    let alarms = format!("[alarms]\nper_hour = 2\ncommand = [{program:?}]\n");
    let mut collector = Collector::start_in(dir, &[HOST], "", &alarms);
    assert_eq!(collector.post(small(HOST, 1)), 204);
    let read = |collector: &Collector| {
        let text = std::fs::read_to_string(collector.path("alarms.jsonl")).unwrap_or_default();
        text.lines().count()
    };
    wait_for(|| (read(&collector) == 1).then_some(()));
    assert_eq!(collector.post(small(HOST, 2)), 204);
    wait_for(|| (collector.metric("hpkp_reports_alarms_waiting") == 1).then_some(()));
    collector.stop();
    // Times as written by a clock that was ten days ahead.
    let database = rusqlite::Connection::open(collector.path("reports.sqlite")).unwrap();
    let sql = "UPDATE report_alarms SET due = due + 864000, sent = sent + 864000";
    database.execute(sql, []).unwrap();
    drop(database);
    collector.run();
    wait_for(|| (read(&collector) == 2).then_some(()));
}
