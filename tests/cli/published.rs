//! `hpkp published`, on real directories of records, which the servers' reader reads too.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use hpkp_tests::pki::{Pki, openssl};
use hpkp_tests::site::{A, B};
use serde_json::{Value, json};

use crate::records::{Records, id, pin};
use crate::{run, run_with};

#[test]
fn a_header_set_by_hand_is_recorded() {
    let records = Records::new();
    let header = format!(
        "pin-sha256=\"{A}\"; pin-sha256=\"{B}\" ;; max-age=5184000; includeSubDomains; report-uri=\"https://r.example\""
    );
    let add = ["add", "WWW.example.com", "--header", &header, "--since", "2026-06-01"];
    let record = records.recorded(&add);
    let mut pins = [pin(A), pin(B)];
    pins.sort();
    assert_eq!(record["host"], "www.example.com");
    assert_eq!(record["pins"].as_array().map(Vec::len), Some(2));
    assert_eq!(record["include_subdomains"], true);
    assert_eq!((&record["max_age"], &record["after"]), (&json!(5_184_000), &json!(5_270_400)));
    assert_eq!(record["since"], "2026-06-01T00:00:00Z");
    assert_eq!(record["ended"], Value::Null);

    // The same command again changes nothing; with `--until` it ends the same record.
    assert_eq!(records.json(&add)["recorded"], json!([]));
    assert_eq!(records.lines().len(), 1);
    let ended = records.json(&[&add[..], &["--until", "2026-11-01"]].concat());
    assert_eq!((&ended["recorded"], &ended["known"][0]["id"]), (&json!([]), &record["id"]));
    assert_eq!(ended["known"][0]["ended"], "2026-11-01T23:59:59Z");
    // 60 days and one more: 2026-11-01 + 61 days.
    assert_eq!(ended["known"][0]["until"], "2027-01-01T23:59:59Z");
    records.run(&[&add[..], &["--until", "2026-12-01"]].concat());
    assert_eq!(records.lines().len(), 2);

    // One command may record a header and its end.
    let other = ["add", "b.example.com", "--header", &header, "--until", "now", "--writer", "web"];
    let record = records.recorded(&other);
    assert_eq!((&record["writer"], &record["held"]), (&json!("web"), &json!(true)));
    assert!(record["until"].is_string() && record["ended"].is_string());
    assert_eq!(records.lines().len(), 4);
}

#[test]
fn no_pin_around_a_header_is_ignored() {
    let records = Records::new();
    for text in [
        format!("'pin-sha256=\"{A}\"; max-age=60' or 'pin-sha256=\"{B}\"; max-age=60'"),
        format!(
            "add_header Public-Key-Pins 'pin-sha256=\"{A}\"; max-age=60';\nset $x 'pin-sha256=\"{B}\"';"
        ),
    ] {
        let outcome = records.run(&["add", "a.example", "--header", &text]);
        assert_eq!((outcome.code, outcome.out.as_str()), (Some(1), ""), "{text} {outcome:?}");
    }
    assert_eq!(records.lines().len(), 0);
    let text = format!(
        "# add_header Public-Key-Pins 'pin-sha256=\"{B}\"; max-age=60';\nadd_header Public-Key-Pins \
         'pin-sha256=\"{A}\"; max-age=60';"
    );
    records.recorded(&["add", "a.example", "--header", &text]);
}

#[test]
fn headers_that_no_client_notes_are_not_recorded() {
    let records = Records::new();
    let pins = format!("pin-sha256=\"{A}\"; pin-sha256=\"{B}\"");
    for (header, text) in [
        (pins.clone(), "max-age"),
        (format!("{pins}; max-age=0"), "tells clients to forget"),
        ("max-age=60".to_owned(), "no client that follows RFC 7469"),
        ("pin-sha256=\"x\"; max-age=60".to_owned(), "no client that follows RFC 7469"),
    ] {
        records.run(&["add", "a.example", "--header", &header]).failed(1, text);
    }
    let header = format!("{pins}; max-age=60");
    for wrong in [
        &["*.a.example", "--header", &header][..],
        &["192.0.2.1", "--header", &header],
        &["a.example", "--pin", &pin(A), "--origin", "header"],
        &["a.example", "--pin", "x", "--origin", "an app"],
        &["a.example", "--header", &header, "--since", "2026-02-01", "--until", "2026-01-01"],
        &["a.example", "--header", &header, "--writer", ".hidden"],
    ] {
        let outcome = records.run(&[&["add"], wrong].concat());
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
    }
    assert_eq!(records.lines(), [] as [Value; 0]);
}

