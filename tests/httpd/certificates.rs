//! Certificates of mod_ssl: a config test must predict which ones mod_ssl will load, and a start uses those that it
//! has loaded.

use std::fs;
use std::process::Command;

use hpkp_tests::client::Curl;
use hpkp_tests::httpd::{Httpd, Module, Mpm, Reload, codes, listen, tls_vhost};
use hpkp_tests::instance::without_leaks;
use hpkp_tests::pki::{Pki, RSA, leaf_extensions};
use hpkp_tests::site::{A, B};
use hpkp_tests::{free_port, succeed};

use crate::policy;

/// A server with an RSA certificate `rsa` and an ECDSA certificate `other` besides `live`, and a
/// file to serve.
fn prepared() -> Httpd {
    let mut httpd = Httpd::furnished(Module::Shipped, Mpm::Event);
    httpd.load(&["dir"]);
    let pki = httpd.pki();
    pki.key("rsa", RSA);
    pki.sign("rsa", "/CN=localhost", "ca", &leaf_extensions("localhost"));
    pki.leaf("other", "localhost", "ca");
    pki.write("html/index.html", "x");
    httpd
}

/// The status of a response and its number of pin fields.
fn asked(httpd: &Httpd, port: u16) -> (u16, usize) {
    let response = Curl::new(&httpd.path("ca.pem")).get(&format!("https://localhost:{port}/"));
    (response.status, response.pins().len())
}

/// The directives for these certificates and keys.
fn pairs(names: &[&str]) -> String {
    let pair = |n: &&str| format!("SSLCertificateFile {n}.pem\nSSLCertificateKeyFile {n}.key\n");
    names.iter().map(pair).collect()
}

/// A vhost's certificate replaces the server's certificate at the same position; further certificates of the server
/// stay.
#[test]
fn certificates_are_merged_by_their_position() {
    let mut httpd = prepared();
    let (pki, port) = (httpd.pki(), free_port());
    let [rsa, live, other] = ["rsa.pem", "live.pem", "other.pem"].map(|file| pki.pin(file));
    let configuration = |pins: &[&str]| {
        format!(
            "{}{}{}{}",
            listen(&[port]),
            policy("site", pins),
            pairs(&["live", "rsa"]),
            tls_vhost(port, "localhost", "other", "HPKPUse site"),
        )
    };
    httpd.configure(&configuration(&[&other, &live]));
    let outcome = httpd.test();
    outcome.refused("no-pin-in-chain", httpd.line("HPKPUse site"));
    assert!(outcome.text.contains(&rsa), "{}", outcome.text);
    httpd.configure(&configuration(&[&rsa, &live]));
    let outcome = httpd.test();
    outcome.refused("no-pin-in-chain", httpd.line("HPKPUse site"));
    assert!(outcome.text.contains(&other), "{}", outcome.text);
    httpd.configure(&configuration(&[&rsa, &other]));
    httpd.test().accepted(&["no-backup-pin"]);
    // The key of the replaced certificate counts as a backup.
    httpd.configure(&configuration(&[&rsa, &other, &live]));
    httpd.test().accepted(&[]);
    httpd.start();
    assert_eq!(asked(&httpd, port), (200, 1));
    // mod_ssl does present these two certificates.
    for (name, pin) in [("ECDSA", &other), ("RSA", &rsa)] {
        let curl = Curl::new(&httpd.path("ca.pem")).with(&["--tls-max", "1.2"]);
        let cipher = format!("ECDHE-{name}-AES128-GCM-SHA256");
        let curl = curl.with(&["--ciphers", &cipher, "--pinnedpubkey", &format!("sha256//{pin}")]);
        assert_eq!(curl.exit_code(&format!("https://localhost:{port}/")), Some(0), "{name}");
    }
    httpd.stop();
}

