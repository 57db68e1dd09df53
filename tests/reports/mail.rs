//! Reports by mail: runs `import` as a mail server does when it delivers to a command.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::collector::{Collector, PROGRAM, now};

fn tlsrpt(domain: &str) -> String {
    format!(
        r#"{{"organization-name":"Example Mail","date-range":{{"start-datetime":"{0}","end-datetime":"{0}"}},
        "contact-info":"x@example.net","report-id":"1","policies":[
        {{"policy":{{"policy-type":"sts","policy-domain":"{domain}"}},
          "summary":{{"total-successful-session-count":1,"total-failure-session-count":7}},
          "failure-details":[{{"result-type":"certificate-expired","receiving-mx-hostname":"mx.example.com",
            "failed-session-count":7}}]}}]}}"#,
        now()
    )
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// A message as in RFC 8460 section 5.1, with one attachment.
fn message(attachment: &[u8]) -> Vec<u8> {
    let base64 = STANDARD.encode(attachment);
    let lines: Vec<&str> =
        base64.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let text = format!(
        "From: tlsrpt@mail.sender.example\r\nDate: Fri, 27 Nov 2026 00:00:00 +0000\r\nTo: tlsrpt@example.com\r\n\
         Subject: Report Domain: example.com Submitter: mail.sender.example\r\n\
         TLS-Report-Domain: example.com\r\nTLS-Report-Submitter: mail.sender.example\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n\tboundary=\"----=_NextPart_000_024E_01CC9B0A\"\r\n\
         Content-Language: en-us\r\n\r\nThis is a multipart message in MIME format.\r\n\r\n\
         ------=_NextPart_000_024E_01CC9B0A\r\nContent-Type: text/plain; charset=\"us-ascii\"\r\n\
         Content-Transfer-Encoding: 7bit\r\n\r\nThis is an aggregate TLS report.\r\n\r\n\
         ------=_NextPart_000_024E_01CC9B0A\r\nContent-Type: application/tlsrpt+gzip\r\n\
         Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment;\r\n\
         \tfilename=\"mail.sender.example!example.com!1795737600!1795823999!1.json.gz\"\r\n\r\n{}\r\n\
         ------=_NextPart_000_024E_01CC9B0A--\r\n",
        lines.join("\r\n")
    );
    text.into_bytes()
}

/// Runs `import` with `input` as its standard input.
fn import(collector: &Collector, more: &[&str], input: &[u8]) -> Output {
    import_to(&format!("http://127.0.0.1:{}/r/mail", collector.port), more, input)
}

fn import_to(to: &str, more: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(["import", "--to", to]).args(more).arg("-");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // The command may end before it has read all input.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

#[track_caller]
fn ends(output: &Output, code: i32, part: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(part) && text.is_empty() == part.is_empty(), "{text}");
}

#[test]
fn a_message_becomes_a_group() {
    let collector = Collector::start(&["example.com"], "", "");
    let report = tlsrpt("example.com");
    let mail = message(&gzip(report.as_bytes()));
    ends(&import(&collector, &[], &mail), 0, "");
    // With the first line that a delivery to a command adds, and as stored in a file.
    let piped = [b"From tlsrpt@mail.sender.example Fri Nov 27 00:00:00 2026\n", &mail[..]].concat();
    ends(&import(&collector, &["--mta"], &piped), 0, "");
    let lines: Vec<u8> = mail.iter().copied().filter(|byte| *byte != b'\r').collect();
    let file = collector.path("report.eml");
    std::fs::write(&file, lines).unwrap();
    let to = format!("http://127.0.0.1:{}/r/mail", collector.port);
    let run = |file: &std::path::Path| {
        hpkp_tests::output(Command::new(PROGRAM).args(["import", "--to", &to]).arg(file))
    };
    ends(&run(&file), 0, "");
    // A report without a message, packed and unpacked.
    std::fs::write(&file, gzip(report.as_bytes())).unwrap();
    ends(&run(&file), 0, "");
    ends(&import(&collector, &[], report.as_bytes()), 0, "");
    let groups = collector.groups();
    assert_eq!(groups.len(), 1, "{groups:?}");
    assert_eq!(
        (&groups[0]["finding"], &groups[0]["count"]),
        (&"report-smtp-mta-sts".into(), &35.into())
    );
    assert_eq!(groups[0]["detail"], "certificate-expired, mx.example.com");
    // A report for an unlisted host gets the same answer and is not stored.
    let other = message(&gzip(tlsrpt("stranger.example").as_bytes()));
    ends(&import(&collector, &[], &other), 0, "");
    assert_eq!(collector.groups().len(), 1);
    ends(&run(&collector.path("none.eml")), 3, "no such file");
}

#[test]
fn input_without_a_report_is_an_error_but_no_bounce() {
    let collector = Collector::start(&["example.com"], "", "[limits]\nbody = \"64k\"\n");
    let bomb = gzip(&vec![b' '; 20 << 20]);
    let plain = b"From: a@example.net\r\nSubject: hello\r\n\r\nhello\r\n".to_vec();
    let json = message(b"{\"a\":1}");
    for (input, part) in [
        (plain, "no report in the message"),
        (Vec::new(), "no report in the message"),
        (b"\0\xff\xfe".repeat(1000), "no report in the message"),
        (json, "status 400"),
        (message(&bomb), "status 413"),
        (message(b"PK\x03\x04"), "status 400"),
        (vec![b' '; 3 << 20], "larger than"),
        (b"{".repeat(2_000_000), "status 413"),
    ] {
        ends(&import(&collector, &[], &input), 1, part);
        ends(&import(&collector, &["--mta"], &input), 0, part);
    }
    assert_eq!(collector.total(), 0);
}

#[test]
fn a_report_that_is_refused_for_now_is_tried_again() {
    let limits = "[limits]\nclient_per_minute = 1\n";
    let mut collector = Collector::start(&["example.com"], "", limits);
    let mail = message(&gzip(tlsrpt("example.com").as_bytes()));
    ends(&import(&collector, &["--mta"], &mail), 0, "");
    ends(&import(&collector, &["--mta"], &mail), 75, "status 429");
    ends(&import(&collector, &[], &mail), 3, "status 429");
    assert!(collector.stop().success());
    ends(&import(&collector, &["--mta"], &mail), 75, "cannot reach http://127.0.0.1");
    let output = import(&collector, &[], &mail);
    ends(&output, 3, "cannot reach http://127.0.0.1");
    ends(&output, 3, ": connection refused\n");
    ends(&import_to("smtp://127.0.0.1/", &[], &mail), 2, "expected https://");
    collector.run();
    ends(&import(&collector, &["--mta"], &mail), 0, "");
    assert_eq!(collector.total(), 14);
}