#[test]
fn pins_of_apps_are_recorded_with_scope_port_and_expiry() {
    let records = Records::new();
    let pki = Pki::new(records.0.path());
    pki.ca("ca");
    let record = records.recorded(&[
        "add",
        "**.example.com",
        "--pin",
        &pin(A),
        "--pin",
        "file:ca.pem",
        "--origin",
        "app 4.2",
        "--scope",
        "path-ca",
        "--port",
        "8443",
        "--expires",
        "2999-01-01",
    ]);
    assert_eq!((&record["host"], &record["scope"]), (&json!("**.example.com"), &json!("path-ca")));
    assert_eq!((&record["port"], &record["until"]), (&json!(8443), &json!("2999-01-01T23:59:59Z")));
    let mut pins = vec![pin(A), pin(&pki.pin("ca.pem"))];
    let mut found: Vec<&str> =
        record["pins"].as_array().expect("pins").iter().filter_map(Value::as_str).collect();
    pins.sort();
    found.sort_unstable();
    assert_eq!(found, pins);
    let missing = ["add", "a.example", "--pin", "file:missing", "--origin", "x"];
    records.run(&missing).failed(3, "missing: no such file");
    let private = ["add", "a.example", "--pin", "file:ca.key", "--origin", "x"];
    records.run(&private).failed(1, "private key");
}

#[test]
fn pins_apply_to_a_host_until_they_end() {
    let records = Records::new();
    let app = |host, base64| {
        records.recorded(&["add", host, "--pin", &pin(base64), "--origin", "an app"])
    };
    let (exact, wild) = (app("www.example.com", A), app("*.example.com", B));
    app("other.example.com", A);
    let held = |host| {
        let json = records.json(&["why", host]);
        let ids = json["published"].as_array().expect("records").iter().map(id);
        ids.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut both = vec![id(&exact).to_owned(), id(&wild).to_owned()];
    both.sort();
    let mut found = held("www.example.com");
    found.sort();
    assert_eq!(found, both);
    assert_eq!(held("example.com"), [] as [String; 0]);
    let outcome = records.run(&["why", "example.com"]);
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(0), ""));
    assert!(outcome.err.contains("no recorded pins apply to example.com"));

    // An ended record no longer applies to the host, but is still listed with `--all`.
    let ended = records.json(&["end", id(&exact), "--why", "release 1 is gone"]);
    assert_eq!(ended["published"][0]["held"], false);
    assert_eq!(held("www.example.com"), [id(&wild)]);
    let list = |more: &[&str]| {
        let json = records.json(&[&["list"], more].concat());
        json["published"].as_array().expect("records").len()
    };
    assert_eq!((list(&[]), list(&["--all"])), (2, 3));
    let shown = records.run(&["show", id(&exact)]).fine();
    assert!(shown.contains("expired 2") && shown.contains(&pin(A)), "{shown}");

    // A waived record still applies, and names who waived it.
    let waive = ["waive", id(&wild), "--who", "ops", "--why", "nobody uses it"];
    assert_eq!(records.json(&waive)["published"][0]["waived"]["who"], "ops");
    assert_eq!(held("www.example.com"), [id(&wild)]);
    assert!(records.run(&["list"]).fine().contains(", waived; an app"));
    assert!(records.run(&["why", "www.example.com"]).fine().contains("waived by ops: nobody"));

    let compromised = records.json(&["compromised", &pin(B), "--why", "stolen"]);
    assert_eq!(compromised["published"][0]["compromised"], json!([pin(B)]));
    assert!(
        records.run(&["show", id(&wild)]).fine().contains(&format!("{} (compromised)", pin(B)))
    );
}

