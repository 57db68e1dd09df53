//! `hpkp status`, against real servers and real directories of records.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use hpkp_tests::free_port;
use hpkp_tests::nginx::{Module, Nginx, tls_server};
use hpkp_tests::pki::Pki;
use hpkp_tests::site::{A, B};
use serde_json::{Value, json};

use crate::records::{Records, id, pin};
use crate::{Outcome, run};

const HOST: &str = "www.example.com";

/// Records, and a server without the module, which does not use them.
struct Site {
    records: Records,
    /// Runs until it is dropped.
    _nginx: Nginx,
    pki: Pki,
    port: u16,
}

impl Site {
    /// `names` are hosts, each with the name of its certificate.
    fn new(names: &[(&str, &str)]) -> Self {
        let records = Records::new();
        let mut nginx = Nginx::with_module(Module::Shipped);
        let pki = nginx.pki();
        pki.ca("ca");
        let port = free_port();
        let mut http = String::new();
        for (host, certificate) in names {
            pki.leaf(certificate, host, "ca");
            http.push_str(&tls_server(port, host, certificate, ""));
        }
        nginx.configure_without_module(&http);
        nginx.start();
        Self { records, _nginx: nginx, pki, port }
    }

    fn pin(&self, certificate: &str) -> String {
        pin(&self.pki.pin(&format!("{certificate}.pem")))
    }

    fn app(&self, host: &str, pins: &[&str]) -> Value {
        let mut arguments = vec!["add", host, "--origin", "app 4.2"];
        for pin in pins {
            arguments.extend(["--pin", *pin]);
        }
        self.records.recorded(&arguments)
    }

    fn status(&self, more: &[&str]) -> Outcome {
        let connect = format!("127.0.0.1:{}", self.port);
        let mut arguments = vec!["status", "-d", "records"];
        if !more.contains(&"--offline") {
            arguments.extend(["--connect", &connect]);
        }
        arguments.extend(more);
        run(self.records.0.path(), &arguments)
    }

    fn json(&self, more: &[&str]) -> Value {
        self.status(&[more, &["--json"]].concat()).json()
    }
}

fn host<'a>(report: &'a Value, name: &str) -> &'a Value {
    let hosts = report["hosts"].as_array().expect("hosts");
    hosts.iter().find(|host| host["host"] == name).unwrap_or_else(|| panic!("{name}: {report}"))
}