#[test]
fn chains_from_a_bundle_and_from_a_file_of_their_own() {
    let mut httpd = prepared();
    let (pki, port) = (httpd.pki(), free_port());
    pki.intermediate("between", "ca");
    pki.leaf("below", "localhost", "between");
    pki.bundle("bundle.pem", &["below.pem", "between.pem"]);
    fs::copy(pki.path("below.key"), pki.path("bundle.key")).expect("a copy");
    let between = pki.pin("between.pem");
    let absolute = format!("SSLCertificateChainFile {}", pki.path("between.pem").display());
    for (certificate, more, refused) in [
        ("below", "", true),
        ("below", "SSLCertificateChainFile between.pem", false),
        ("below", &absolute, false),
        ("below", "SSLCertificateChainFile ca.pem", true),
        ("bundle", "", false),
    ] {
        httpd.configure(&format!(
            "{}{}{}",
            listen(&[port]),
            policy("site", &[&between, B]),
            tls_vhost(port, "localhost", certificate, &format!("HPKPUse site\n{more}")),
        ));
        let outcome = httpd.test();
        if refused {
            outcome.refused("no-pin-in-chain", httpd.line("HPKPUse site"));
            continue;
        }
        outcome.accepted(&[]);
        httpd.start();
        assert_eq!(asked(&httpd, port), (200, 1), "{certificate} {more}");
        httpd.stop();
    }
    // The vhost inherits the chain from the server.
    httpd.configure(&format!(
        "{}SSLCertificateChainFile between.pem\n{}{}",
        listen(&[port]),
        policy("site", &[&between, B]),
        tls_vhost(port, "localhost", "below", "HPKPUse site"),
    ));
    httpd.test().accepted(&[]);
}

/// The pinned root of a private CA, which the server does not send, is found only in a named file.
#[test]
fn a_private_root_needs_a_store() {
    let httpd = prepared();
    let (ca, port) = (httpd.pki().pin("ca.pem"), free_port());
    let configuration = |server: &str, vhost: &str| {
        format!(
            "{}{server}\n{}{}",
            listen(&[port]),
            policy("site", &[&ca, B]),
            tls_vhost(port, "localhost", "live", &format!("HPKPUse site\n{vhost}")),
        )
    };
    httpd.configure(&configuration("", ""));
    httpd.test().refused("no-pin-in-chain", httpd.line("HPKPUse site"));
    for (server, vhost) in [
        ("", "HPKPTrustedCertificate ca.pem"),
        ("HPKPTrustedCertificate ca.pem", ""),
        // A vhost's own file counts before the server's.
        ("HPKPTrustedCertificate live.pem", "HPKPTrustedCertificate ca.pem"),
    ] {
        httpd.configure(&configuration(server, vhost));
        let outcome = httpd.test();
        outcome.accepted(&["root-only-match"]);
        assert!(outcome.text.contains("not sent, trusted in"), "{}", outcome.text);
    }
}

/// mod_ssl itself refuses a file that is not regular. Our module must not open such a file before mod_ssl: reading a
/// FIFO would wait.
#[test]
fn unusable_certificate_files_are_refused() {
    let httpd = prepared();
    let (pki, port) = (httpd.pki(), free_port());
    let live = pki.pin("live.pem");
    fs::create_dir(pki.path("directory.pem")).expect("a directory");
    succeed(Command::new("mkfifo").arg(pki.path("fifo.pem")));
    pki.write("empty.pem", "");
    pki.write("text.pem", "this is no certificate");
    pki.write("half.pem", &pki.read("live.pem")[..200]);
    let test = |name: &str| {
        let vhost = tls_vhost(port, "localhost", name, "HPKPUse site");
        let vhost = vhost.replace(&format!("{name}.key"), "live.key");
        let policy = policy("site", &[&live, B]);
        httpd.configure(&format!("{}{policy}{vhost}", listen(&[port])));
        httpd.test()
    };
    for name in ["directory", "fifo", "empty", "missing"] {
        let outcome = test(name);
        assert_eq!(outcome.code, Some(1), "{name}: {outcome:?}");
        assert!(
            outcome.text.contains(&format!("{name}.pem' does not exist or is empty")),
            "{outcome:?}"
        );
    }
    // mod_ssl accepts these two until it loads them.
    for name in ["text", "half"] {
        let outcome = test(name);
        outcome.refused("unreadable-certificate", httpd.line("HPKPUse site"));
        assert!(outcome.text.contains(&format!("{name}.pem")), "{outcome:?}");
    }
    // A test cannot change a file's type after httpd has checked it, but it can make a file that is too large.
    let large = fs::File::create(pki.path("large.pem")).expect("a file");
    large.set_len(100 << 20).expect("a sparse file");
    test("large").refused("oversized-input", httpd.line("HPKPUse site"));
}

