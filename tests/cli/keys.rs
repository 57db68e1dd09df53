//! `hpkp key`, and private keys in `pin` and `find`: against openssl, real pages, scans and typing mistakes.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use hpkp_tests::pki::{ED448, P256, P521, Pki, RSA, openssl, pki};
use hpkp_tests::{output, succeed};

use crate::records::Records;
use crate::{Outcome, run, run_with};

/// No key has this pin.
const OTHER: &str = "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn first_word(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}

/// The lines of a page that a person types in to restore the key.
fn typed(page: &str) -> String {
    let is_typed = |line: &&str| {
        line.starts_with("end ")
            || line
                .trim_start()
                .split_once(": ")
                .is_some_and(|(number, _)| number.parse::<u8>().is_ok())
    };
    page.lines().filter(is_typed).map(|line| format!("{line}\n")).collect()
}

/// Fails unless the drill restored a key with this pin; other output is ignored.
#[track_caller]
fn restored(outcome: &Outcome, pin: &str) {
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(first_word(outcome.out.lines().nth(1).unwrap_or_default()), pin, "{outcome:?}");
}

#[test]
fn a_new_key_of_each_kind_is_valid_for_openssl() {
    let (dir, pki) = pki();
    for (kind, algorithm) in [
        ("p256", "prime256v1"),
        ("p384", "secp384r1"),
        ("rsa-2048", "2048 bit"),
        ("rsa-3072", "3072 bit"),
        ("rsa-4096", "4096 bit"),
        ("ed25519", "ED25519"),
    ] {
        let file = format!("{kind}.key");
        let arguments = ["key", "new", "--type", kind, "--name", "www.example.com", &file];
        let out = run(dir.path(), &arguments).fine();
        assert_eq!(first_word(&out), format!("sha256/{}", pki.pin(&file)), "{kind}");
        let mode = pki.path(&file).metadata().expect("a file").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{kind}");
        let path = pki.path(&file);
        let text = openssl(&["pkey", "-in", path.to_str().expect("UTF-8"), "-noout", "-text"]);
        assert!(String::from_utf8_lossy(&text).contains(algorithm), "{kind}");
        let csr = pki.path(&format!("{kind}.csr"));
        let csr = csr.to_str().expect("UTF-8");
        let text = openssl(&["req", "-in", csr, "-verify", "-noout", "-text"]);
        // OpenSSL 3.2 and later print "CN=".
        let text = String::from_utf8_lossy(&text).replace("CN = ", "CN=");
        assert!(
            text.contains("CN=www.example.com") && text.contains("DNS:www.example.com"),
            "{text}"
        );
        assert_eq!(first_word(&run(dir.path(), &["pin", csr]).fine()), first_word(&out));
    }
    // The default, as JSON.
    let json = run(dir.path(), &["key", "new", "--json", "k.key"]).json();
    assert_eq!(json["keys"][0]["kind"], "ECDSA P-256");
    assert_eq!(json["keys"][0]["pin"], format!("sha256/{}", pki.pin("k.key")));
    assert_eq!(json["keys"][0]["csr"], serde_json::Value::Null);
}

#[test]
fn a_request_has_all_names() {
    let (dir, pki) = pki();
    let names = ["*.Example.com", "example.com.", "192.0.2.1", "2001:db8::1"];
    let mut arguments = vec!["key", "new", "--csr", "r.pem", "k"];
    names.iter().for_each(|name| arguments.extend(["--name", *name]));
    run(dir.path(), &arguments).fine();
    let csr = pki.path("r.pem");
    let text = openssl(&["req", "-in", csr.to_str().expect("UTF-8"), "-verify", "-noout", "-text"]);
    let text = String::from_utf8_lossy(&text);
    assert!(
        text.contains("DNS:*.example.com, DNS:example.com, IP Address:192.0.2.1, IP Address:2001:DB8:0:0:0:0:0:1"),
        "{text}"
    );
    // A name that is too long for the common name is in the extension all the same.
    let long = format!("{}.example.com", "a".repeat(60));
    run(dir.path(), &["key", "new", "--name", &long, "l.key"]).fine();
    let csr = pki.path("l.csr");
    let text = openssl(&["req", "-in", csr.to_str().expect("UTF-8"), "-noout", "-text"]);
    let text = String::from_utf8_lossy(&text);
    assert!(
        text.contains(&format!("DNS:{long}")) && !text.contains("CN =") && !text.contains("CN="),
        "{text}"
    );
    for name in ["bücher.example", "a b", "", "www.*.com", "a.example,DNS:b.example"] {
        assert_eq!(
            run(dir.path(), &["key", "new", "--name", name, "n.key"]).code,
            Some(2),
            "{name}"
        );
    }
    assert!(!pki.path("n.key").exists());
}

