//! `hpkp check`: configurations of all kinds, with real certificates. The tests of
//! the servers also run it: each configuration that they write must get the same findings from both.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use hpkp_tests::pki::{P256, Pki, leaf_extensions};
use serde_json::Value;

use crate::{Outcome, run, run_with};

const HOST: &str = "www.example.com";

/// A directory with a CA, a certificate `live` for [`HOST`], another one, and a request `backup`.
fn site() -> (tempfile::TempDir, Pki) {
    let directory = tempfile::tempdir().expect("a directory");
    let pki = Pki::new(directory.path());
    pki.ca("ca");
    pki.leaf("live", HOST, "ca");
    pki.leaf("other", HOST, "ca");
    pki.key("backup", P256);
    pki.request("backup", "/CN=backup");
    (directory, pki)
}

fn json(directory: &Path, arguments: &[&str]) -> (Option<i32>, Value) {
    let outcome = run(directory, &[&["check", "--json"], arguments].concat());
    (outcome.code, outcome.json())
}

/// The codes, each with the class and the first host.
fn found(report: &Value) -> BTreeSet<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let findings = report["findings"].as_array().expect("findings").iter();
    findings
        .map(|finding| (text(&finding["code"]), text(&finding["hosts"][0])))
        .filter(|(code, _)| code != "published-pins-no-writer")
        .collect()
}

fn codes(report: &Value) -> Vec<String> {
    let codes: BTreeSet<String> = found(report).into_iter().map(|(code, _)| code).collect();
    codes.into_iter().collect()
}

#[track_caller]
fn is(directory: &Path, arguments: &[&str], exit: i32, expected: &[&str]) -> Value {
    let (code, report) = json(directory, arguments);
    assert_eq!(
        (code, codes(&report)),
        (Some(exit), expected.iter().map(|c| (*c).into()).collect()),
        "{report:#}"
    );
    report
}

fn policy_file(pki: &Pki, more: &str) {
    let policy =
        "[policy.site]\npin = [\"file:live.pem\", \"file:backup.csr\"]\nmax_age = \"1d\"\n";
    pki.write("pins.toml", format!("{policy}{more}"));
}

#[test]
fn certificates_against_a_policy_file() {
    let (directory, pki) = site();
    let at = directory.path();
    policy_file(&pki, "");
    let check = |cert: &str| run(at, &["check", "--config", "pins.toml", "--cert", cert]);
    assert!(check("live.pem").out.ends_with("pass: compared 1 TLS server with 1 policy\n"));
    let refused = check("other.pem");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.out.starts_with("hpkp: [no-pin-in-chain] www.example.com: "), "{refused:?}");
    // No server is running, so the message does not mention one.
    assert!(!refused.out.contains("nothing was changed"), "{refused:?}");
    // Relative paths in a policy file start at the directory of that file, not at the working directory.
    let (file, cert) = (at.join("pins.toml"), at.join("live.pem"));
    let arguments = ["check", "--config", file.to_str().expect("UTF-8"), "--cert"];
    let outcome = run(Path::new("/"), &[&arguments[..], &[cert.to_str().expect("UTF-8")]].concat());
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let report = is(at, &["--config", "pins.toml", "--cert", "other.pem"], 1, &["no-pin-in-chain"]);
    assert_eq!(report["answer"], "refused");
    assert_eq!(report["findings"][0]["answer"], "refuse");
    // Certificates of one server, such as RSA and ECDSA: each has to satisfy the policy.
    let both = ["--config", "pins.toml", "--cert", "live.pem", "--cert", "other.pem"];
    let report = is(at, &both, 1, &["no-pin-in-chain"]);
    assert_eq!(report["servers"].as_array().map(Vec::len), Some(1));
}

#[test]
fn servers_of_a_policy_file() {
    let (directory, pki) = site();
    let server =
        "[[server]]\nname = \"www.example.com\"\ncertificate = \"live.pem\"\nhpkp = \"site\"\n";
    policy_file(&pki, server);
    let report = is(directory.path(), &["--config", "pins.toml"], 0, &[]);
    assert_eq!(report["servers"][0]["names"][0], HOST);
    policy_file(&pki, &server.replace("live", "other"));
    is(directory.path(), &["--config", "pins.toml"], 1, &["no-pin-in-chain"]);
    // `--cert` replaces the configured certificate.
    is(directory.path(), &["--config", "pins.toml", "--cert", "live.pem"], 0, &[]);
    policy_file(&pki, &server.replace("live", "missing"));
    is(directory.path(), &["--config", "pins.toml"], 3, &["unreadable-certificate"]);
    policy_file(&pki, &server.replace("\"site\"", "\"sit\""));
    is(directory.path(), &["--config", "pins.toml"], 1, &["unknown-policy"]);
    policy_file(&pki, &server.replace("hpkp = ", "report_only = "));
    is(directory.path(), &["--config", "pins.toml"], 1, &["report-only-without-report-uri"]);
}