/// A certificate named by `SSLOpenSSLConfCmd` replaces a certificate of the same key type.
#[test]
fn certificates_that_openssl_commands_load() {
    let mut httpd = prepared();
    let (pki, port) = (httpd.pki(), free_port());
    let (live, other) = (pki.pin("live.pem"), pki.pin("other.pem"));
    let file = |name: &str| pki.path(name).display().to_string();
    let configuration = |pin: &str, more: &str| {
        format!(
            "{}{}<VirtualHost 127.0.0.1:{port}>\nServerName localhost\nSSLEngine on\n\
             SSLOpenSSLConfCmd Certificate {}\nSSLOpenSSLConfCmd PrivateKey {}\n\
             HPKPUse site\n{more}</VirtualHost>\n",
            listen(&[port]),
            policy("site", &[pin, B]),
            file("other.pem"),
            file("other.key"),
        )
    };
    for more in ["", &pairs(&["live"])] {
        httpd.configure(&configuration(&other, more));
        httpd.test().accepted(&[]);
        httpd.start();
        assert_eq!(asked(&httpd, port), (200, 1));
        httpd.stop();
        httpd.configure(&configuration(&live, more));
        httpd.test().refused("no-pin-in-chain", httpd.line("HPKPUse site"));
    }
    // A certificate of another key type stays beside it.
    httpd.configure(&configuration(&other, &pairs(&["rsa"])));
    let outcome = httpd.test();
    outcome.refused("no-pin-in-chain", httpd.line("HPKPUse site"));
    assert!(outcome.text.contains("1 of 2 certificates"), "{outcome:?}");
    httpd.configure(&configuration(&live, ""));
    httpd.expect_in_log(&["hpkp: [no-pin-in-chain] localhost:"]);
    httpd.start();
    assert_eq!(asked(&httpd, port), (200, 0));
    assert!(codes(&httpd.log()).contains(&"no-pin-in-chain"), "{}", httpd.log());
    httpd.stop();
    httpd.configure(&format!("HPKPOnStart refuse\n{}", configuration(&live, "")));
    let outcome = httpd.start_refused();
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.codes().contains(&"no-pin-in-chain"), "{outcome:?}");
    httpd.expect_in_log(&["AH00016: Configuration Failed"]);
}

/// Writes a leaf `below` and the files in which OpenSSL may find its issuer.
fn write_authorities(pki: &Pki) {
    pki.intermediate("between", "ca");
    pki.leaf("below", "localhost", "between");
    pki.intermediate("unrelated", "ca");
    // More than a chain may have, the issuer last.
    let unrelated = pki.read("unrelated.pem");
    pki.write("many.pem", [unrelated.repeat(300), pki.read("between.pem")].concat());
    fs::create_dir(pki.path("hashed")).expect("a directory");
    fs::copy(pki.path("between.pem"), pki.path("hashed/between.pem")).expect("a copy");
    succeed(Command::new("openssl").args(["rehash"]).arg(pki.path("hashed")));
}