#[test]
fn a_host_whose_pins_have_ended_has_a_date_of_expiry() {
    let records = Records::new();
    let header = format!("pin-sha256=\"{A}\"; pin-sha256=\"{B}\"; max-age=5184000");
    let gone = ["add", "www.example.com", "--header", &header, "--until"];
    records.recorded(&[&gone[..], &["2026-10-01"]].concat());
    records.recorded(&["add", "still.example.com", "--header", &header]);
    let free = || records.json(&["list", "--all"])["free"].clone();
    // The max-age, and one day for old worker processes that still send the header.
    let alone = json!([{ "host": "www.example.com", "from": "2026-12-01T23:59:59Z" }]);
    assert_eq!(free(), alone);
    let list = records.run(&["list", "--all"]).fine();
    assert!(list.contains("www.example.com: all pins expire by 2026-12-01T23:59:59Z"), "{list}");
    assert!(list.contains("for visits from ") && list.contains("for visits since "), "{list}");

    // Pins for a domain above the host, which expire later.
    let app = |host, more: &[&str]| {
        let add = ["add", host, "--pin", &pin(A), "--origin", "an app"];
        records.recorded(&[&add[..], more].concat())
    };
    app("**.example.com", &["--expires", "2999-01-01"]);
    let until = "2999-01-01T23:59:59Z";
    let both = [("**.example.com", until), ("www.example.com", until)];
    assert_eq!(free(), json!(both.map(|(host, from)| json!({ "host": host, "from": from }))));
    // Pins of a pattern that have not ended.
    let pattern = app("*.example.com", &[]);
    assert_eq!(free(), json!([{ "host": "**.example.com", "from": until }]));
    records.run(&["end", id(&pattern), "--why", "gone", "--at", "2026-11-01"]).fine();
    assert_eq!(free().as_array().map(Vec::len), Some(3));
}

#[test]
fn a_waiver_records_who_and_why() {
    let records = Records::new();
    let record = records.recorded(&["add", "a.example", "--pin", &pin(A), "--origin", "x"]);
    for lacking in [&["--who", "me"][..], &["--why", "x"], &[]] {
        let outcome = records.run(&[&["waive", id(&record)], lacking].concat());
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
    }
    assert_eq!(records.lines().len(), 1);
}

#[test]
fn nothing_is_written_that_cannot_be_read_again() {
    let records = Records::new();
    let long = "x".repeat(1_025);
    for text in ["", " ", &long] {
        let outcome = records.run(&["add", "a.example", "--pin", &pin(A), "--origin", text]);
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
    }
    // More hosts below a pattern than an array of a record may have.
    let many = Records::new();
    let exact = (0..4_097).map(|n| format!("h{n}.example.com sha256/{A}\n"));
    let text: String = exact.chain([format!("*.example.com sha256/{B}\n")]).collect();
    std::fs::write(many.0.path().join("pins"), text).expect("a file");
    let import = ["import", "--format", "okhttp", "--origin", "x", "pins"];
    many.run(&import).fine();
    assert_eq!(many.json(&["verify"])["held"], 4_098);

    // More ids than one record may name are waived and ended by several records.
    let text: String = (0..4_097).map(|n| format!("h{n}.example.com sha256/{A}\n")).collect();
    std::fs::write(records.0.path().join("pins"), text).expect("a file");
    let recorded = records.json(&import);
    let ids: Vec<&str> = recorded["recorded"].as_array().expect("records").iter().map(id).collect();
    let waive = [&["waive", "--who", "me", "--why", "x"], &ids[..]].concat();
    assert_eq!(records.json(&waive)["events"].as_array().map(Vec::len), Some(2));
    assert_eq!(records.json(&["verify"])["waived"], 4_097);
    let end = [&["end", "--why", "gone"], &ids[..]].concat();
    assert_eq!(records.json(&end)["events"].as_array().map(Vec::len), Some(2));
    assert_eq!(records.json(&["verify"])["held"], 0);
}