#[test]
fn a_pair_has_a_key_of_each_kind() {
    let (dir, pki) = pki();
    let arguments = [
        "key",
        "new",
        "--pair",
        "--name",
        "a.example",
        "--directives",
        "--paper",
        "p.txt",
        "b.key",
    ];
    let out = run(dir.path(), &arguments).fine();
    for (kind, name) in [("ecdsa", "ECDSA P-256"), ("rsa", "RSA 3072")] {
        let pin = format!("sha256/{}", pki.pin(&format!("b.{kind}.key")));
        assert!(out.contains(&format!("{pin}  private key b.{kind}.key ({name})\n")), "{out}");
        assert!(
            out.contains(&format!("\n    pin {pin};\n"))
                && out.contains(&format!("\n    HPKPPin {pin}\n")),
            "{out}"
        );
        let json = run(dir.path(), &["pin", "--json", &format!("b.{kind}.csr")]).json();
        assert_eq!(json["sources"][0]["chains"][0][0]["pin"], pin);
        restored(
            &run(dir.path(), &["key", "drill", "--pin", &pin, &format!("p.{kind}.txt")]),
            &pin,
        );
    }
    assert_eq!(run(dir.path(), &["key", "new", "--pair", "--type", "p384", "x"]).code, Some(2));
}

#[test]
fn nothing_is_overwritten_and_nothing_half_made_is_left() {
    let (dir, pki) = pki();
    pki.write("taken", "precious");
    symlink("nowhere", pki.path("link")).expect("a link");
    std::fs::create_dir(pki.path("directory")).expect("a directory");
    for taken in ["taken", "link", "directory"] {
        for arguments in [
            &["key", "new", taken][..],
            &["key", "new", "k.key", "--name", "a.example", "--csr", taken],
            &["key", "new", "k.key", "--paper", taken],
            &["key", "drill", "--pin", OTHER, "missing", "--restore", taken],
        ] {
            let outcome = run(dir.path(), arguments);
            outcome.failed(1, &format!("{taken}: exists already"));
            assert_eq!(outcome.out, "");
        }
    }
    assert_eq!(pki.read("taken"), b"precious");
    assert!(!pki.path("nowhere").exists() && !pki.path("k.key").exists());
    run(dir.path(), &["key", "new", "missing/k.key"])
        .failed(3, "cannot create the file: no such file or directory");
    // The second of two files cannot be made, so the first is removed again.
    let outcome = run(dir.path(), &["key", "new", "k.key", "--paper", "taken/page.txt"]);
    assert!(matches!(outcome.code, Some(3)), "{outcome:?}");
    assert!(!pki.path("k.key").exists());
    for arguments in [
        &["key", "new"][..],
        &["key", "new", "-"],
        &["key", "new", "k", "--csr", "r"],
        &["key", "new", "k", "--paper", "k"],
        &["key", "new", "k", "--type", "rsa-1024"],
        &["key", "new", "k", "--type", "dsa"],
        &["key", "drill"],
        &["key", "drill", "-", "-"],
        &["key", "drill", "--pin", "x", "k"],
    ] {
        assert_eq!(run(dir.path(), arguments).code, Some(2), "{arguments:?}");
    }
    assert!(!pki.path("k").exists());
}

#[test]
fn a_full_disk_leaves_no_part_of_a_key() {
    let (dir, pki) = pki();
    // A limit on files is a disk that is full after so many blocks of 512 bytes.
    let script = "trap '' XFSZ; ulimit -f 4; exec \"$0\" \"$@\"";
    let mut shell = Command::new("bash");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_hpkp")]).current_dir(dir.path());
    shell.args(["key", "new", "--paper", "page.txt", "k.key"]).stdin(Stdio::null());
    let outcome = crate::outcome(output(&mut shell));
    outcome.failed(3, "page.txt: cannot create the file: file too large");
    assert!(!pki.path("k.key").exists() && !pki.path("page.txt").exists());
}