/// OpenSSL completes the chain of a leaf that has none configured, from several places. The config test must give the
/// same result as the start.
#[test]
fn chains_that_openssl_completes() {
    let mut httpd = prepared();
    let (pki, port) = (httpd.pki(), free_port());
    write_authorities(&pki);
    let pin = pki.pin("between.pem");
    let file = |name: &str| pki.path(name).display().to_string();
    let command = |name: &str, path: &str| format!("SSLOpenSSLConfCmd {name} {}", file(path));
    let authorities = "SSLCACertificateFile between.pem".to_owned();
    for (server, vhost, refused) in [
        ("", authorities.clone(), false),
        ("", "SSLCACertificateFile many.pem".to_owned(), false),
        ("", "SSLCACertificatePath hashed".to_owned(), false),
        ("SSLCACertificatePath hashed", String::new(), false),
        ("", "SSLCACertificateFile unrelated.pem".to_owned(), true),
        ("", command("ChainCAFile", "between.pem"), false),
        ("", command("chaincafile", "many.pem"), false),
        ("", command("ChainCAPath", "hashed"), false),
        (&*command("ChainCAFile", "between.pem"), String::new(), false),
        // If ChainCAFile is set, OpenSSL does not look in SSLCACertificateFile.
        ("", format!("{}\n{authorities}", command("ChainCAFile", "unrelated.pem")), true),
        // OpenSSL does not complete a configured chain.
        ("", format!("SSLCertificateChainFile unrelated.pem\n{authorities}"), true),
    ] {
        let text = format!(
            "{}{server}\n{}{}",
            listen(&[port]),
            policy("site", &[&pin, B]),
            tls_vhost(port, "localhost", "below", &format!("HPKPUse site\n{vhost}")),
        );
        httpd.configure(&text);
        let outcome = httpd.test();
        if refused {
            outcome.refused("no-pin-in-chain", httpd.line("HPKPUse site"));
            httpd.expect_in_log(&["hpkp: [no-pin-in-chain]"]);
        } else {
            outcome.accepted(&[]);
        }
        httpd.start();
        let sent = usize::from(!refused);
        // Some of these chains do not end at the root, so curl does not verify them.
        let response = Curl::new(&httpd.path("ca.pem")).with(&["-k"]);
        let response = response.get(&format!("https://localhost:{port}/"));
        assert_eq!(response.pins().len(), sent, "{server} {vhost}:\n{}", httpd.log());
        httpd.stop();
    }
    // Only OpenSSL can read a store of this kind.
    httpd.configure(&format!(
        "{}{}{}",
        listen(&[port]),
        policy("site", &[&pin, B]),
        tls_vhost(
            port,
            "localhost",
            "below",
            &format!("HPKPUse site\n{}", command("ChainCAStore", "between.pem"))
        ),
    ));
    let outcome = httpd.test();
    if !outcome.text.contains("ChainCAStore': unknown") {
        outcome.accepted(&["certificate-checked-at-start"]);
    }
}

/// A chain of any length has the same result at a config test and at a start.
#[test]
fn long_chains_have_the_same_result_at_test_and_start() {
    let mut httpd = prepared();
    let (pki, port) = (httpd.pki(), free_port());
    pki.intermediate("between", "ca");
    pki.leaf("below", "localhost", "between");
    let between = pki.pin("between.pem");
    pki.intermediate("unrelated", "ca");
    for (unrelated, is_read) in [(70, true), (300, false)] {
        let unrelated = pki.read("unrelated.pem").repeat(unrelated);
        pki.write("chain.pem", [unrelated, pki.read("between.pem")].concat());
        httpd.configure(&format!(
            "{}{}{}",
            listen(&[port]),
            policy("site", &[&between, B]),
            tls_vhost(
                port,
                "localhost",
                "below",
                "HPKPUse site\nSSLCertificateChainFile chain.pem"
            ),
        ));
        let outcome = httpd.test();
        if is_read {
            outcome.accepted(&[]);
        } else {
            outcome.refused("oversized-input", httpd.line("HPKPUse site"));
            httpd.expect_in_log(&["hpkp: [oversized-input]"]);
        }
        httpd.start();
        assert_eq!(codes(&httpd.log()).is_empty(), is_read, "{}", httpd.log());
        httpd.stop();
    }
}

