//! mod_md, which gets httpd's certificates itself: its hook stops it before it makes a new key.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use hpkp_tests::client::Curl;
use hpkp_tests::httpd::{Httpd, Module, Mpm, listen};
use hpkp_tests::instance::{Reload, wait};
use hpkp_tests::{free_port, succeed};

use crate::deployed::{HOST, hook, hooks};
use crate::pebble::Pebble;

/// Makes a program that runs the hook with the environment that it needs, which httpd does not pass on.
fn message(httpd: &Httpd) -> String {
    let hpkp = std::path::Path::new(env!("CARGO_BIN_EXE_hpkp"));
    // httpd's children run the hook as another user, so its files must be where that user can read them.
    for (from, name) in [(hpkp.to_owned(), "hpkp"), (hooks().join("mod_md-message"), "hook")] {
        fs::copy(from, httpd.path(name)).expect("a copy");
    }
    let script = format!(
        "#!/bin/sh\nPATH={0}:$PATH HPKP_ACME_CONF={0}/acme.conf\nexport PATH HPKP_ACME_CONF\n\
         echo \"$1 $2\" >> {0}/md/messages\nexec {0}/hook \"$@\" 2>> {0}/md/errors >> {0}/md/errors\n",
        httpd.path("").display()
    );
    let path = httpd.path("message");
    hpkp_tests::write_program(&path, script);
    path.display().to_string()
}

/// mod_md with `pebble`, for one host.
fn configure(httpd: &Httpd, pebble: &Pebble, port: u16, more: &str) {
    httpd.configure(&format!(
        "{}HPKPPublishedPins records writer=web-1\nHPKPTrustedCertificate root.pem\n\
         MDStoreDir md\nMDCertificateAgreement accepted\nMDContactEmail x@example.com\n\
         MDCertificateAuthority {}\nMDCACertificateFile {}\nMDPortMap http:{} https:{port}\n\
         MDCheckInterval 1s\nMDRetryDelay 1s\nMDStapling off\nMDomain {HOST}\n{more}\n\
         <VirtualHost 127.0.0.1:{port}>\nServerName {HOST}\nSSLEngine on\nProtocols http/1.1 acme-tls/1\n</VirtualHost>\n",
        listen(&[port]),
        pebble.directory(),
        httpd.path("pebble-ca.pem").display(),
        free_port()
    ));
}

/// Writes the settings of the hook, and the files that it appends to.
fn write_files(httpd: &Httpd, port: u16) {
    let (pki, directory) = (httpd.pki(), httpd.path("").display().to_string());
    fs::create_dir(httpd.path("md")).expect("a directory");
    for file in ["messages", "errors"] {
        pki.write(&format!("md/{file}"), "");
        fs::set_permissions(httpd.path(&format!("md/{file}")), fs::Permissions::from_mode(0o666))
            .expect("a mode");
    }
    pki.write(
        "acme.conf",
        format!("check_options='-d {directory}/records --trusted-certificate {directory}/root.pem'\nmd_server=localhost:{port}\n"),
    );
}

/// Runs `hpkp published` for the pins of an app.
fn published(httpd: &Httpd, arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hpkp"));
    command.args(["published", "-d", "records"]).args(arguments).args(["--writer", "apps"]);
    succeed(command.current_dir(httpd.path("")));
}

#[test]
fn mod_md_is_stopped_before_it_makes_a_key() {
    let mut httpd = Httpd::with(Module::Shipped, Mpm::Event);
    httpd.load(&["md", "dir"]);
    let pki = httpd.pki();
    let pebble = Pebble::start(&pki);
    pki.write("html/index.html", "x");
    pki.records("records");
    let port = free_port();
    write_files(&httpd, port);
    assert!(hook("mod_md-message").ends_with("/mod_md-message"));
    httpd.expect_in_log(&[
        "hpkp: ", "AH10085", "AH10056", "AH10059", "AH10236", "AH10105", "AH10074", "AH10109",
    ]);
    configure(&httpd, &pebble, port, "");
    httpd.start();
    let staged = |httpd: &Httpd| httpd.path(&format!("md/staging/{HOST}/pubcert.pem")).exists();
    assert!(wait(|| staged(&httpd)), "no certificate came:\n{}", httpd.log());
    assert!(wait(|| httpd.log().contains("AH10059")), "{}", httpd.log());
    assert_eq!(httpd.graceful(), Reload::Accepted);
    let served = |httpd: &Httpd| {
        let pin = httpd.pki().pin(&format!("md/domains/{HOST}/pubcert.pem"));
        let curl =
            Curl::new(&httpd.path("root.pem")).with(&["--pinnedpubkey", &format!("sha256//{pin}")]);
        (curl.exit_code(&format!("https://{HOST}:{port}/")) == Some(0)).then_some(pin)
    };
    let pin = served(&httpd).expect("the certificate of the authority");
    published(&httpd, &["add", HOST, "--origin", "app 1", "--pin", &format!("sha256/{pin}")]);
    // httpd's children must be able to read the records.
    let readable =
        |path: &str, mode| fs::set_permissions(httpd.path(path), fs::Permissions::from_mode(mode));
    readable("records/apps.jsonl", 0o644).expect("a mode");

    // With this window, every check of mod_md finds the certificate due for renewal.
    configure(
        &httpd,
        &pebble,
        port,
        &format!("MDRenewWindow 30d\nMDMessageCmd {}", message(&httpd)),
    );
    assert_eq!(httpd.graceful(), Reload::Accepted);
    let messages =
        |httpd: &Httpd| fs::read_to_string(httpd.path("md/messages")).unwrap_or_default();
    let asked = |httpd: &Httpd| messages(httpd).matches(&format!("renewing {HOST}")).count();
    assert!(wait(|| asked(&httpd) >= 2), "{}\n{}", messages(&httpd), httpd.log());
    let errors = fs::read_to_string(httpd.path("md/errors")).expect("errors");
    assert!(errors.contains("no: a renewal with a new key locks out"), "{errors}");
    assert!(!staged(&httpd), "{errors}");
    assert_eq!(served(&httpd), Some(pin));

    // Once the app is withdrawn, mod_md renews by itself.
    published(&httpd, &["end", "--host", HOST, "--why", "withdrawn"]);
    assert!(wait(|| staged(&httpd)), "{}\n{}", messages(&httpd), httpd.log());
    httpd.stop();
}