#[test]
fn an_encrypted_key_needs_its_passphrase() {
    let (dir, pki) = pki();
    pki.write("good", "correct horse\nsecond line\n");
    pki.write("bad", "wrong\n");
    pki.write("empty", "\nsecond line\n");
    for kind in ["p256", "rsa-2048"] {
        let (file, page) = (format!("{kind}.key"), format!("{kind}.txt"));
        let arguments =
            ["key", "new", "--type", kind, "--passphrase-file", "good", "--paper", &page, &file];
        let out = run(dir.path(), &arguments).fine();
        let pin = first_word(&out);
        assert!(pki.read(&file).starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
        let path = pki.path(&file);
        let path = path.to_str().expect("UTF-8");
        let public = openssl(&["pkey", "-in", path, "-passin", "pass:correct horse", "-pubout"]);
        assert_eq!(first_word(&run_with(&public, &["pin", "-"]).fine()), pin);
        for source in [&file, &page] {
            let drill = |passphrase| {
                run(
                    dir.path(),
                    &["key", "drill", "--pin", pin, "--passphrase-file", passphrase, source],
                )
            };
            restored(&drill("good"), pin);
            drill("bad").failed(1, "the passphrase does not open this key");
            drill("empty").failed(1, "empty: the first line is empty");
            drill("missing").failed(3, "missing: no such file");
        }
        let outcome =
            run(dir.path(), &["pin", "--private-key", "--passphrase-file", "good", &file]);
        assert_eq!(outcome.fine(), format!("{pin}  private key\n"));
        let outcome = run(dir.path(), &["find", pin]);
        assert_eq!(outcome.code, Some(3), "{outcome:?}");
        let outcome = run(dir.path(), &["find", "--passphrase-file", "good", pin]);
        assert!(outcome.out.contains(&format!("private key: ./{file}\n")), "{outcome:?}");
        let outcome = run(dir.path(), &["find", "--passphrase-file", "good", &file, &file]);
        assert!(outcome.out.contains(&format!("private key: {file}\n")), "{outcome:?}");
    }
    run(dir.path(), &["key", "new", "--passphrase-file", "empty", "k"])
        .failed(1, "the first line is empty");
    assert!(!pki.path("k").exists());
}

#[test]
fn a_key_encrypted_by_openssl_needs_its_passphrase() {
    let (dir, pki) = pki();
    pki.write("good", "correct horse\nsecond line\n");
    pki.write("bad", "wrong\n");
    // The traditional PEM form, and a PKCS #12 container.
    pki.ca("ca");
    let key = pki.path("ca.key");
    let key = key.to_str().expect("UTF-8");
    let old = openssl(&["ec", "-in", key, "-aes128", "-passout", "pass:correct horse"]);
    pki.write("old.key", old);
    let certificate = pki.path("ca.pem");
    let certificate = certificate.to_str().expect("UTF-8");
    let container = openssl(&[
        "pkcs12",
        "-export",
        "-inkey",
        key,
        "-in",
        certificate,
        "-passout",
        "pass:correct horse",
    ]);
    pki.write("ca.p12", container);
    let pin = format!("sha256/{}", pki.pin("ca.pem"));
    for file in ["old.key", "ca.p12"] {
        restored(
            &run(dir.path(), &["key", "drill", "--pin", &pin, "--passphrase-file", "good", file]),
            &pin,
        );
        run(dir.path(), &["key", "drill", "--pin", &pin, "--passphrase-file", "bad", file])
            .failed(1, "passphrase");
        let outcome = run(dir.path(), &["find", "--passphrase-file", "good", &pin]);
        assert!(outcome.out.contains(&format!("private key: ./{file}\n")), "{outcome:?}");
    }
}

/// Runs the command on a terminal of its own, on which `input` is typed.
fn on_a_terminal(directory: &Path, input: &str, arguments: &str) -> String {
    let command = format!("{} {arguments}; echo code $?", env!("CARGO_BIN_EXE_hpkp"));
    let mut script = Command::new("bash");
    // Each line is typed after a pause, when the prompt is there.
    let typing =
        "while IFS= read -r line; do sleep 0.5; printf '%s\\n' \"$line\"; done <<<\"$1\"; sleep 1";
    script
        .current_dir(directory)
        .args(["-c", &format!("{{ {typing}; }} | script -qec \"$0\" /dev/null"), &command, input])
        .stdin(Stdio::null());
    String::from_utf8_lossy(&succeed(&mut script)).into_owned()
}

#[test]
fn a_passphrase_is_typed_twice_on_a_terminal() {
    let (dir, pki) = pki();
    let outcome = on_a_terminal(dir.path(), "opensesame\nopensesame", "key new --passphrase k");
    assert!(outcome.contains("code 0"), "{outcome}");
    pki.write("passphrase", "opensesame");
    let outcome =
        run(dir.path(), &["pin", "--private-key", "--passphrase-file", "passphrase", "k"]);
    let out = outcome.fine();
    let outcome =
        on_a_terminal(dir.path(), "opensesame", &format!("key drill --pin {} k", first_word(&out)));
    assert!(outcome.contains("the key can be restored") && outcome.contains("code 0"), "{outcome}");
    let outcome = on_a_terminal(dir.path(), "opensesame\nopensezame", "key new --passphrase l");
    assert!(outcome.contains("differ") && outcome.contains("code 1"), "{outcome}");
    assert!(!pki.path("l").exists());
    // Without a terminal the command cannot ask for a passphrase.
    let mut command = Command::new("setsid");
    command
        .args(["-w", env!("CARGO_BIN_EXE_hpkp"), "key", "new", "--passphrase", "l"])
        .current_dir(dir.path());
    crate::outcome(output(command.stdin(Stdio::null()))).failed(2, "--passphrase-file");
    // A line that is typed with a mistake is reported at once.
    run(dir.path(), &["key", "new", "--paper", "page", "m.key"]).fine();
    let page = String::from_utf8(pki.read("page")).expect("UTF-8");
    let lines = typed(&page);
    let second = lines.lines().nth(1).expect("a line");
    let wrong = second.replacen(": ", ": zz", 1);
    let lines = lines.replacen(second, &format!("{wrong}\n{second}"), 1);
    let outcome =
        on_a_terminal(dir.path(), lines.trim_end(), &format!("key drill --pin {OTHER} -"));
    assert!(outcome.contains("line 2: ") && outcome.contains("type that line again"), "{outcome}");
    assert!(outcome.contains(&pki.pin("m.key")) && outcome.contains("code 1"), "{outcome}");
}

#[test]
fn a_page_of_text_restores_the_key() {
    let (dir, pki) = pki();
    for kind in ["p256", "p384", "rsa-2048", "ed25519"] {
        let (file, page) = (format!("{kind}.key"), format!("{kind}.txt"));
        let out = run(dir.path(), &["key", "new", "--type", kind, "--paper", &page, &file]).fine();
        let pin = first_word(&out);
        let text = String::from_utf8(pki.read(&page)).expect("UTF-8");
        assert_eq!(pki.path(&page).metadata().expect("a page").permissions().mode() & 0o777, 0o600);
        restored(&run(dir.path(), &["key", "drill", "--pin", pin, &page]), pin);
        let copy = format!("{kind}.restored");
        let outcome = run_in(
            dir.path(),
            typed(&text).as_bytes(),
            &["key", "drill", "--pin", pin, "--restore", &copy, "-"],
        );
        restored(&outcome, pin);
        assert_eq!(pki.read(&copy), pki.read(&file));
        assert_eq!(pki.path(&copy).metadata().expect("a key").permissions().mode() & 0o777, 0o600);
    }
    // With `--paper -` the page goes to standard output, for a printer, and to no file.
    let outcome = run(dir.path(), &["key", "new", "--paper", "-", "k.key"]);
    let pin = format!("sha256/{}", pki.pin("k.key"));
    assert!(outcome.code == Some(0) && outcome.err.contains(&pin), "{outcome:?}");
    restored(&run_with(outcome.out.as_bytes(), &["key", "drill", "--pin", &pin, "-"]), &pin);
}

/// Runs the command in a directory with `input` on standard input.
fn run_in(directory: &Path, input: &[u8], arguments: &[&str]) -> Outcome {
    let file = directory.join("standard-input");
    std::fs::write(&file, input).expect("a file");
    let stdin = std::fs::File::open(&file).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_hpkp"));
    crate::outcome(output(command.current_dir(directory).args(arguments).stdin(stdin)))
}

#[test]
fn a_typing_mistake_is_found_at_its_line() {
    let (dir, pki) = pki();
    run(dir.path(), &["key", "new", "--paper", "page", "k.key"]).fine();
    let lines = typed(&String::from_utf8(pki.read("page")).expect("UTF-8"));
    let pin = format!("sha256/{}", pki.pin("k.key"));
    let drill = |text: &str| run_with(text.as_bytes(), &["key", "drill", "--pin", &pin, "-"]);
    restored(&drill(&lines), &pin);
    restored(&drill(&lines.to_uppercase().replace(": ", ":\t").replace('\n', "\r\n")), &pin);
    let all: Vec<&str> = lines.lines().collect();
    for (number, line) in (1..).zip(&all) {
        let label =
            if line.starts_with("end") { "end".to_owned() } else { format!("line {number}: ") };
        let (before, last) = line.split_at(line.len() - 1);
        let other = if last == "0" { "1" } else { "0" };
        let outcome = drill(&lines.replacen(line, &format!("{before}{other}"), 1));
        outcome.failed(1, &label);
        assert_eq!(outcome.err.lines().count(), 1, "{outcome:?}");
        let missing = lines.replacen(&format!("{line}\n"), "", 1);
        let outcome = drill(&missing);
        outcome.failed(
            1,
            if line.starts_with("end") { "begins with \"end\"" } else { "missing: line " },
        );
        let short = lines.replacen(line, before, 1);
        drill(&short).failed(1, &label);
    }
    // Two mistakes are two messages.
    let outcome = drill(&lines.replacen(": ", ": 0", 2));
    outcome.failed(1, "line 1: ");
    outcome.failed(1, "line 2: ");
    drill(&all[..3].join("\n")).failed(1, "begins with \"end\"");
    drill("").failed(1, "empty");
    drill("hello\n").failed(1, "not a private key");
    // Lines of two keys.
    run(dir.path(), &["key", "new", "--paper", "page2", "l"]).fine();
    let other = typed(&String::from_utf8(pki.read("page2")).expect("UTF-8"));
    let mixed = [&all[..3], &other.lines().skip(3).collect::<Vec<_>>()].concat().join("\n");
    drill(&mixed).failed(1, "different pages");
    run(dir.path(), &["key", "drill", "--pin", &pin, "page", "page2"])
        .failed(2, "more than one key");
}

/// The sheets of a page as pictures, as a printer and a scanner would make them.
fn scanned(pki: &Pki, pdf: &str, form: &str, dpi: &str) -> Vec<String> {
    let place = format!("scan-{pdf}-{form}-{dpi}");
    std::fs::create_dir(pki.path(&place)).expect("a directory");
    succeed(Command::new("pdftoppm").current_dir(pki.path("")).args([
        "-r",
        dpi,
        &format!("-{form}"),
        pdf,
        &format!("{place}/sheet"),
    ]));
    let files = std::fs::read_dir(pki.path(&place)).expect("a directory");
    let mut files: Vec<String> = files
        .map(|file| format!("{place}/{}", file.expect("an entry").file_name().to_string_lossy()))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

#[test]
fn scans_of_the_page_restore_the_key() {
    let (dir, pki) = pki();
    pki.write("passphrase", "correct horse");
    let out =
        run(dir.path(), &["key", "new", "--paper", "a.pdf", "--name", "a.example", "a.key"]).fine();
    let pin = first_word(&out);
    for (form, dpi) in [("png", "300"), ("png", "100"), ("jpeg", "150")] {
        let files = scanned(&pki, "a.pdf", form, dpi);
        let drill = ["key", "drill", "--pin", pin, &files[0]];
        let outcome = run(dir.path(), &drill);
        restored(&outcome, pin);
        assert!(outcome.out.contains("from a QR code"));
        let copy = format!("{form}-{dpi}.key");
        run(dir.path(), &[&drill[..], &["--restore", &copy]].concat()).fine();
        assert_eq!(pki.read(&copy), pki.read("a.key"));
    }
    run(dir.path(), &["key", "drill", "--pin", pin, "a.pdf"]).failed(1, "pdftoppm");

    // A long key is in several codes, on several sheets.
    let arguments = [
        "key",
        "new",
        "--type",
        "rsa-2048",
        "--passphrase-file",
        "passphrase",
        "--paper",
        "b.pdf",
        "b.key",
    ];
    let out = run(dir.path(), &arguments).fine();
    let pin = first_word(&out);
    let sheets = scanned(&pki, "b.pdf", "png", "100");
    assert!(sheets.len() > 2);
    let drill = |sheets: &[String]| {
        let mut arguments = vec!["key", "drill", "--pin", pin, "--passphrase-file", "passphrase"];
        arguments.extend(sheets.iter().map(String::as_str));
        run(dir.path(), &arguments)
    };
    restored(&drill(&sheets), pin);
    let backwards: Vec<String> = sheets.iter().rev().cloned().collect();
    restored(&drill(&backwards), pin);
    drill(&sheets[1..]).failed(1, "missing: QR code");
    // With a part of another key.
    let mixed = [&sheets[..1], &scanned(&pki, "a.pdf", "png", "120")].concat();
    drill(&mixed).failed(2, "more than one key");
}

#[test]
fn a_damaged_scan_is_reported() {
    let (dir, pki) = pki();
    let out = run(dir.path(), &["key", "new", "--paper", "a.pdf", "a.key"]).fine();
    let pin = first_word(&out);
    let scan = &scanned(&pki, "a.pdf", "png", "100")[0];
    let drill = |file: &str| run(dir.path(), &["key", "drill", "--pin", pin, file]);
    restored(&drill(scan), pin);
    // Cut off, and with bytes changed.
    let whole = pki.read(scan);
    pki.write("cut.png", &whole[..whole.len() / 2]);
    drill("cut.png").failed(1, "damaged or truncated");
    for place in (50..whole.len()).step_by(whole.len() / 8) {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x55;
        pki.write("damaged.png", &damaged);
        let outcome = drill("damaged.png");
        assert!(matches!(outcome.code, Some(0 | 1)), "{outcome:?}");
        assert!(outcome.err.lines().all(|line| line.starts_with("hpkp: ")), "{outcome:?}");
    }
    // A picture without a code, and a file that only begins as a picture.
    pki.write("empty.pdf", blank_pdf());
    let blank = &scanned(&pki, "empty.pdf", "png", "60")[0];
    drill(blank).failed(1, "no QR code found");
    for start in [&b"\x89PNG\r\n\x1a\n"[..], b"\xff\xd8\xff\xe0"] {
        pki.write("start", start);
        drill("start").failed(1, "damaged or truncated");
    }
    // A huge picture in a few bytes.
    let mut bomb = whole;
    bomb[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    pki.write("bomb.png", &bomb);
    assert_eq!(drill("bomb.png").code, Some(1));
}

/// A page with nothing on it.
fn blank_pdf() -> &'static str {
    "%PDF-1.1\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n\
     3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]>>endobj\ntrailer<</Root 1 0 R>>\n"
}

#[test]
fn a_drill_names_the_holders_of_the_pin() {
    let records = Records::new();
    let directory = records.0.path();
    let out = run(directory, &["key", "new", "backup.key"]).fine();
    let pin = first_word(&out);
    let drill = |more: &[&str]| {
        run(directory, &[&["key", "drill", "-d", "records", "backup.key"], more].concat())
    };

    // No client holds the pin yet; this drill is recorded too.
    let outcome = drill(&[]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(
        outcome.out.starts_with("no: ") && outcome.out.contains("recorded: records/hpkp-drills\n"),
        "{outcome:?}"
    );

    records.recorded(&[
        "add",
        "www.example.com",
        "--pin",
        pin,
        "--pin",
        OTHER,
        "--origin",
        "app 1",
    ]);
    let outcome = drill(&[]);
    restored(&outcome, pin);
    assert!(
        outcome.out.starts_with("yes: ") && outcome.out.contains("  www.example.com: 2 pins"),
        "{outcome:?}"
    );
    let json = drill(&["--json", "--no-record"]).json();
    assert_eq!(
        (&json["matches"], &json["held"][0]["host"]),
        (&true.into(), &"www.example.com".into())
    );
    assert_eq!(json["recorded"], serde_json::Value::Null);
    // With `--pin`, the key must have that pin too.
    restored(&drill(&["--pin", pin]), pin);
    assert_eq!(drill(&["--pin", OTHER, "--no-record"]).code, Some(1));

    let text = std::fs::read_to_string(directory.join("records/hpkp-drills")).expect("drills");
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let matched: Vec<bool> =
        lines.iter().map(|line| line["matches"].as_bool().expect("a truth")).collect();
    assert_eq!(matched, [false, true, true]);
    assert_eq!((&lines[1]["pin"], &lines[1]["hosts"][0]), (&pin.into(), &"www.example.com".into()));
    // Readers of the records ignore the file of drills.
    records.run(&["verify"]).fine();
}

/// TLSA records may contain the whole key or its SHA-512 hash in place of the SHA-256 hash, which is the pin.
#[test]
fn a_drill_finds_the_key_in_tlsa_records() {
    let records = Records::new();
    let directory = records.0.path();
    let pki = Pki::new(directory);
    let public = run(directory, &["key", "new", "tlsa.key"]).fine();
    let key = pki.path("tlsa.key");
    let der = openssl(&["pkey", "-in", key.to_str().expect("UTF-8"), "-pubout", "-outform", "der"]);
    let digits: String = der.iter().map(|byte| format!("{byte:02x}")).collect();
    pki.write("zone", format!("_443._tcp.tlsa.example. 3600 IN TLSA 3 1 0 {digits}\n"));
    records.run(&["import", "--format", "tlsa", "--origin", "zone", "zone"]).fine();
    let outcome = run(directory, &["key", "drill", "-d", "records", "tlsa.key"]);
    restored(&outcome, first_word(&public));
}

#[test]
fn a_drill_reports_what_it_cannot_read_or_record() {
    let records = Records::new();
    let directory = records.0.path();
    let out = run(directory, &["key", "new", "backup.key"]).fine();
    let pin = first_word(&out);
    records.recorded(&["add", "www.example.com", "--pin", pin, "--origin", "app 1"]);
    let drill = || run(directory, &["key", "drill", "-d", "records", "backup.key"]);
    restored(&drill(), pin);

    // Records that cannot be read leave the answer open.
    let outcome = run(directory, &["key", "drill", "-d", "missing", "backup.key"]);
    outcome.failed(3, "missing");
    outcome.failed(3, pin);
    std::fs::write(directory.join("records/broken.jsonl"), "nonsense\n").expect("a file");
    drill().failed(1, "broken.jsonl");
    std::fs::remove_file(directory.join("records/broken.jsonl")).expect("removed");
    // A drill that cannot be recorded is an error, though the key matches.
    std::fs::remove_file(directory.join("records/hpkp-drills")).expect("removed");
    symlink("/dev/null", directory.join("records/hpkp-drills")).expect("a link");
    let outcome = drill();
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert!(
        outcome.out.starts_with("yes: ") && outcome.err.contains("the drill is not recorded"),
        "{outcome:?}"
    );
}

#[test]
fn files_without_a_private_key_are_reported() {
    let (dir, pki) = pki();
    pki.ca("ca");
    pki.request("ca", "/CN=x");
    let key = pki.path("ca.key");
    let key = key.to_str().expect("UTF-8");
    pki.write("public", openssl(&["pkey", "-in", key, "-pubout"]));
    pki.write("public.der", openssl(&["pkey", "-in", key, "-pubout", "-outform", "der"]));
    pki.write("empty", " \n");
    pki.write("cut", &pki.read("ca.key")[..150]);
    pki.write("random", [0x30, 0x82, 0x01, 0x00, 0x02, 0x01].repeat(60));
    pki.write("binary", [0_u8, 0xff, 0x80].repeat(200));
    let damaged = String::from_utf8(pki.read("ca.key")).expect("PEM").replacen("MIG", "M!G", 1);
    pki.write("damaged", damaged);
    let sparse = std::fs::File::create(pki.path("huge")).expect("a file");
    sparse.set_len(1 << 40).expect("a hole");
    pki.write("large", vec![b'x'; 2 << 20]);
    let ssh = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n";
    pki.write("ssh", ssh);
    for (file, code, text) in [
        ("ca.pem", 1, "contains a certificate, not a private key"),
        ("ca.csr", 1, "contains a certificate signing request"),
        ("public", 1, "contains a public key"),
        ("public.der", 1, "contains a public key"),
        ("empty", 1, "empty"),
        ("cut", 1, "truncated"),
        ("random", 1, "damaged"),
        ("binary", 1, "not a private key"),
        ("damaged", 1, "damaged"),
        ("huge", 1, "larger than 64 MiB"),
        ("large", 1, "larger than 1 MiB"),
        ("ssh", 1, "OpenSSH"),
        ("missing", 3, "no such file"),
        (".", 3, "is a directory"),
    ] {
        let outcome = run(dir.path(), &["key", "drill", "--pin", OTHER, file]);
        outcome.failed(code, &format!("{file}: "));
        outcome.failed(code, text);
        assert_eq!(outcome.out, "");
    }
    // Through a link, and from a pipe.
    symlink("ca.key", pki.path("link")).expect("a link");
    let pin = format!("sha256/{}", pki.pin("ca.key"));
    restored(&run(dir.path(), &["key", "drill", "--pin", &pin, "link"]), &pin);
    restored(&run_with(&pki.read("ca.key"), &["key", "drill", "--pin", &pin, "-"]), &pin);
}

#[test]
fn a_private_key_that_does_not_match_its_public_key_is_not_restored() {
    let (dir, pki) = pki();
    let out = run(dir.path(), &["key", "new", "k"]).fine();
    let key = pki.path("k");
    let mut der = openssl(&["pkey", "-in", key.to_str().expect("UTF-8"), "-outform", "der"]);
    // The private number is the byte string of 32 bytes; the public point follows.
    let place = der.windows(2).position(|pair| pair == [0x04, 0x20]).expect("the private number");
    der[place + 20] ^= 1;
    pki.write("damaged", &der);
    let outcome = run(dir.path(), &["key", "drill", "--pin", first_word(&out), "damaged"]);
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(1), ""), "{outcome:?}");
    let outcome = run(dir.path(), &["pin", "--private-key", "damaged"]);
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(1), ""), "{outcome:?}");
}