/// mod_ssl calls our hook for a proxy's SSL_CTX as well, which presents nothing to clients.
#[test]
fn client_certificates_of_a_proxy_are_not_compared() {
    let mut httpd = prepared();
    // LLVM 14's LeakSanitizer crashes in its own tracer when this server ends.
    if let Some((name, value)) = without_leaks() {
        httpd.set_environment(name, &value);
    }
    httpd.load(&["proxy", "proxy_http"]);
    let (pki, port, backend) = (httpd.pki(), free_port(), free_port());
    let live = pki.pin("live.pem");
    pki.leaf("backend", "backend.example", "ca");
    // The proxy's client certificate is not pinned.
    pki.bundle("machine.pem", &["other.pem", "other.key"]);
    let proxy = format!(
        "HPKPUse site\nSSLProxyEngine on\nSSLProxyMachineCertificateFile machine.pem\n\
         SSLProxyCACertificateFile ca.pem\nSSLProxyCheckPeerName off\n\
         ProxyPass /proxy/ https://127.0.0.1:{backend}/"
    );
    httpd.configure(&format!(
        "{}{}{}{}",
        listen(&[port, backend]),
        policy("site", &[&live, B]),
        tls_vhost(port, "localhost", "live", &proxy),
        tls_vhost(
            // Under the same name its other key would lock clients out.
            backend,
            "backend.example",
            "backend",
            "SSLVerifyClient require\nSSLCACertificateFile ca.pem"
        ),
    ));
    httpd.test().accepted(&[]);
    httpd.expect_in_log(&["AH02268: Proxy client certificate callback"]);
    httpd.start();
    let url = format!("https://localhost:{port}/proxy/");
    let response = Curl::new(&httpd.path("ca.pem")).get(&url);
    assert_eq!((response.status, response.pins().len()), (200, 1), "{}", httpd.log());
    httpd.stop();
}

/// Our module may be loaded before mod_ssl or after it.
#[test]
fn the_order_of_modules_does_not_matter() {
    for first in [true, false] {
        let mut httpd = prepared();
        if first {
            httpd.load_ours_first();
        }
        let (live, port) = (httpd.pki().pin("live.pem"), free_port());
        let configuration = |pin: &str| {
            let vhost = tls_vhost(port, "localhost", "live", "HPKPUse site");
            format!("{}{}{vhost}", listen(&[port]), policy("site", &[pin, B]))
        };
        httpd.configure(&configuration(A));
        httpd.test().refused("no-pin-in-chain", httpd.line("HPKPUse site"));
        httpd.configure(&configuration(&live));
        httpd.test().accepted(&[]);
        httpd.start();
        assert_eq!(asked(&httpd, port), (200, 1), "first: {first}");
        let response = Curl::new(&httpd.path("ca.pem"))
            .with(&["--http2"])
            .get(&format!("https://localhost:{port}/"));
        assert_eq!(response.pins().len(), 1, "first: {first}");
        httpd.configure(&configuration(A));
        assert!(matches!(httpd.graceful(), Reload::Refused(_)));
        httpd.stop();
    }
}

#[test]
fn a_policy_without_mod_ssl_is_reported_as_no_tls() {
    let mut httpd = prepared();
    for module in ["ssl", "http2"] {
        httpd.unload(module);
    }
    let (live, port) = (httpd.pki().pin("live.pem"), free_port());
    let vhost = |more: &str| {
        format!(
            "{}{}<VirtualHost 127.0.0.1:{port}>\nServerName localhost\n{more}\n</VirtualHost>\n",
            listen(&[port]),
            policy("site", &[&live, B])
        )
    };
    // No host uses a policy.
    httpd.configure(&vhost(""));
    httpd.test().accepted(&[]);
    httpd.configure(&vhost("HPKPUse site"));
    let outcome = httpd.test();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.text.contains("mod_ssl"), "{outcome:?}");
    httpd.expect_in_log(&["mod_ssl", "hpkp: [no-tls]"]);
    httpd.start();
    let url = format!("http://localhost:{port}/");
    let response = Curl::new(&httpd.path("ca.pem")).get(&url);
    assert_eq!((response.status, response.pins().len()), (200, 0));
    httpd.stop();
    // The directives of mod_ssl are not defined.
    for directive in
        ["SSLEngine on", "SSLCertificateFile live.pem", "SSLCertificateChainFile live.pem"]
    {
        httpd.configure(&vhost(directive));
        let name = directive.split(' ').next().expect("a name");
        let text = format!("Invalid command '{name}', perhaps misspelled or defined by a module");
        httpd.test().refused_for(&text, "httpd.conf", httpd.line(directive));
    }
}