#[test]
fn an_id_that_is_not_on_record_fails() {
    let records = Records::new();
    let record = records.recorded(&["add", "a.example", "--pin", &pin(A), "--origin", "x"]);
    let no = "0123456789abcdef0123456789abcdef";
    for command in [&["end", id(&record), no][..], &["waive", no, id(&record), "--who", "me"]] {
        records.run(&[command, &["--why", "x"]].concat()).failed(1, &format!("has the id {no}"));
    }
    records.run(&["show", no]).failed(1, no);
    records.run(&["end", id(&record), "--why", "replaced"]).failed(2, "reserved for servers");
    assert_eq!(records.lines().len(), 1);
}

#[test]
fn pins_of_an_okhttp_app_are_imported() {
    let records = Records::new();
    let text = format!(
        "www.example.com sha256/{A} sha256/{B}\n*.example.com sha256/{B}\n10.0.2.2 sha256/{A}\n"
    );
    std::fs::write(records.0.path().join("pins"), &text).expect("a file");
    let import = ["import", "--format", "okhttp", "--origin", "app 1", "pins"];
    let dry = records.json(&[&import[..], &["--dry-run"]].concat());
    assert_eq!(dry["would_record"].as_array().map(Vec::len), Some(2));
    assert_eq!(records.lines().len(), 0);
    let outcome = records.run(&import);
    assert_eq!((outcome.code, outcome.out.lines().count()), (Some(0), 2), "{outcome:?}");
    assert_eq!(outcome.err.lines().count(), 1);
    assert!(outcome.err.contains("pins: line 3: 10.0.2.2 is an IP address"));
    let lines = records.lines();
    assert_eq!(
        (&lines[0]["host"], &lines[0]["match"]),
        (&json!("www.example.com"), &json!("exact"))
    );
    assert_eq!(
        (&lines[1]["host"], &lines[1]["match"]),
        (&json!("example.com"), &json!("one-label"))
    );
    assert_eq!(lines[1]["except"], json!(["www.example.com"]));
    assert_eq!(lines[1]["origin"], "app 1 (OkHttp CertificatePinner, line 2)");
    // The same text again adds no record.
    assert_eq!(records.json(&import)["recorded"], json!([]));
    assert_eq!(records.lines().len(), 2);
}

#[test]
fn pins_are_imported_in_each_format() {
    let records = Records::new();
    let records_path = records.0.path().join("records");
    let directory = records_path.to_str().expect("UTF-8");
    let import = |text: &str, format: &str| {
        let all =
            ["published", "-d", directory, "import", "--origin", "x", "-", "--format", format];
        run_with(text.as_bytes(), &all)
    };
    import("a.example sha256/x", "okhttp").failed(1, "-: line 1: column 4: invalid pin");
    let xml = format!(
        "<network-security-config><domain-config><domain includeSubdomains='true'>a.example</domain>\
         <domain>b.a.example</domain><pin-set expiration='2999-01-01'><pin digest='SHA-256'>{A}</pin>\
         </pin-set></domain-config><domain-config><domain>c.example</domain>\
         <pin-set expiration='2020-01-01'><pin digest='SHA-256'>{A}</pin></pin-set></domain-config>\
         </network-security-config>"
    );
    let outcome = import(&xml, "android");
    assert_eq!((outcome.code, outcome.out.lines().count()), (Some(0), 2), "{outcome:?}");
    assert!(outcome.out.contains("a.example and all subdomains"));
    assert!(outcome.out.contains("expires 2999-01-01T12:00:00Z"));
    let lines = records.lines();
    let exempt = lines.iter().find(|line| line["host"] == "a.example").expect("a record");
    assert_eq!(exempt["exempt"], json!([{ "host": "b.a.example", "include_subdomains": false }]));
    assert_eq!(exempt["client"], "android");
    assert!(outcome.err.contains("not recorded: the pins of c.example have expired"));
    let zone = format!("_443._tcp.d.example. IN TLSA 3 1 1 {}", "ab".repeat(32));
    let outcome = import(&zone, "tlsa");
    assert!(outcome.fine().contains("_443._tcp.d.example: 1 TLSA record (3 1 1)"));
    let curl = format!("curl --pinnedpubkey sha256//{A} https://e.example/");
    assert!(import(&curl, "curl").fine().contains("(leaf)"));
    let plist = |inside: &str| format!("<plist><dict>{inside}</dict></plist>");
    let pinned = "<key>NSPinnedDomains</key><dict><key>f.example</key><dict>\
                  <key>NSPinnedCAIdentities</key><array><dict><key>SPKI-SHA256-BASE64</key>";
    let ios = plist(&format!("{pinned}<string>{A}</string></dict></array></dict></dict>"));
    assert!(import(&ios, "ios").fine().contains("(path-ca)"));
    let trustkit = plist(&format!(
        "<key>TSKPinnedDomains</key><dict><key>g.example</key><dict><key>TSKPublicKeyHashes</key>\
         <array><string>{A}</string></array></dict></dict>"
    ));
    let outcome = import(&trustkit, "trustkit");
    assert!(outcome.fine().contains("g.example: 1 pin (chain)"));
    let verified = records.run(&["verify"]).fine();
    assert_eq!(
        verified,
        "records: 6 records of published pins, 6 not expired (0 waived); 0 of presented keys\n"
    );
}