#[test]
fn pins_of_private_keys_need_the_option_private_key() {
    let (dir, pki) = pki();
    pki.ca("ca");
    pki.leaf("leaf", "localhost", "ca");
    pki.bundle("haproxy.pem", &["leaf.pem", "ca.pem", "leaf.key"]);
    for (name, kind) in [("rsa", RSA), ("p521", P521), ("ed448", ED448), ("p256", P256)] {
        let key = pki.key(name, kind);
        let key = key.to_str().expect("UTF-8");
        let pin = format!("sha256/{}", pki.pin(&format!("{name}.key")));
        pki.write("der", openssl(&["pkey", "-in", key, "-outform", "der"]));
        for file in [&format!("{name}.key"), "der"] {
            let outcome = run(dir.path(), &["pin", file]);
            outcome.failed(1, "--private-key");
            assert_eq!(
                run(dir.path(), &["pin", "--private-key", file]).fine(),
                format!("{pin}  private key\n")
            );
        }
        let outcome = run_with(&pki.read(&format!("{name}.key")), &["pin", "--private-key", "-"]);
        assert_eq!(outcome.fine(), format!("{pin}  private key\n"));
    }
    let out = run(dir.path(), &["pin", "--private-key", "haproxy.pem"]).fine();
    let pins: Vec<&str> = out.lines().map(first_word).collect();
    let [leaf, ca] = ["leaf.pem", "ca.pem"].map(|file| format!("sha256/{}", pki.pin(file)));
    assert_eq!(pins, [&leaf, &ca, &leaf]);
    assert!(out.ends_with("  private key\n") && out.contains("CN=localhost"));
    // Other files are read as always.
    assert_eq!(first_word(&run(dir.path(), &["pin", "--private-key", "ca.pem"]).fine()), ca);
}

