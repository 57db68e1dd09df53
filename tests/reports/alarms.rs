//! Alarms: once for each group, by command, webhook and mail, throttled.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
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

/// A program that writes down its arguments and what it reads.
fn script(dir: &std::path::Path) -> String {
    let path = dir.join("alarm");
    let out = dir.join("alarms.jsonl");
    let text = format!("#!/bin/sh\nprintf '%s\\n' \"$@\" > {0}.args\ncat >> {0}\n", out.display());
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_command_reads_json_once_for_each_group_and_no_more_than_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let program = script(dir.path());
    let alarms = format!("[alarms]\nper_hour = 3\ncommand = [{program:?}, \"$(id)\", \"; x\"]\n");
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
    // No shell has seen the arguments.
    let arguments = std::fs::read_to_string(collector.path("alarms.jsonl.args")).unwrap();
    assert_eq!(arguments, "$(id)\n; x\n");
    for n in 2..10 {
        assert_eq!(collector.post(small(HOST, n)), 204);
    }
    wait_for(|| (read().len() == 3).then_some(()));
    wait_for(|| collector.log().contains("more alarms than per_hour").then_some(()));
    thread::sleep(Duration::from_millis(300));
    assert_eq!(read().len(), 3);
}

#[test]
fn a_webhook_gets_json() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut octets = Vec::new();
        let mut buffer = [0; 4096];
        while !octets.ends_with(b"}") {
            let count = stream.read(&mut buffer).unwrap();
            octets.extend_from_slice(&buffer[..count]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        tell.send(String::from_utf8(octets).unwrap()).unwrap();
    });
    let alarms = format!("[alarms.webhook]\nurl = \"http://127.0.0.1:{port}/hook\"\n");
    let collector = Collector::start(&[HOST], "", &alarms);
    assert_eq!(collector.post(small(HOST, 1)), 204);
    let request = told.recv_timeout(Duration::from_secs(30)).unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /hook HTTP/1.1"), "{head}");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["finding"], "report-unknown-key");
}

/// A mail server of the least kind, for where Debian's is not installed: it takes one letter.
fn mail_server(listener: &TcpListener) -> String {
    let (stream, _) = listener.accept().unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let say = |mut stream: &TcpStream, text: &str| stream.write_all(text.as_bytes()).unwrap();
    say(&stream, "220 mail.example.com ESMTP\r\n");
    let mut letter = String::new();
    let mut is_letter = false;
    while let Some(Ok(line)) = lines.next() {
        match line.split(' ').next().unwrap_or_default() {
            "." if is_letter => {
                is_letter = false;
                say(&stream, "250 taken\r\n");
            }
            _ if is_letter => letter.push_str(&format!("{line}\n")),
            "EHLO" => say(&stream, "250 mail.example.com\r\n"),
            "DATA" => {
                is_letter = true;
                say(&stream, "354 go on\r\n");
            }
            "QUIT" => {
                say(&stream, "221 bye\r\n");
                break;
            }
            "MAIL" | "RCPT" => {
                letter.push_str(&format!("{line}\n"));
                say(&stream, "250 fine\r\n");
            }
            _ => say(&stream, "250 fine\r\n"),
        }
        if !is_letter && letter.contains("Subject") {
            break;
        }
    }
    letter
}

#[test]
fn mail_says_what_is_to_be_done() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(mail_server(&listener)).unwrap());
    let alarms = format!(
        "[alarms.mail]\nserver = \"smtp://127.0.0.1:{port}\"\nfrom = \"hpkp@example.com\"\n\
         to = [\"Operators <ops@example.com>\", \"second@example.com\"]\n"
    );
    let collector = Collector::start(&[HOST], "", &alarms);
    assert_eq!(collector.post(small(HOST, 1)), 204);
    let letter = told.recv_timeout(Duration::from_secs(30)).unwrap();
    for part in [
        "MAIL FROM:<hpkp@example.com>",
        "RCPT TO:<ops@example.com>",
        "RCPT TO:<second@example.com>",
        "Subject: [report-unknown-key] www.example.com",
        "To do: ",
        "/group/",
    ] {
        assert!(letter.contains(part), "{letter}\nhas no {part}");
    }
}

#[test]
fn a_way_that_fails_is_told_and_stops_nothing() {
    let alarms = "[alarms]\ncommand = [\"/bin/false\"]\n";
    let collector = Collector::start(&[HOST], "", alarms);
    assert_eq!(collector.post(small(HOST, 1)), 204);
    wait_for(|| collector.log().contains("cannot send the alarm by command").then_some(()));
    assert_eq!(collector.post(small(HOST, 2)), 204);
}