#[test]
fn errors_in_a_policy_file_have_their_line() {
    let (directory, pki) = site();
    for (text, line, message) in [
        ("[policy.site]\nmax-age = 3\n", 2, "unknown key \"max-age\" in a policy"),
        ("\nhpkp_polcy = 3\n", 2, "unknown key \"hpkp_polcy\""),
        ("[[server]]\nname = \"a.example\"\ncert = \"x\"\n", 3, "unknown key \"cert\" in a server"),
        ("[policy.site]\npin = 3.5\n", 2, "invalid value of \"pin\""),
        ("[policy.site]\nmax_age = \"1d\n", 2, "invalid TOML"),
        ("[policy.off]\n", 1, "invalid policy name"),
        ("[policy.a]\nmax_age = \"1d\"\nmax_age = 3\n", 3, "duplicate"),
        ("[[server]]\nname = \"a.example\"\n", 1, "no certificate"),
        ("check = \"maybe\"\n", 1, "\"refuse\" or \"warn\""),
    ] {
        pki.write("pins.toml", text);
        let report = is(
            directory.path(),
            &["--config", "pins.toml", "--cert", "live.pem"],
            1,
            &["invalid-configuration"],
        );
        let finding = &report["findings"][0];
        let summary = finding["summary"].as_str().unwrap_or_default();
        assert!(summary.contains(message), "{text}: {finding}");
        assert_eq!(finding["line"], line, "{text}: {finding}");
    }
    pki.write("pins.toml", "[policy.site]\npin = [\"file:live.pem\",\n  \"sha256/AAA=\"]\n");
    let report = is(
        directory.path(),
        &["--config", "pins.toml", "--cert", "live.pem"],
        1,
        &["malformed-pin"],
    );
    assert_eq!(report["findings"][0]["line"], 3);
}

#[test]
fn certificates_against_published_pins_alone() {
    let (directory, pki) = site();
    let at = directory.path();
    pki.records("records");
    let pin = pki.pin("live.pem");
    let pin = format!("sha256/{pin}");
    let add = ["published", "-d", "records", "add", HOST, "--origin", "app 1", "--pin", &pin];
    assert_eq!(run(at, &add).code, Some(0));
    let before = listing(&at.join("records"));
    let with = |cert| ["--published", "records", "--roots", "ca.pem", "--cert", cert];
    is(at, &with("live.pem"), 0, &[]);
    let report = is(at, &with("other.pem"), 1, &["published-pins-unmet"]);
    assert_eq!(report["published"], true);
    assert_eq!(before, listing(&at.join("records")), "something was written");
    let nowhere = ["--published", "nowhere", "--cert", "live.pem"];
    is(at, &nowhere, 3, &["records-unreadable"]);

    // The output names what was compared and what was not. Without `--published` the directory is /var/lib/hpkp.
    let outcome = run(at, &[&["check"], &with("live.pem")[..]].concat());
    assert!(
        outcome
            .out
            .contains("the published pins in records, and not with the policies of a server\n"),
        "{outcome:?}"
    );
    let outcome = run(at, &["check", "--cert", "live.pem"]);
    assert!(
        matches!(outcome.code, Some(0 | 3)) && outcome.out.contains("/var/lib/hpkp"),
        "{outcome:?}"
    );
}

/// The files of a directory, with their lengths and times.
fn listing(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory").flatten();
    let mut all: Vec<String> = entries
        .map(|entry| {
            format!(
                "{:?} {:?}",
                entry.file_name(),
                entry.metadata().map(|m| (m.len(), m.modified().ok()))
            )
        })
        .collect();
    all.sort();
    all
}

/// Writes an nginx.conf whose `http` block has a policy for `live.pem`, followed by this text.
fn nginx(pki: &Pki, http: &str) {
    let policy = "hpkp_policy site { pin file:live.pem; pin file:backup.csr; max_age 1d; }";
    pki.write("nginx.conf", format!("events {{}}\nhttp {{\n{policy}\n{http}\n}}\n"));
}

fn block(names: &str, certificate: &str, more: &str) -> String {
    format!(
        "server {{ listen 443 ssl; server_name {names}; ssl_certificate {certificate}.pem; \
         ssl_certificate_key {certificate}.key; {more} }}\n"
    )
}

#[test]
fn server_blocks_of_nginx() {
    let (directory, pki) = site();
    let at = directory.path();
    let config = ["--config", "nginx.conf"];
    for (http, exit, codes) in [
        (block(HOST, "live", "hpkp site;"), 0, &[][..]),
        (block(HOST, "other", "hpkp site;"), 1, &["no-pin-in-chain"]),
        (block(HOST, "other", "hpkp site; hpkp_check warn;"), 0, &["no-pin-in-chain"]),
        (format!("hpkp site;\n{}", block(HOST, "other", "")), 1, &["no-pin-in-chain"]),
        (format!("hpkp site;\n{}", block(HOST, "other", "hpkp off;")), 0, &[]),
        (block(HOST, "$ssl_server_name", "hpkp site;"), 0, &["certificate-not-known-at-load"]),
        (
            block(
                HOST,
                "other",
                "hpkp site; ssl_certificate_by_lua_block { local s = '}' -- } \n }",
            ),
            0,
            &["certificate-not-known-at-load"],
        ),
        // A certificate inherited from the block around, and that of the default server for a server without one.
        (
            format!(
                "ssl_certificate other.pem; ssl_certificate_key other.key; hpkp site;\n\
                 server {{ listen 443 ssl; server_name {HOST}; }}"
            ),
            1,
            &["no-pin-in-chain"],
        ),
        (
            format!(
                "{}server {{ listen 443 ssl; server_name a.example; hpkp site; }}",
                block(HOST, "other", "")
            ),
            1,
            &["no-pin-in-chain"],
        ),
        (block(HOST, "missing", "hpkp site;"), 3, &["unreadable-certificate"]),
        (format!("server {{ listen 80; server_name {HOST}; hpkp site; }}"), 0, &["no-tls"]),
        (block(HOST, "live", "hpkp site; ssl_certifcate x;"), 0, &["unknown-directive"]),
        (
            format!("{}server {{ listen host.example:1 ssl; }}", block(HOST, "live", "hpkp site;")),
            3,
            &["configuration-not-understood"],
        ),
        (block("~^(?<x", "live", "hpkp site;"), 3, &["configuration-not-understood"]),
        (block(HOST, "live", "location / { hpkp site; }"), 1, &["invalid-configuration"]),
        (block(HOST, "live", "hpkp site; hpkp off;"), 1, &["invalid-configuration"]),
        (block(HOST, "live", "hpkp_on_start warn;"), 1, &["invalid-configuration"]),
        (block(HOST, "live", "hpkp_chek warn;"), 1, &["invalid-configuration"]),
        ("include missing.conf;".to_owned(), 1, &["invalid-configuration"]),
        ("server { listen 443 ssl; }".to_owned(), 1, &["invalid-configuration"]),
        ("server { listen 443 ssl;".to_owned(), 1, &["invalid-configuration"]),
    ] {
        nginx(&pki, &http);
        is(at, &config, exit, codes);
    }
}