/// Parts of a key that must not be printed: each run of 16 characters of its base64, and of 8 bytes in hexadecimal.
fn secrets(pki: &Pki, file: &str) -> Vec<String> {
    let pem = String::from_utf8(pki.read(file)).expect("PEM");
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let key = pki.path(file);
    let text = openssl(&["pkey", "-in", key.to_str().expect("UTF-8"), "-noout", "-text"]);
    let text = String::from_utf8(text).expect("text");
    // Only the text before the public key.
    let private = text.split("pub:").next().unwrap_or_default();
    let hex: String =
        private.chars().filter(char::is_ascii_hexdigit).collect::<String>().to_lowercase();
    let windows = |text: &str, length: usize| -> Vec<String> {
        (0..text.len().saturating_sub(length))
            .map(|start| text[start..start + length].to_owned())
            .collect()
    };
    [windows(&base64, 16), windows(&hex, 16)].concat()
}

/// The names of files with different forms of the key `k`.
const FORMS: [&str; 14] = [
    "k",
    "der",
    "traditional",
    "encrypted",
    "labelled",
    "public-label",
    "no-lines",
    "cut",
    "damaged",
    "joined",
    "typed",
    "mistyped",
    "numberless",
    "page",
];

/// Writes the forms that do not exist yet.
fn write_forms(pki: &Pki, typed: &str) {
    let key = pki.path("k");
    let key = key.to_str().expect("UTF-8");
    let pem = String::from_utf8(pki.read("k")).expect("PEM");
    pki.write("der", openssl(&["pkey", "-in", key, "-outform", "der"]));
    pki.write("traditional", openssl(&["pkey", "-in", key, "-traditional"]));
    pki.write(
        "encrypted",
        openssl(&["pkcs8", "-topk8", "-in", key, "-passout", "pass:correct horse"]),
    );
    pki.write("labelled", pem.replace("PRIVATE KEY", "CERTIFICATE"));
    pki.write("public-label", pem.replace("PRIVATE KEY", "PUBLIC KEY"));
    pki.write(
        "no-lines",
        pem.lines().filter(|line| !line.starts_with('-')).collect::<Vec<_>>().join("\n"),
    );
    pki.write("cut", &pem[..pem.len() - 40]);
    pki.write("damaged", pem.replacen("MIG", "M!G", 1));
    pki.write("joined", pem.replace('\n', ""));
    pki.write("typed", typed);
    pki.write("mistyped", typed.replacen(": ", ": u", 3));
    pki.write("numberless", typed.replace(": ", " "));
}