/// If no chain is configured, OpenSSL completes it from the CAs for client certificates, in a file or in a directory.
#[test]
fn a_chain_that_openssl_completes() {
    let mut httpd = prepared();
    let (pki, port) = (httpd.pki(), free_port());
    pki.intermediate("above", "ca");
    pki.leaf("below", "localhost", "above");
    pki.bundle("authorities.pem", &["above.pem", "ca.pem"]);
    fs::create_dir(httpd.path("authorities")).expect("a directory");
    for name in ["above", "ca"] {
        fs::copy(
            httpd.path(&format!("{name}.pem")),
            httpd.path(&format!("authorities/{name}.pem")),
        )
        .expect("a copy");
    }
    succeed(Command::new("openssl").args(["rehash"]).arg(httpd.path("authorities")));
    let above = pki.pin("above.pem");
    for directive in ["SSLCACertificateFile authorities.pem", "SSLCACertificatePath authorities"] {
        httpd.configure(&format!(
            "{}{}{}",
            listen(&[port]),
            policy("site", &[&above, B]),
            tls_vhost(port, "localhost", "below", &format!("{directive}\nHPKPUse site")),
        ));
        httpd.test().accepted(&[]);
        httpd.start();
        assert_eq!(asked(&httpd, port), (200, 1), "{directive}");
        let address = format!("127.0.0.1:{port}");
        let output = succeed(
            Command::new("openssl")
                .args(["s_client", "-connect", &address, "-showcerts"])
                .stdin(std::process::Stdio::null()),
        );
        let count = String::from_utf8_lossy(&output).matches("BEGIN CERTIFICATE").count();
        assert_eq!(count, 3, "{directive}");
        httpd.stop();
    }
}

/// The check cannot see the certificates of a server whose TLS another module provides.
#[test]
fn servers_of_another_tls_module_are_reported() {
    let httpd = prepared();
    let (pki, port, other) = (httpd.pki(), free_port(), free_port());
    let module = httpd.path("mod_gnutls.so");
    let mut compiler = Command::new("sh");
    compiler.args([
        "-c",
        "exec cc -shared -fPIC $(apxs -q CFLAGS) -I$(apxs -q INCLUDEDIR) \
                          $(apr-1-config --includes --cppflags) -o \"$0\" \"$1\"",
    ]);
    compiler.arg(&module).arg(concat!(env!("CARGO_MANIFEST_DIR"), "/httpd/other_tls.c"));
    succeed(&mut compiler);
    let live = pki.pin("live.pem");
    let configure = |enable: &str| {
        httpd.configure(&format!(
            "LoadModule gnutls_module {}\n{}{}{}<VirtualHost 127.0.0.1:{other}>\n\
             ServerName other.example.com\nGnuTLSEnable {enable}\n</VirtualHost>\n",
            module.display(),
            listen(&[port, other]),
            policy("site", &[&live, A]),
            tls_vhost(port, "localhost", "live", "HPKPUse site"),
        ));
    };
    configure("off");
    httpd.test().accepted(&[]);
    configure("on");
    let outcome = httpd.test();
    outcome.accepted(&["tls-server-not-checked"]);
    let line = httpd.line("GnuTLSEnable on");
    let place = "(GnuTLSEnable on), so none of them is compared";
    assert!(outcome.text.contains("[tls-server-not-checked] mod_gnutls: "), "{}", outcome.text);
    assert!(
        outcome.text.contains(place) && outcome.text.contains(&format!(":{line})")),
        "{}",
        outcome.text
    );
}