#[test]
fn included_files_of_nginx_are_read_and_loops_end() {
    let (directory, pki) = site();
    let at = directory.path();
    fs::create_dir(at.join("sites")).expect("a directory");
    nginx(&pki, "include sites/*.conf;");
    pki.write("sites/a.conf", block("a.example", "live", "hpkp site;"));
    pki.write("sites/b.conf", block(HOST, "other", "\nhpkp\nsite;"));
    pki.write("sites/.hidden.conf", "this is not read");
    let report = is(at, &["--config", "nginx.conf"], 1, &["no-pin-in-chain"]);
    let finding = &report["findings"][0];
    assert!(
        finding["file"].as_str().is_some_and(|file| file.ends_with("sites/b.conf")),
        "{finding}"
    );
    assert_eq!(finding["line"], 3, "{finding}");
    // A loop ends, and names the directive that closes it.
    pki.write("sites/b.conf", "\ninclude sites/a.conf;");
    pki.write("sites/a.conf", "include sites/b.conf;");
    let report = is(at, &["--config", "nginx.conf"], 1, &["invalid-configuration"]);
    let finding = &report["findings"][0];
    assert!(
        finding["summary"].as_str().is_some_and(|text| text.contains("include loop")),
        "{finding}"
    );
    pki.write("sites/a.conf", b"a\0b");
    is(at, &["--config", "nginx.conf"], 1, &["invalid-configuration"]);
}

#[test]
fn a_configuration_dumped_by_nginx_is_checked() {
    let (directory, pki) = site();
    let at = directory.path().display();
    let text = |certificate: &str| {
        format!(
            "nginx: configuration file {at}/nginx.conf test is successful\n\
             # configuration file {at}/nginx.conf:\nevents {{}}\nhttp {{ hpkp site;\n\
             hpkp_policy site {{ pin file:live.pem; pin file:backup.csr; max_age 1d; }}\n\
             include conf.d/*.conf; }}\n\n# configuration file {at}/conf.d/a.conf:\n{}\n",
            block(HOST, certificate, "")
        )
    };
    let arguments = ["check", "--config", "-", "--json"];
    let outcome = run_with(text("live").as_bytes(), &arguments);
    assert_eq!((outcome.code, codes(&outcome.json())), (Some(0), vec![]), "{outcome:?}");
    let outcome = run_with(text("other").as_bytes(), &arguments);
    assert_eq!(
        (outcome.code, codes(&outcome.json())),
        (Some(1), vec!["no-pin-in-chain".into()]),
        "{outcome:?}"
    );
    let _ = pki;
}

#[test]
fn stream_and_mail_servers_must_satisfy_published_pins() {
    let (directory, pki) = site();
    let at = directory.path();
    held(at, &pki, &["853", "993"]);
    let http = "http { hpkp_published_pins records read_only; }\n";
    let pair = |name: &str| format!("ssl_certificate {name}.pem; ssl_certificate_key {name}.key;");
    let stream = |name: &str| {
        format!(
            "stream {{ {} server {{ listen 853 ssl; proxy_pass 127.0.0.1:53; }} }}\n",
            pair(name)
        )
    };
    let mail = |name: &str| {
        format!("mail {{ server {{ listen 993; protocol imap; ssl on; {} }} }}\n", pair(name))
    };
    for (stream, mail, exit, hosts) in [
        (stream("live"), mail("live"), 0, &[][..]),
        (stream("other"), mail("live"), 1, &["stream 0.0.0.0:853"]),
        (stream("live"), mail("other"), 1, &["mail 0.0.0.0:993"]),
    ] {
        pki.write("nginx.conf", format!("events {{}}\n{stream}{http}{mail}"));
        let (code, report) = json(at, &["--config", "nginx.conf"]);
        assert_eq!(code, Some(exit), "{report:#}");
        for host in hosts {
            let has = found(&report)
                .into_iter()
                .any(|(code, of)| code == "published-pins-unmet" && of.contains(host));
            assert!(has, "{host}: {report:#}");
        }
    }
    let variable = stream("$ssl_server_name");
    pki.write("nginx.conf", format!("events {{}}\n{variable}{http}"));
    let (_, report) = json(at, &["--config", "nginx.conf"]);
    assert!(codes(&report).contains(&"certificate-not-known-at-load".to_owned()), "{report:#}");
}

/// A virtual host with a policy for `live.pem`.
fn httpd(pki: &Pki, certificate: &str, before: &str) {
    let text = format!(
        "{before}Listen 443\nServerName server.invalid\n<HPKPPolicy site>\nHPKPPin file:live.pem\n\
         HPKPPin file:backup.csr\nHPKPMaxAge 1d\n</HPKPPolicy>\n<VirtualHost *:443>\nServerName {HOST}\n\
         SSLEngine on\nSSLCertificateFile {certificate}\nSSLCertificateKeyFile live.key\nHPKPUse site\n\
         </VirtualHost>\n"
    );
    pki.write("httpd.conf", text);
}