/// The output of all commands that read a file, for a file with a key.
fn output_of_all_commands(directory: &Path, file: &str) -> String {
    let mut outcome = String::new();
    let input = std::fs::read(directory.join(file)).expect("a file");
    for arguments in [
        &["pin", file][..],
        &["pin", "--private-key", "--passphrase-file", "good", file],
        &["pin", "--private-key", "--passphrase-file", "bad", file, "--json"],
        &["find", file, "."],
        &["find", "--passphrase-file", "good", file, ".", "--json"],
        &["find", "--passphrase-file", "bad", file],
        &["key", "drill", "--passphrase-file", "good", "-d", "records", file],
        &["key", "drill", "--passphrase-file", "bad", "--pin", OTHER, file],
        &["key", "drill", "--passphrase-file", "good", "--pin", OTHER, "--json", file],
        &["parse", "x", "--chain", file],
        &["published", "-d", "records", "why", "a.example", "--cert", file],
        &["published", "-d", "records", "compromised", "--why", "x", file],
        &["published", "-d", "records", "import", "--origin", "x", file],
        &["published", "-d", "records", "import", "--format", "okhttp", "--origin", "x", file],
    ] {
        let one = run(directory, arguments);
        assert!(one.code.is_some_and(|code| code <= 3), "{arguments:?}: {one:?}");
        outcome.push_str(&format!("{arguments:?}\n{}{}", one.out, one.err));
    }
    for arguments in [
        &["pin", "-"][..],
        &["pin", "--private-key", "-"],
        &["key", "drill", "--pin", OTHER, "--passphrase-file", "/dev/null", "-"],
        &["published", "-d", "records", "import", "--origin", "x", "-"],
        &["parse", "-"],
    ] {
        // Base64 without a PEM label is an ordinary value for `parse`, which prints it.
        if arguments[0] == "parse" && !input.windows(11).any(|part| part == b"PRIVATE KEY") {
            continue;
        }
        let one = run_in(directory, &input, arguments);
        outcome.push_str(&format!("{file} | {arguments:?}\n{}{}", one.out, one.err));
    }
    outcome
}