#[test]
fn presented_keys_are_compared_with_the_pins_of_clients() {
    let site = Site::new(&[(HOST, "leaf")]);
    let leaf = site.pin("leaf");
    site.app(HOST, &[&leaf, &pin(A)]);
    let header = format!("pin-sha256=\"{}\"; pin-sha256=\"{A}\"; max-age=60", &leaf[7..]);
    site.records.recorded(&["add", HOST, "--header", &header, "--until", "now"]);

    let outcome = site.status(&["--json"]);
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:?}");
    let report = outcome.json();
    assert_eq!(report["answer"], "yes");
    let found = host(&report, HOST);
    assert_eq!(found["served"][0]["chains"][0][0]["pin"], leaf.as_str());
    assert_eq!(found["backup_pins"], json!([pin(A)]));
    assert_eq!(found["next_step"]["kind"], "end-records");
    assert!(found["earliest_expiry"].is_string() && found["free_from"].is_null());
    let next: Vec<&str> = report["next"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["what"].as_str())
        .collect();
    assert_eq!(next, ["pins", "certificate"]);
    let text = site.status(&[]).fine();
    assert!(text.ends_with("yes: clients accept what is presented\n"), "{text}");
    // No server of the machine has a directive with this directory.
    assert!(text.contains("no server of this machine uses these records"), "{text}");

    // A stolen key is reported even if clients accept it.
    site.records.run(&["compromised", &leaf, "--why", "stolen, ticket 812"]).fine();
    let text = site.status(&[]).fine();
    let line = format!("    compromised: {leaf} (\"stolen, ticket 812\"); whoever has the key");
    assert!(text.contains(&line), "{text}");

    // One record that the key does not satisfy.
    let record = site.app(HOST, &[&pin(B)]);
    let outcome = site.status(&["--json"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let report = outcome.json();
    assert_eq!(report["answer"], "no");
    let found = host(&report, HOST);
    assert_eq!(found["served"][0]["locks_out"], json!([id(&record)]));
    assert_eq!(found["served"][0]["findings"][0]["code"], "published-pins-unmet");
    assert_eq!(found["next_step"]["kind"], "load-pinned-key");
    let text = site.status(&[]);
    assert_eq!(text.code, Some(1));
    assert!(text.out.contains(&format!("locks out clients of record {}", id(&record))), "{text:?}");

    // Waived clients are locked out on purpose.
    let waive = ["waive", id(&record), "--who", "me", "--why", "test"];
    site.records.run(&waive).fine();
    assert_eq!(site.status(&[]).code, Some(0));

    // A backup key need not suit clients that were given up.
    let found = site.json(&[]);
    assert_eq!(host(&found, HOST)["backup_pins"], json!([pin(A)]));
}

#[test]
fn an_unreachable_server_is_unknown_and_offline_contacts_none() {
    let site = Site::new(&[(HOST, "leaf")]);
    site.app(HOST, &[&site.pin("leaf")]);
    let closed = format!("127.0.0.1:{}", free_port());
    let directory = site.records.0.path();
    let outcome = run(directory, &["status", "-d", "records", "--connect", &closed, "--json"]);
    outcome.failed(3, "cannot connect: connection refused");
    assert_eq!(outcome.json()["answer"], "unknown");
    let report = site.json(&["--offline"]);
    assert_eq!((&report["answer"], &report["offline"]), (&json!("not-asked"), &json!(true)));
    assert_eq!(host(&report, HOST)["served"], json!([]));

    // Two servers of one name are both contacted.
    let outcome = site.status(&["--connect", &closed, "--json"]);
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    let report = outcome.json();
    let served = host(&report, HOST)["served"].as_array().expect("servers").clone();
    let answers: Vec<&Value> = served.iter().map(|one| &one["answer"]).collect();
    assert_eq!(answers, ["yes", "unknown"]);
}

/// There are more hosts here than one finding names.
#[test]
fn each_of_many_hosts_has_its_own_answer() {
    let names: Vec<String> = (0..6).map(|number| format!("host{number}.example.com")).collect();
    let leaves: Vec<String> = (0..6).map(|number| format!("leaf{number}")).collect();
    let pairs: Vec<(&str, &str)> =
        names.iter().zip(&leaves).map(|(name, leaf)| (name.as_str(), leaf.as_str())).collect();
    let site = Site::new(&pairs);
    for (number, (name, leaf)) in pairs.iter().enumerate() {
        let held = if number == 2 { site.pin(leaf) } else { pin(A) };
        site.app(name, &[&held]);
    }
    let outcome = site.status(&["--json"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let report = outcome.json();
    for (number, name) in names.iter().enumerate() {
        let expected = if number == 2 { "yes" } else { "no" };
        assert_eq!(host(&report, name)["answer"], expected, "{name}");
    }
    // One that is named, with a port.
    let outcome = site.status(&[&format!("host2.example.com:{}", site.port)]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
}

#[test]
fn an_unreadable_record_is_reported_and_the_others_are_listed() {
    let site = Site::new(&[(HOST, "leaf")]);
    site.app(HOST, &[&site.pin("leaf")]);
    let records = site.records.0.path().join("records");
    let torn = records.join("torn.jsonl");
    std::fs::write(&torn, "{\"v\":1").expect("a file");
    let outcome = site.status(&["--json"]);
    outcome.failed(0, "torn.jsonl: ignored the incomplete last line (6 bytes)");
    assert_eq!(outcome.json()["problems"][0]["level"], "warning");
    std::fs::remove_file(&torn).expect("a file");

    // A directory where a file should be: it cannot be read.
    std::fs::create_dir(records.join("peers/web-2.jsonl")).expect("a directory");
    let outcome = site.status(&["--json"]);
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    let report = outcome.json();
    assert_eq!(report["directories"][0]["unread"], json!(["records/peers/web-2.jsonl"]));
    assert_eq!(
        (&report["answer"], &report["problems"][0]["level"]),
        (&json!("yes"), &json!("unknown"))
    );

    std::fs::write(records.join("web-3.jsonl"), "no record\n").expect("a file");
    let outcome = site.status(&["--prometheus"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let metrics = metrics(&outcome.out);
    assert_eq!(metrics["hpkp_records_unreadable_files{directory=\"records\"}"], 2.0);

    // A directory that is missing does not hide the other one.
    let outcome = site.status(&["-d", "nowhere", "--json"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let report = outcome.json();
    assert_eq!(report["directories"][1]["usable"], false);
    assert_eq!(host(&report, HOST)["answer"], "yes");
    let outcome = run(site.records.0.path(), &["status", "-d", "nowhere", "--prometheus"]);
    outcome.failed(3, "does not exist");
    let text = run(site.records.0.path(), &["status", "-d", "nowhere"]).out;
    assert!(text.contains("it is not known which pins clients may still hold"), "{text}");
    assert!(!text.contains("no recorded pins"), "{text}");
    let picture = run(site.records.0.path(), &["status", "-d", "nowhere", "--timeline"]).out;
    assert!(picture.contains("it is not known which pins"), "{picture}");
    assert_eq!(self::metrics(&outcome.out)["hpkp_records_usable{directory=\"nowhere\"}"], 0.0);
}

#[test]
fn a_configuration_that_was_not_recorded_is_reported() {
    let site = Site::new(&[(HOST, "leaf")]);
    let reserve = site.records.0.path().join("records/hpkp-reserve");
    let mut slots = std::fs::read(&reserve).expect("slots");
    let text = format!("{:<127}\n", "web-1 0123456789abcdef0123456789abcdef 7");
    slots[..128].copy_from_slice(text.as_bytes());
    std::fs::write(&reserve, &slots).expect("slots");
    let outcome = site.status(&["--json"]);
    outcome.failed(3, "web-1: the configuration that this server uses could not be recorded");
    let report = outcome.json();
    assert_eq!(
        (&report["writers"][0]["writer"], &report["writers"][0]["recorded"]),
        (&json!("web-1"), &json!("no"))
    );
    let out = site.status(&["--prometheus"]).out;
    assert_eq!(metrics(&out)["hpkp_configuration_unrecorded{writer=\"web-1\"}"], 1.0);

    slots[..128].fill(b'x');
    std::fs::write(&reserve, &slots).expect("slots");
    let outcome = site.status(&["--json"]);
    outcome.failed(3, "1 slot damaged");
    assert_eq!(outcome.json()["directories"][0]["damaged_slots"], 1);
}

/// The module records its last configuration, the presented keys and the withheld headers.
#[test]
fn the_records_of_a_module_give_the_state_of_its_server() {
    let mut nginx = hpkp_tests::site::prepared();
    let pki = nginx.pki();
    let port = free_port();
    let records = nginx.path("records");
    pki.records("records");
    let directory = records.to_str().expect("UTF-8").to_owned();
    let configure = |nginx: &Nginx, certificate: &str, pins: &str| {
        let policy = format!(
            "hpkp_published_pins {directory} writer=web-1; hpkp_on_start warn;\n\
             hpkp_policy site {{ pin {pins}; max_age 60d; }}\n"
        );
        nginx.configure(&(policy + &tls_server(port, HOST, certificate, "hpkp site;")));
    };
    pki.leaf("one", HOST, "ca");
    pki.leaf("two", HOST, "ca");
    configure(&nginx, "one", &format!("file:one.pem; pin {}", pin(A)));
    nginx.start();
    let connect = format!("127.0.0.1:{port}");
    let status = |more: &[&str]| {
        let arguments = [&["status", "-d", &directory, "--connect", &connect], more].concat();
        run(Path::new("/"), &arguments)
    };
    // The key in use is no backup key.
    let key = nginx.path("one.key");
    run(Path::new("/"), &["key", "drill", "-d", &directory, key.to_str().expect("UTF-8")]).fine();
    let report = status(&["--json"]).json();
    assert!(report.get("last_drill").is_none(), "{report}");
    let writer = &report["writers"][0];
    assert_eq!(
        (&writer["writer"], &writer["recorded"]),
        (&json!("web-1"), &json!("yes")),
        "{report}"
    );
    assert!(writer["last_configuration"].is_string() && writer["stopped"] == false, "{report}");
    let found = host(&report, HOST);
    assert_eq!((&found["answer"], &found["served"][0]["port"]), (&json!("yes"), &json!(port)));
    assert_eq!(found["served"][0]["as_on_record"], true);
    assert_eq!(found["next_step"]["kind"], "change-key");
    assert!(found["next_step"]["at"].is_string());

    // The server is started with another key, in spite of the lock-out.
    nginx.expect_in_log(&["published-pins-unmet"]);
    nginx.stop();
    configure(&nginx, "two", &format!("file:two.pem; pin {}", pin(B)));
    nginx.start();
    let outcome = status(&["--json"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let report = outcome.json();
    assert_eq!(report["writers"][0]["withheld"], json!([HOST]), "{report}");
    assert_eq!(host(&report, HOST)["withheld_by"], json!(["web-1"]));
    let metrics = metrics(&status(&["--prometheus"]).out);
    assert_eq!(metrics["hpkp_hosts_withheld{writer=\"web-1\",kind=\"own\"}"], 1.0);
    let label = format!("host=\"{HOST}\",port=\"{port}\",address=\"{connect}\"");
    assert_eq!(metrics[&format!("hpkp_host_pins_satisfied{{{label}}}")], 0.0);
    assert_eq!(metrics[&format!("hpkp_host_reached{{{label}}}")], 1.0);
    nginx.stop();
}

/// A default server answers for whatever name is asked for.
#[test]
fn the_default_server_is_listed_as_any_other_name() {
    let mut nginx = hpkp_tests::site::prepared();
    let (pki, port) = (nginx.pki(), free_port());
    pki.records("records");
    let directory = nginx.path("records").to_str().expect("UTF-8").to_owned();
    let mut http = format!("hpkp_published_pins {directory} writer=web-1;\n");
    for (certificate, host) in [("one", HOST), ("two", "shop.example.com")] {
        pki.leaf(certificate, host, "ca");
        http.push_str(&tls_server(port, host, certificate, ""));
    }
    nginx.configure(&http);
    nginx.start();
    nginx.stop();
    let end = ["published", "-d", &directory, "end", "--writer", "web-1", "--why", "scrapped"];
    let ended = run(Path::new("/"), &end).fine();
    let line = format!("any other name on port {port}: 1 certificate, ended ");
    assert!(ended.contains(&line) && !ended.contains(".invalid"), "{ended}");
}

/// The samples of a text in Prometheus' format; fails if the text is not valid in that format.
fn metrics(text: &str) -> BTreeMap<String, f64> {
    let is_name = |name: &str| {
        name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && name.starts_with("hpkp_")
    };
    let (mut samples, mut families) = (BTreeMap::new(), Vec::new());
    assert!(text.ends_with('\n'), "the last line ends");
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let (kind, rest) = comment.split_once(' ').expect("HELP or TYPE");
            let (name, rest) = rest.split_once(' ').expect("a name");
            assert!(is_name(name) && !rest.is_empty(), "{line}");
            match kind {
                "HELP" => {
                    assert!(!families.contains(&name), "{name} twice");
                    families.push(name);
                }
                "TYPE" => assert_eq!((families.last(), rest), (Some(&name), "gauge")),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let name = series.split('{').next().expect("a name");
        // The format requires all samples of a family in one group.
        assert_eq!(families.last(), Some(&name), "{line}");
        let value = value.parse::<f64>().expect("a number");
        assert!(samples.insert(series.to_owned(), value).is_none(), "{series} twice");
    }
    samples
}

#[test]
fn a_file_of_metrics_is_replaced_as_a_whole() {
    let site = Site::new(&[(HOST, "leaf")]);
    site.app(HOST, &[&site.pin("leaf")]);
    let directory = site.records.0.path();
    let out = directory.join("out");
    std::fs::create_dir(&out).expect("a directory");
    std::fs::write(out.join("real.prom"), "old").expect("a file");
    symlink("real.prom", out.join("hpkp.prom")).expect("a link");
    site.status(&["--prometheus", "--output", "out/hpkp.prom"]).fine();
    let text = std::fs::read_to_string(out.join("real.prom")).expect("metrics");
    assert!(metrics(&text).len() > 5, "{text}");
    let mode = std::fs::metadata(out.join("real.prom")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o444, 0o444, "the collector is another user");
    let names: Vec<_> = std::fs::read_dir(&out).expect("a directory").flatten().collect();
    assert_eq!(names.len(), 2, "{names:?}");
    // A failed write is an error, and nothing goes to standard output instead.
    let outcome = site.status(&["--prometheus", "--output", "nowhere/hpkp.prom"]);
    outcome.failed(3, "cannot write nowhere/hpkp.prom: no such file or directory");
    assert_eq!(outcome.out, "");
    let outcome = site.status(&["--prometheus", "--output", "/dev/stdout"]);
    assert!(!metrics(&outcome.out).is_empty());
}

#[test]
fn a_timeline_lists_pins_and_expiry_and_needs_no_other_file() {
    let site = Site::new(&[(HOST, "leaf")]);
    let leaf = site.pin("leaf");
    let add = ["add", HOST, "--pin", &leaf, "--pin", &pin(A), "--expires", "2999-01-01"];
    let hostile = "<script src='https://x.example/'>&\"";
    site.records.recorded(&[&add[..], &["--origin", hostile]].concat());
    let header = format!("pin-sha256=\"{}\"; pin-sha256=\"{A}\"; max-age=5184000", &leaf[7..]);
    site.records.recorded(&["add", HOST, "--header", &header]);

    let text = site.status(&["--timeline"]).fine();
    assert!(text.contains(&format!("{HOST} (clients accept the presented keys)")), "{text}");
    assert!(
        text.contains(&format!("  * {leaf}")) && text.contains(&format!("    {}", pin(A))),
        "{text}"
    );
    assert!(text.contains("until 2999-01-01T23:59:59Z") && text.contains("next step: "), "{text}");
    assert!(text.is_ascii());

    let svg = site.status(&["--timeline", "svg"]).fine();
    let document = roxmltree::Document::parse(&svg).expect("XML");
    let words: String = document.descendants().filter_map(|node| node.text()).collect();
    assert!(words.contains(&leaf) && words.contains("<script src="), "{words}");

    site.status(&["--timeline=html", "--output", "status.html"]).fine();
    let page = std::fs::read_to_string(site.records.0.path().join("status.html")).expect("a page");
    for foreign in ["<script", "<link", "<img", "<iframe", "@import", "url(", " src=\"", "href="] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert!(page.contains(&leaf) && page.ends_with("</html>\n"));
}

#[test]
fn wrong_usage_is_found_before_anything_is_read() {
    let records = Records::new();
    for (arguments, text) in [
        (&["192.0.2.1"][..], "IP address"),
        (&["a..b"], "expected HOST"),
        (&["--connect", "x:y"], "--connect"),
        (&["--connect", "127.0.0.1", "--offline"], "cannot be used with"),
        (&["--json", "--prometheus"], "cannot be used with"),
        (&["--timeline", "png"], "invalid value"),
    ] {
        let all = [&["status", "-d", "records"], arguments].concat();
        run(records.0.path(), &all).failed(2, text);
    }
    let outcome = run(records.0.path(), &["status", "-d", "records"]);
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:?}");
    assert!(outcome.out.contains("no recorded pins that clients may still hold"), "{outcome:?}");
}

/// Only its last drill shows whether the backup key can be restored.
#[test]
fn status_lists_the_last_drill() {
    let site = Site::new(&[(HOST, "leaf")]);
    let at = site.records.0.path();
    run(at, &["key", "new", "backup.key"]).fine();
    let backup = run(at, &["pin", "--private-key", "backup.key"]).fine()[..51].to_owned();
    site.app(HOST, &[&site.pin("leaf"), &backup]);
    let text = site.status(&[]).fine();
    assert!(text.contains(&format!("    backup: {backup} (no drill on record)\n")), "{text}");
    assert!(site.json(&[]).get("last_drill").is_none());

    run(at, &["key", "drill", "-d", "records", "backup.key"]).fine();
    let report = site.json(&[]);
    let drill = &report["last_drill"];
    assert_eq!((&drill["pin"], &drill["from"]), (&json!(backup), &json!("file")), "{report}");
    assert_eq!(drill["hosts"], json!([HOST]));
    assert_eq!(host(&report, HOST)["backup_drills"][&backup], drill["at"]);
    let text = site.status(&[]).fine();
    let when = drill["at"].as_str().expect("a time");
    for part in [
        format!("last drill with a backup key: {when}, {backup}\n"),
        format!("(last drill {when})\n"),
    ] {
        assert!(text.contains(&part), "{part}: {text}");
    }
    let metrics = site.status(&["--prometheus"]).fine();
    assert!(metrics.contains("\nhpkp_last_drill_timestamp_seconds "), "{metrics}");

    // An unreadable record of drills is an error, and not the same as no drill.
    std::fs::write(at.join("records/hpkp-drills"), "nonsense\n").expect("a file");
    let outcome = site.status(&[]);
    outcome.failed(3, "cannot read the record of drills: records/hpkp-drills:1: ");
}