#[test]
fn virtual_hosts_of_httpd() {
    let (directory, pki) = site();
    let at = directory.path();
    let config = ["--config", "httpd.conf"];
    let ssl = "LoadModule ssl_module modules/mod_ssl.so\n";
    for (certificate, before, exit, codes) in [
        ("live.pem", "", 0, &[][..]),
        ("other.pem", "", 1, &["no-pin-in-chain"]),
        ("other.pem", "HPKPCheck warn\n", 0, &["no-pin-in-chain"]),
        ("\"${NAME}.pem\"", "Define NAME other\n", 1, &["no-pin-in-chain"]),
        ("${NAME}.pem", "", 3, &["configuration-not-understood", "unreadable-certificate"]),
        ("live.pem", "LoadModule mime_module modules/mod_mime.so\n", 0, &["no-tls"]),
        ("live.pem", &format!("{ssl}<IfModule !ssl_module>\nHPKPNonsense\n</IfModule>\n"), 0, &[]),
        ("live.pem", &format!("{ssl}<IfDefine A>\nHPKPNonsense\n</IfDefine>\n"), 0, &[]),
        ("live.pem", "SSLCertificateFil x\n", 0, &["unknown-directive"]),
        ("live.pem", "HPKPNonsense x\n", 1, &["invalid-configuration"]),
        ("live.pem", "<Directory />\nHPKPUse site\n</Directory>\n", 1, &["invalid-configuration"]),
        ("live.pem", "<Directory />\n", 1, &["invalid-configuration"]),
        ("live.pem", "Include missing.conf\n", 1, &["invalid-configuration"]),
        ("live.pem", "IncludeOptional missing.conf\n", 0, &[]),
        ("live.pem", "HPKPOnStart\n", 1, &["invalid-configuration"]),
        (
            "live.pem",
            "<VirtualHost host.example:443>\nServerName b.example\n</VirtualHost>\n",
            3,
            &["configuration-not-understood"],
        ),
    ] {
        httpd(&pki, certificate, before);
        is(at, &config, exit, codes);
    }
    httpd(&pki, "${NAME}.pem", "");
    is(at, &["--config", "httpd.conf", "--define", "NAME=live"], 0, &[]);
}

#[test]
fn files_and_macros_of_httpd() {
    let (directory, pki) = site();
    let at = directory.path();
    fs::create_dir(at.join("sites")).expect("a directory");
    httpd(
        &pki,
        "live.pem",
        "<Macro Site $name $cert>\n<VirtualHost *:443>\nServerName $name\nSSLEngine on\n\
         SSLCertificateFile $cert\nSSLCertificateKeyFile live.key\nHPKPUse site\n</VirtualHost>\n</Macro>\n\
         Include sites/\n",
    );
    pki.write("sites/a.conf", "Use Site a.example live.pem\n");
    is(at, &["--config", "httpd.conf"], 0, &[]);
    pki.write("sites/b.conf", "Use Site b.example \\\n  other.pem\n");
    let report = is(at, &["--config", "httpd.conf"], 1, &["no-pin-in-chain"]);
    assert_eq!(report["findings"][0]["hosts"][0], "b.example");
    pki.write("sites/b.conf", "Include sites/a.conf\n");
    pki.write("sites/a.conf", "Include sites/b.conf\n");
    is(at, &["--config", "httpd.conf"], 1, &["invalid-configuration"]);
}

/// Sections behind conditions on httpd's version and directives are read where httpd reads them.
#[test]
fn conditions_of_httpd_are_evaluated_as_httpd_does() {
    let (directory, pki) = site();
    let at = directory.path();
    for (condition, is_met) in [
        ("IfVersion ~ \"^2\\.4\\.\"", true),
        ("IfVersion = /^2\\.4/", true),
        ("IfVersion > 2.4", true),
        ("IfVersion = 2.4", false),
        ("IfVersion <= 2.4", false),
        ("IfVersion >= 2.4.10", true),
        ("IfDirective HPKPUse", true),
        ("IfSection HPKPPolicy", true),
        ("IfDirective MDomain", false),
        ("IfDirective !MDomain", true),
    ] {
        let (name, _) = condition.split_once(' ').expect("two words");
        let modules = ["core", "ssl", "hpkp"]
            .map(|name| format!("LoadModule {name}_module modules/mod_{name}.so\n"))
            .concat();
        let host = format!(
            "<VirtualHost *:443>\nServerName {HOST}\nSSLEngine on\nSSLCertificateFile other.pem\n\
             SSLCertificateKeyFile other.key\nHPKPUse site\n</VirtualHost>\n"
        );
        httpd(&pki, "live.pem", &format!("{modules}<{condition}>\n{host}</{name}>\n"));
        let (code, expected): (_, &[&str]) =
            if is_met { (1, &["no-pin-in-chain"]) } else { (0, &[]) };
        is(at, &["--config", "httpd.conf"], code, expected);
    }
    httpd(&pki, "live.pem", "<IfVersion >= 2.4.99>\n</IfVersion>\n");
    is(at, &["--config", "httpd.conf"], 0, &["unknown-directive"]);
    // httpd ignores text after the bracket, and still requires that sections inside an ignored one are closed.
    for (text, code) in [
        ("<IfDefine NO> # no\n<Directory /> # all\n</Directory>\n</IfDefine>\n", 0),
        ("<IfDefine NO>\n</IfModule>\n</IfDefine>\n", 1),
        ("<IfDefine NO>\n<VirtualHost *:1>\n</IfDefine>\n", 1),
    ] {
        httpd(&pki, "live.pem", text);
        let expected: &[&str] = if code == 0 { &[] } else { &["invalid-configuration"] };
        is(at, &["--config", "httpd.conf"], code, expected);
    }
    httpd(&pki, "live.pem", "<IfVersion x 2.4>\n</IfVersion>\n");
    is(at, &["--config", "httpd.conf"], 1, &["invalid-configuration"]);
}