#[test]
fn the_hash_of_a_whole_certificate_is_recognised_with_the_certificate() {
    let records = Records::new();
    let pki = Pki::new(records.0.path());
    pki.ca("ca");
    let path = |file: &str| pki.path(file).to_str().expect("UTF-8").to_owned();
    openssl(&["x509", "-in", &path("ca.pem"), "-outform", "der", "-out", &path("ca.der")]);
    openssl(&["dgst", "-sha256", "-binary", "-out", &path("hash"), &path("ca.der")]);
    let hash = String::from_utf8(openssl(&["base64", "-in", &path("hash")])).expect("base64");
    pki.write("pins", format!("a.example sha256/{hash}"));
    let import = ["import", "--format", "okhttp", "--origin", "x", "pins", "--cert"];
    for file in ["ca.pem", "ca.der"] {
        let outcome = records.run(&[&import[..], &[file]].concat());
        outcome.failed(1, "line 1: this is not the pin of a key but the SHA-256 of the whole certificate of CN=ca");
    }
    records
        .run(&[&import[..], &["ca.key"]].concat())
        .failed(1, "contains no certificate, but a private key");
    assert_eq!(records.lines().len(), 0);
}

#[test]
fn unsafe_or_damaged_directories_are_refused() {
    let records = Records::new();
    let directory = records.0.path().join("records");
    let list = |path: &Path| run(path, &["published", "-d", "records", "list"]);
    let here = records.0.path();
    list(&directory).failed(3, "hpkp published init");

    std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o777)).expect("a mode");
    list(here).failed(1, "other users can write to the directory");
    std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o755)).expect("a mode");
    records.recorded(&["add", "a.example", "--pin", &pin(A), "--origin", "x", "--writer", "w"]);

    // An incomplete last line is ignored with a message; any other damage is an error.
    let file = directory.join("w.jsonl");
    let whole = std::fs::read_to_string(&file).expect("records");
    std::fs::write(&file, format!("{whole}{{\"at\":")).expect("a file");
    let outcome = list(here);
    assert_eq!((outcome.code, outcome.out.lines().count()), (Some(0), 1), "{outcome:?}");
    assert!(outcome.err.contains("w.jsonl: ignored the incomplete last line"), "{outcome:?}");
    assert_eq!(records.json(&["verify"])["torn"], json!(["records/w.jsonl"]));
    std::fs::write(&file, whole.replace("a.example", "b.example")).expect("a file");
    records.run(&["verify"]).failed(1, "w.jsonl\": line 2");

    std::fs::remove_file(directory.join("hpkp-records")).expect("removed");
    list(here).failed(1, "a volume may not be mounted there");
    // `init` reports damaged records before it makes the directory usable again.
    run(here, &["published", "init", "records"]).failed(1, "line 2");
    list(here).failed(1, "a volume may not be mounted there");
    std::fs::write(&file, whole).expect("a file");
    run(here, &["published", "init", "records"]).fine();
    assert_eq!(list(here).fine().lines().count(), 1);
}