#[test]
fn no_part_of_a_key_is_printed() {
    let records = Records::new();
    let directory = records.0.path();
    let pki = Pki::new(directory);
    pki.write("good", "correct horse\n");
    pki.write("bad", "battery staple\n");
    run(directory, &["key", "new", "--paper", "page", "k"]).fine();
    let page = String::from_utf8(pki.read("page")).expect("UTF-8");
    let typed = typed(&page);
    let mut secret = secrets(&pki, "k");
    secret.extend(
        typed
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(_, line)| line[..19.min(line.len())].to_owned()),
    );
    secret.extend(["correct horse", "battery staple"].map(str::to_owned));
    write_forms(&pki, &typed);
    let mut outcome: String =
        FORMS.iter().map(|form| output_of_all_commands(directory, form)).collect();
    outcome
        .push_str(&std::fs::read_to_string(directory.join("records/hpkp-drills")).expect("drills"));
    let lower = outcome.to_lowercase().replace(':', "");
    for secret in secret {
        for text in [&outcome, &lower] {
            if let Some(place) = text.find(&secret) {
                // The text of the failure starts at the arguments of that run.
                let start = text[..place].rfind("\n[").or_else(|| text[..place].rfind(" | ["));
                panic!("{secret:?} is in {:?}", &text[start.unwrap_or(0)..place]);
            }
        }
    }
}

#[test]
fn ml_dsa_keys_need_an_openssl_that_supports_them() {
    let (dir, pki) = pki();
    let outcome =
        run(dir.path(), &["key", "new", "--type", "ml-dsa-65", "--paper", "page", "k.key"]);
    let has = succeed(Command::new("openssl").args(["list", "-public-key-algorithms"]));
    if String::from_utf8_lossy(&has).contains("ML-DSA-65") {
        let out = outcome.fine();
        assert_eq!(first_word(&out), format!("sha256/{}", pki.pin("k.key")));
        restored(
            &run(dir.path(), &["key", "drill", "--pin", first_word(&out), "page"]),
            first_word(&out),
        );
    } else {
        outcome.failed(3, "ML-DSA-65 needs OpenSSL 3.5 or later");
        assert!(!pki.path("k.key").exists());
    }
}