#[test]
fn a_configuration_dumped_by_httpd_is_checked() {
    let (directory, _) = site();
    let at = directory.path();
    let prefix = at.to_str().expect("UTF-8");
    let text = |certificate: &str| {
        format!(
            "# In file: /etc/apache2/a.conf\n#   8:\nListen 443\n#  9:\n<HPKPPolicy site>\n  #  10:\n  HPKPPin \
             file:live.pem\n  #  11:\n  HPKPPin file:backup.csr\n  #  12:\n  HPKPMaxAge 1d\n</HPKPPolicy>\n\
             # In file: /etc/apache2/b.conf\n#   2:\n<VirtualHost *:443>\n  #   3:\n  ServerName {HOST}\n  \
             #   4:\n  SSLEngine on\n  #   5:\n  SSLCertificateFile {certificate}\n  #   6:\n  HPKPUse site\n\
             </VirtualHost>\nSyntax OK\n"
        )
    };
    let arguments = ["check", "--config", "-", "--prefix", prefix, "--json"];
    let outcome = run_with(text("live.pem").as_bytes(), &arguments);
    assert_eq!((outcome.code, codes(&outcome.json())), (Some(0), vec![]), "{outcome:?}");
    let outcome = run_with(text("other.pem").as_bytes(), &arguments);
    let report = outcome.json();
    assert_eq!(
        (outcome.code, codes(&report)),
        (Some(1), vec!["no-pin-in-chain".into()]),
        "{outcome:?}"
    );
    let finding = &report["findings"][0];
    assert_eq!((&finding["file"], &finding["line"]), (&"/etc/apache2/b.conf".into(), &6.into()));
}

/// Records the pin of `live.pem` for [`HOST`] on each of these ports.
fn held(at: &Path, pki: &Pki, ports: &[&str]) {
    pki.records("records");
    let pin = format!("sha256/{}", pki.pin("live.pem"));
    let add = ["published", "-d", "records", "add", HOST, "--origin", "dns", "--pin", &pin];
    for port in ports {
        let outcome = run(at, &[&add[..], &["--port", port, "--scope", "leaf"]].concat());
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
    }
}

#[test]
fn other_servers_must_satisfy_published_pins() {
    let (directory, pki) = site();
    let at = directory.path();
    held(at, &pki, &["443", "8443", "993", "25"]);
    pki.leaf("extra", "extra.example", "ca");
    fs::create_dir(at.join("certs")).expect("a directory");
    let haproxy = "global\n  crt-base DIR/certs\nfrontend a\n  bind *:8443 ssl crt DIR/CERT.pem # TLS\n  bind :80\n";
    let list = "frontend a\n  bind :8443,[::]:8443 ssl crt-list DIR/list strict-sni\n";
    for (option, text) in [
        ("--haproxy", haproxy),
        ("--haproxy", "frontend a\n  bind :8443 ssl crt DIR/certs\n"),
        ("--haproxy", list),
        ("--postfix", "smtpd_tls_cert_file =\n  DIR/CERT.pem\nsmtpd_tls_key_file = DIR/live.key\n"),
        ("--postfix", "smtpd_tls_chain_files = DIR/live.key,\n  DIR/CERT.pem\n"),
        (
            "--dovecot",
            "ssl = yes\nssl_cert = <DIR/extra.pem\nlocal_name a {\n  ssl_cert = <DIR/CERT.pem\n}\n",
        ),
        ("--dovecot", "!include_try nothing/*.conf\nssl_server_cert_file = DIR/CERT.pem\n"),
        ("--caddy", "www.example.com {\n  tls DIR/CERT.pem DIR/live.key\n  respond x\n}\n"),
        ("--stunnel", "cert = DIR/CERT.pem\n[web]\naccept = 8443\nconnect = 80\n"),
    ] {
        for (certificate, exit) in [("live", 0), ("other", 1)] {
            let place = at.to_str().expect("UTF-8");
            pki.write("server.conf", text.replace("DIR", place).replace("CERT", certificate));
            pki.write(
                "list",
                format!("# a comment\n{place}/extra.pem\n{place}/{certificate}.pem [alpn h2] *\n"),
            );
            fs::copy(at.join(format!("{certificate}.pem")), at.join("certs/a.pem"))
                .expect("a copy");
            let with = [option, "server.conf", "--published", "records", "--roots", "ca.pem"];
            let (code, report) = json(at, &with);
            assert_eq!(code, Some(exit), "{option} {text} {certificate}: {report:#}");
            let codes = codes(&report);
            let has = codes.contains(&"published-pins-unmet".to_owned());
            assert_eq!(has, exit == 1, "{option} {text} {certificate}: {report:#}");
        }
    }
    for (option, text) in [
        ("--haproxy", "frontend a\n  bind :8443 ssl\n"),
        ("--haproxy", "frontend a\n  bind :80\n"),
        ("--postfix", "smtpd_tls_cert_file = $config_directory/a.pem\n"),
        ("--dovecot", "ssl_cert = text\n"),
        ("--caddy", "www.example.com {\n  respond x\n}\n"),
        ("--stunnel", "[a]\naccept = 1\n"),
    ] {
        pki.write("server.conf", text);
        let (code, report) = json(at, &[option, "server.conf", "--published", "records"]);
        let has = codes(&report).contains(&"configuration-not-understood".to_owned());
        assert!(code == Some(3) && has, "{option} {text}: {report:#}");
    }
    // Without `--published` the command reads the records of this machine.
    let outcome = run(at, &["check", "--haproxy", "server.conf"]);
    assert!(outcome.code == Some(3) && !outcome.err.contains("--published"), "{outcome:?}");
}