#[test]
fn concurrent_writers_lose_no_record() {
    let records = Records::new();
    let children: Vec<_> = (0..8)
        .map(|number| {
            let host = format!("h{number}.example");
            let mut command = crate::hpkp();
            command.current_dir(records.0.path()).stdout(Stdio::null());
            command.args(["published", "-d", "records", "add", &host, "--pin", &pin(A)]);
            command.args(["--origin", "x", "--writer", "shared"]).spawn().expect("the command")
        })
        .collect();
    for mut child in children {
        assert_eq!(child.wait().expect("its end").code(), Some(0));
    }
    assert_eq!(records.lines().len(), 8);
    assert_eq!(records.json(&["verify"])["held"], 8);
}

#[test]
fn waive_and_end_take_hosts_in_place_of_ids() {
    let records = Records::new();
    let add = |host: &str, more: &[&str]| {
        let add = ["add", host, "--pin", &pin(A), "--origin", "x"];
        records.recorded(&[&add[..], more].concat());
    };
    for host in ["a.example", "b.example", "*.example"] {
        add(host, &["--max-age", "60d"]);
    }
    let held = || records.json(&["verify"])["waived"].clone();
    let waive = |hosts: &[&str]| {
        let hosts: Vec<&str> = hosts.iter().flat_map(|host| ["--host", host]).collect();
        records.run(&[&["waive", "--who", "me", "--why", "x"], &hosts[..]].concat())
    };
    waive(&["a.example", "b.example"]).fine();
    assert_eq!(held(), 2);
    // Pins of a pattern that apply to the host are named, and not waived.
    waive(&["c.example"]).failed(1, "pins of *.example apply to it");
    waive(&["d.invalid"]).failed(1, "no recorded pins for d.invalid");
    assert_eq!(held(), 2);
    waive(&["*.example"]).fine();
    assert_eq!(held(), 3);

    // `end --host` does not end pins with a max-age, which clients note at a visit.
    let end = ["end", "--host", "e.example", "--why", "gone"];
    add("e.example", &["--max-age", "60d"]);
    records.run(&end).failed(1, "no recorded pins without a max-age for e.example");
    add("e.example", &[]);
    assert_eq!(records.json(&["verify"])["held"], 5);
    records.run(&end).fine();
    assert_eq!(records.json(&["verify"])["held"], 4);
}

#[test]
fn end_writer_ends_all_records_of_a_writer() {
    let records = Records::new();
    let path = records.0.path().join("records/peers/web-9.jsonl");
    let presents =
        hpkp_core::published::Presents::of_one("a.example".parse().expect("a name"), 443, vec![]);
    let line = |seq| {
        let body = hpkp_core::published::Body::Presents(presents.clone());
        let writer = "web-9".parse().expect("a name");
        format!("{}\n", hpkp_core::published::Event::new(1_700_000_000, seq, writer, body).line())
    };
    std::fs::write(&path, line(1)).expect("a file");
    let presented = || records.json(&["verify"])["presents"].clone();
    assert_eq!(presented(), 1);
    let end = |writers: &[&str]| {
        let writers: Vec<&str> = writers.iter().flat_map(|name| ["--writer", name]).collect();
        records.run(&[&["end", "--why", "gone"], &writers[..]].concat())
    };
    end(&["web-8"]).failed(1, "no record was written by web-8");
    end(&["web-9", "web-8"]).failed(1, "no record was written by web-8");
    assert_eq!(presented(), 1);
    end(&["web-9"]).fine();
    assert_eq!(presented(), 0);
    // A newer record of the writer shows that the writer still exists, so its end no longer counts.
    std::fs::write(&path, line(1) + &line(2)).expect("a file");
    assert_eq!(presented(), 2);
    assert_eq!(records.run(&["end", "--why", "gone"]).code, Some(2));
}