/// Pins without a port bind HTTP clients on every port, so only listeners that speak HTTP must satisfy them.
#[test]
fn pins_without_a_port_affect_http_listeners_of_other_servers() {
    let (directory, pki) = site();
    let at = directory.path();
    pki.records("records");
    let pin = format!("sha256/{}", pki.pin("live.pem"));
    let add = ["published", "-d", "records", "add", HOST, "--origin", "app", "--pin", &pin];
    assert_eq!(run(at, &add).code, Some(0));
    let path = at.join("other.pem");
    let bind = format!("  bind :8443 ssl crt {}\n", path.to_str().expect("UTF-8"));
    let site = format!("{HOST}:8443 {{\n  tls {} x.key\n}}\n", path.to_str().expect("UTF-8"));
    for (option, text, exit) in [
        ("--haproxy", format!("defaults\n  mode http\nfrontend a\n{bind}"), 1),
        ("--haproxy", format!("frontend a\n{bind}  mode http\n"), 1),
        ("--haproxy", format!("defaults d\n  mode http\ndefaults e\nlisten a from d\n{bind}"), 1),
        ("--haproxy", format!("defaults\n  mode http\nfrontend a\n{bind}  mode tcp\n"), 0),
        ("--haproxy", format!("defaults\n  mode http\ndefaults\nfrontend a\n{bind}"), 0),
        ("--haproxy", format!("frontend a\n{bind}backend b\n  mode http\n"), 0),
        ("--caddy", site, 1),
    ] {
        pki.write("server.conf", &text);
        let (code, report) = json(at, &[option, "server.conf", "--published", "records"]);
        assert_eq!(code, Some(exit), "{text}: {report:#}");
        let unmet = codes(&report).contains(&"published-pins-unmet".to_owned());
        assert_eq!(unmet, exit == 1, "{text}: {report:#}");
    }
}

/// Listeners on other ports than the usual ones.
#[test]
fn ports_of_mail_servers_are_read_from_their_configuration() {
    let (directory, pki) = site();
    let at = directory.path();
    held(at, &pki, &["28993", "2525"]);
    let path = at.join("other.pem");
    let path = path.to_str().expect("UTF-8");
    let dovecot = |port: &str| {
        format!(
            "ssl_cert = <{path}\nservice imap-login {{\n  inet_listener imaps {{\n    port = {port}\n  }}\n}}\n"
        )
    };
    let postfix = format!("smtpd_tls_cert_file = {path}\n");
    let master = |line: &str| format!("# service\n{line}\npickup unix n - n 60 1 pickup\n");
    for (option, text, line, exit) in [
        ("--dovecot", dovecot("28993"), "", 1),
        ("--dovecot", dovecot("0"), "", 0),
        ("--postfix", postfix.clone(), "2525 inet n - n - - smtpd", 1),
        ("--postfix", postfix.clone(), "127.0.0.1:2525 inet n - n - - smtpd -o x=y", 1),
        ("--postfix", postfix.clone(), "#2525 inet n - n - - smtpd", 0),
        ("--postfix", postfix, "smtp inet n - n - - smtpd", 0),
    ] {
        pki.write("server.conf", &text);
        pki.write("master.cf", master(line));
        let (code, report) = json(at, &[option, "server.conf", "--published", "records"]);
        assert_eq!(code, Some(exit), "{text}{line}: {report:#}");
    }
}

/// `--record` records the certificates of a server without a module, as the modules do for theirs. Unchanged
/// certificates then pass the next check, so a server that was started in spite of a lock-out can be reloaded.
#[test]
fn other_servers_are_recorded() {
    let (directory, pki) = site();
    let at = directory.path();
    held(at, &pki, &["8443"]);
    let configure = |certificate: &str| {
        let path = at.join(format!("{certificate}.pem"));
        let path = path.to_str().expect("UTF-8");
        pki.write("server.conf", format!("frontend a\n  bind :8443 ssl crt {path}\n"));
    };
    let server = ["--haproxy", "server.conf", "--published", "records", "--roots", "ca.pem"];
    let check = |more: &[&str]| {
        let (code, report) =
            json(at, &[&server[..], &["--writer", "web-1.haproxy"], more].concat());
        (code, codes(&report))
    };
    let file = at.join("records/web-1.haproxy.jsonl");
    let lines = || fs::read_to_string(&file).map_or(0, |text| text.lines().count());
    configure("other");
    assert_eq!(check(&["--record"]), (Some(1), vec!["published-pins-unmet".to_owned()]));
    assert!(!file.exists(), "what is refused is not recorded");
    configure("live");
    assert_eq!(check(&[]), (Some(0), vec![]));
    assert!(!file.exists(), "a check writes nothing");
    assert_eq!(check(&["--record"]), (Some(0), vec![]));
    let recorded = lines();
    assert!(recorded >= 2, "{recorded}");
    // The same again adds nothing.
    assert_eq!(check(&["--record"]), (Some(0), vec![]));
    assert_eq!(lines(), recorded);
    // With `--check warn` a start continues in spite of a lock-out, and a later reload of the same certificate passes.
    configure("other");
    assert_eq!(check(&["--record"]).0, Some(1));
    let warn = ["--record", "--check", "warn"];
    assert_eq!(check(&warn), (Some(0), vec!["published-pins-unmet".to_owned()]));
    assert_eq!(check(&["--record"]).0, Some(0));
    // The default writer is made of the host name and the server's name.
    configure("live");
    assert_eq!(json(at, &[&server[..], &["--record"]].concat()).0, Some(0));
    let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    assert!(at.join(format!("records/{}.haproxy.jsonl", host.trim())).exists());
    // Servers with a module record for themselves, so `--record` needs an option of another server.
    run(at, &["check", "--cert", "live.pem", "--published", "records", "--record"])
        .failed(2, "--haproxy");
    run(
        at,
        &["check", "--haproxy", "server.conf", "--caddy", "server.conf", "--published", "records"],
    )
    .failed(2, "cannot be used with");
}

#[test]
fn cert_replaces_only_the_certificate_of_the_same_kind() {
    let (directory, pki) = site();
    let at = directory.path();
    pki.key("rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    pki.sign_as("rsa", "rsa", &format!("/CN={HOST}"), "ca", &leaf_extensions(HOST));
    let rsa = "ssl_certificate rsa.pem; ssl_certificate_key rsa.key; hpkp site;";
    let policy = "hpkp_policy site { pin file:live.pem; pin file:rsa.pem; pin file:backup.csr; max_age 1d; }";
    let text = format!("events {{}}\nhttp {{\n{policy}\n{}\n}}\n", block(HOST, "live", rsa));
    pki.write("nginx.conf", text);
    is(at, &["--config", "nginx.conf"], 0, &[]);
    // `--cert` replaces the ECDSA certificate; the RSA certificate stays and is checked too.
    let report =
        is(at, &["--config", "nginx.conf", "--cert", "other.pem"], 1, &["no-pin-in-chain"]);
    assert_eq!(report["servers"][0]["certificates"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_part_of_a_configuration_is_checked() {
    let (directory, pki) = site();
    let at = directory.path();
    let policy = "hpkp_policy site { pin file:live.pem; pin file:backup.csr; max_age 1d; }\n";
    pki.write("site", format!("{policy}{}", block(HOST, "other", "hpkp site;")));
    is(at, &["--config", "site"], 1, &["no-pin-in-chain"]);
    pki.write("nginx.conf", format!("events {{}}\n{}", block(HOST, "other", "")));
    is(at, &["--config", "nginx.conf"], 1, &["invalid-configuration"]);
    // Text that is no configuration never passes.
    pki.write("README", "Some words\nand others.\n");
    let report = json(at, &["--config", "README"]);
    assert_eq!(report.0, Some(3), "{:#}", report.1);
    pki.write("README", "some words { and others; }\n");
    assert_eq!(json(at, &["--config", "README"]).0, Some(3));
}

#[test]
fn a_certificate_for_no_name_of_the_configuration_is_an_error() {
    let (directory, pki) = site();
    nginx(&pki, &block(HOST, "live", "hpkp site;"));
    pki.leaf("stranger", "stranger.example", "ca");
    let arguments = ["check", "--config", "nginx.conf", "--cert", "stranger.pem"];
    run(directory.path(), &arguments).failed(3, "no server of the configuration has a name");
    let arguments = ["check", "--config", "nginx.conf", "--cert", "other.pem"];
    assert_eq!(run(directory.path(), &arguments).code, Some(1));
}

/// In a chain that begins with its CA the first certificate is for no host: it satisfies all pins of hosts.
#[test]
fn a_certificate_for_no_host_is_an_error() {
    let (directory, pki) = site();
    pki.records("records");
    pki.bundle("reversed.pem", &["ca.pem", "live.pem"]);
    let arguments = ["check", "--published", "records", "--cert", "reversed.pem"];
    run(directory.path(), &arguments)
        .failed(3, "reversed.pem: the first certificate is for no host");
    // A certificate without alternative names is for its common name.
    pki.key("common", P256);
    pki.sign("common", &format!("/CN={HOST}"), "ca", "basicConstraints=critical,CA:FALSE");
    let arguments = ["check", "--published", "records", "--cert", "common.pem"];
    assert_eq!(run(directory.path(), &arguments).code, Some(0));
}

#[test]
fn the_variable_hpkp_check_is_ignored() {
    let (directory, pki) = site();
    nginx(&pki, &block(HOST, "other", "hpkp site;"));
    let check = |more: &[&str]| {
        let mut command = crate::hpkp();
        command.current_dir(directory.path()).env("HPKP_CHECK", "warn");
        command.args(["check", "--config", "nginx.conf"]).args(more);
        crate::outcome(hpkp_tests::output(&mut command)).code
    };
    assert_eq!(check(&[]), Some(1));
    assert_eq!(check(&["--check", "warn"]), Some(0));
    assert_eq!(check(&["--check", "warn", "--deny-warnings"]), Some(1));
}

#[test]
fn odd_input_ends_with_an_error() {
    let (directory, pki) = site();
    let at = directory.path();
    let check = |arguments: &[&str]| run(at, &[&["check"], arguments].concat());
    check(&["--config", "missing.conf"]).failed(2, "missing.conf: no such file or directory");
    pki.write("binary.conf", b"http {\0}");
    check(&["--config", "binary.conf"]).failed(1, "null bytes");
    pki.write("empty.conf", "\n");
    check(&["--config", "empty.conf"]).failed(3, "nothing was compared");
    pki.write("large.conf", vec![b'#'; (16 << 20) + 1]);
    check(&["--config", "large.conf"]).failed(1, "larger than 16 MiB");
    check(&["--config", "."]).failed(3, "is a directory");
    check(&[]).failed(2, "nothing to compare");
    policy_file(&pki, "");
    check(&["--config", "pins.toml", "--cert", "missing.pem"]).failed(3, "missing.pem");
    check(&["--config", "pins.toml", "--cert", "live.key"]).failed(1, "private key");
    let outcome = check(&["--config", "pins.toml"]);
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    // Deep nesting does not overflow the stack.
    nginx(&pki, &"a {".repeat(100_000));
    is(at, &["--config", "nginx.conf"], 3, &["configuration-not-understood"]);
    pki.write("httpd.conf", "<Directory />\n".repeat(100_000));
    is(at, &["--config", "httpd.conf"], 3, &["configuration-not-understood"]);
    pki.write("httpd.conf", "<Macro a>\nUse a\nUse a\n</Macro>\nUse a\n");
    is(at, &["--config", "httpd.conf"], 3, &["configuration-not-understood"]);
}

#[test]
fn an_empty_configuration_is_reported_as_not_compared() {
    let (directory, pki) = site();
    pki.write("nginx.conf", "events {}\nhttp { server { listen 80; } }\n");
    let outcome = run(directory.path(), &["check", "--config", "nginx.conf"]).fine();
    assert!(outcome.contains("nothing to check"), "{outcome}");
}

#[test]
fn sarif_has_a_rule_and_a_place_for_each_finding() {
    let (directory, pki) = site();
    nginx(&pki, &block(HOST, "other", "\nhpkp site;"));
    let arguments = ["check", "--config", "nginx.conf", "--format", "sarif"];
    let outcome = run(directory.path(), &arguments);
    assert_eq!(outcome.code, Some(1));
    let log: Value = serde_json::from_str(&outcome.out).expect("JSON");
    assert_eq!(log["version"], "2.1.0");
    crate::sarif::is_a_log(&log);
    // Logs without a finding, and with an unknown answer.
    for (text, code) in [("events {}\nhttp { }\n", 0), ("nonsense", 3)] {
        pki.write("other.conf", text);
        let arguments = ["check", "--config", "other.conf", "--format", "sarif"];
        let outcome = run(directory.path(), &arguments);
        assert_eq!(outcome.code, Some(code), "{outcome:?}");
        crate::sarif::is_a_log(&serde_json::from_str(&outcome.out).expect("JSON"));
    }
    let run = &log["runs"][0];
    let results = run["results"].as_array().expect("results");
    assert!(!results.is_empty());
    for result in results {
        let index =
            usize::try_from(result["ruleIndex"].as_u64().expect("a number")).expect("small");
        assert_eq!(run["tool"]["driver"]["rules"][index]["id"], result["ruleId"]);
        assert!(result["message"]["text"].as_str().is_some_and(|text| !text.is_empty()));
    }
    let first = &results[0];
    assert_eq!((&first["ruleId"], &first["level"]), (&"no-pin-in-chain".into(), &"error".into()));
    let place = &first["locations"][0]["physicalLocation"];
    // Relative, so that code scanning finds the file of the repository.
    assert_eq!(place["artifactLocation"]["uri"], "nginx.conf");
    assert_eq!(place["region"]["startLine"], 5);
}

#[test]
fn junit_has_a_case_for_each_server() {
    let (directory, pki) = site();
    nginx(
        &pki,
        &format!("hpkp site;{}{}", block("a.example", "live", ""), block(HOST, "other", "")),
    );
    let arguments = ["check", "--config", "nginx.conf", "--format", "junit"];
    let Outcome { code, out, .. } = run(directory.path(), &arguments);
    assert_eq!(code, Some(1));
    let document = roxmltree::Document::parse(&out).expect("XML");
    let cases: Vec<_> =
        document.descendants().filter(|node| node.has_tag_name("testcase")).collect();
    let failed = |name: &str| {
        let case = cases.iter().find(|case| case.attribute("name") == Some(name));
        case.expect(name).children().any(|node| node.has_tag_name("failure"))
    };
    assert!(!failed("a.example"), "{out}");
    assert!(failed(HOST), "{out}");
}

/// Each expected result was compared with the config test of the real server.
#[test]
fn rare_parts_of_configurations() {
    let (directory, pki) = site();
    let at = directory.path();
    let policy = "hpkp_policy site { pin file:live.pem; pin file:backup.csr; max_age 1d; } hpkp_published_pins records;";
    pki.records("records");
    for (command, code) in [
        ("ssl_conf_command Certificate other.pem; ssl_conf_command PrivateKey other.key;", 3),
        ("ssl_conf_command chaincafile other.pem;", 3),
        ("ssl_conf_command Options -SessionTicket;", 0),
    ] {
        let server = "listen 443 ssl; server_name www.example.com; hpkp site; ssl_certificate live.pem; \
                      ssl_certificate_key live.key;";
        for text in [
            format!("events {{}} http {{ {policy} server {{ {server} {command} }} }}"),
            format!("events {{}} http {{ {policy} {command} server {{ {server} }} }}"),
        ] {
            pki.write("nginx.conf", &text);
            let codes: &[&str] = if code == 0 { &[] } else { &["configuration-not-understood"] };
            is(at, &["--config", "nginx.conf"], code, codes);
        }
    }
    let base = format!(
        "ServerRoot {}\nHPKPPublishedPins records\n<HPKPPolicy site>\nHPKPPin file:live.pem\nHPKPPin file:backup.csr\n\
         HPKPMaxAge 1d\n</HPKPPolicy>\nListen 443\n",
        at.display()
    );
    let host = |more: &str| {
        format!(
            "<VirtualHost *:443>\nServerName www.example.com\nSSLEngine on\nSSLCertificateFile live.pem\n\
             SSLCertificateKeyFile live.key\nHPKPUse site\n{more}\n</VirtualHost>\n"
        )
    };
    let invalid = &["invalid-configuration"][..];
    for (text, code, codes) in [
        // The file ends in a condition.
        (format!("<IfVersion >= 2.4>\n<IfDefine !X>\n{}", host("")), 0, &[][..]),
        (format!("{}<IfModule !mod_ssl.c>\n", host("")), 1, invalid),
        (host("<IfDefine !X>"), 1, invalid),
        (format!("{}<Directory />\n", host("")), 1, invalid),
        // mod_ssl does not allow SSLCertificateFile and SSLEngine in <If> and <Directory>.
        (host("<If \"true\">\nSSLCertificateFile other.pem\n</If>"), 1, invalid),
        (host("<Directory />\nsslengine off\n</Directory>"), 1, invalid),
        (host("<Directory />\nSSLRequireSSL\n</Directory>"), 0, &[]),
    ] {
        pki.write("httpd.conf", format!("{base}{text}"));
        is(at, &["--config", "httpd.conf", "--config-format", "httpd"], code, codes);
    }
}
