//! The header depends on the certificate that the connection presented at its full handshake, also when its
//! session is resumed, in another worker or after a reload.

use std::collections::HashSet;

use hpkp_tests::free_port;
use hpkp_tests::nginx::{Nginx, Reload, is_enough, tls_server};
use hpkp_tests::pki::{RSA, leaf_extensions};
use hpkp_tests::session::{Answer, SessionClient};
use hpkp_tests::site::{B, prepared};

/// The ways in which a session is resumed: the server's directives, the client's version, and whether sessions
/// survive a reload of an nginx before 1.28.
pub(crate) const WAYS: [(&str, &str, bool); 4] = [
    ("ssl_session_tickets off; ssl_session_cache shared:SSL:1m;", "-tls1_2", true),
    ("ssl_session_tickets on;", "-tls1_2", false),
    ("ssl_session_tickets on;", "-tls1_3", false),
    ("ssl_session_tickets off; ssl_session_cache shared:SSL:1m;", "-tls1_3", true),
];

/// A server with certificates `ecdsa` and `rsa` for b.example, and `ecdsa` alone for a.example.
fn two_keys() -> Nginx {
    let nginx = prepared();
    let pki = nginx.pki();
    pki.leaf("ecdsa", "b.example", "ca");
    pki.key("rsa", RSA);
    pki.sign("rsa", "/CN=b.example", "ca", &leaf_extensions("b.example"));
    nginx
}

/// Configures two workers; each connection reaches one of them at random.
fn configure(nginx: &Nginx, port: u16, way: &str, pin: &str, ecdsa: &str) {
    let http = format!(
        "ssl_protocols TLSv1.2 TLSv1.3; {way} add_header Worker $pid always;
         hpkp_policy site {{ pin {pin}; pin {B}; max_age 1d; }}
         {}{}",
        tls_server(
            port,
            "b.example",
            ecdsa,
            "ssl_certificate rsa.pem; ssl_certificate_key rsa.key; return 200 b;"
        ),
        tls_server(port, "a.example", "own", "hpkp site; return 200 a;"),
    );
    let http = http.replacen(" ssl;", " ssl reuseport;", 1);
    nginx.configure_with("worker_processes 2;", &http);
}

fn client(nginx: &Nginx, version: &str, key: &str) -> SessionClient {
    let file = nginx.path(&format!("session{version}-{key}"));
    let chosen: &[&str] = match (version, key) {
        ("-tls1_2", "rsa") => &["-cipher", "ECDHE-RSA-AES128-GCM-SHA256"],
        ("-tls1_2", _) => &["-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"],
        (_, "rsa") => &["-sigalgs", "rsa_pss_rsae_sha256"],
        _ => &["-sigalgs", "ecdsa_secp256r1_sha256"],
    };
    SessionClient::new(&file, &[&[version], chosen].concat())
}

fn worker(answer: &Answer) -> String {
    answer.response.all("worker")[0].to_owned()
}

/// Makes the certificate `own` for a.example with the key of `name`.
fn own(nginx: &Nginx, name: &str) {
    let pki = nginx.pki();
    std::fs::copy(pki.path(&format!("{name}.key")), pki.path("next.key")).expect("a key");
    pki.sign("next", "/CN=a.example", "ca", &leaf_extensions("a.example"));
    // The files are replaced: nginx from 1.27.4 on keeps a loaded file whose metadata is unchanged.
    for kind in ["key", "pem"] {
        let (new, old) = (pki.path(&format!("next.{kind}")), pki.path(&format!("own.{kind}")));
        std::fs::rename(new, old).expect("a new file");
    }
}

#[test]
fn rsa_beside_ecdsa_over_two_workers_and_reloads() {
    for (way, version, outlives) in WAYS {
        let mut nginx = two_keys();
        let (ecdsa, rsa) = (nginx.pki().pin("ecdsa.pem"), nginx.pki().pin("rsa.pem"));
        let port = free_port();
        own(&nginx, "ecdsa");
        configure(&nginx, port, way, &ecdsa, "ecdsa");
        nginx.start();
        let clients = [("ecdsa", 1), ("rsa", 0)];
        let mut workers = HashSet::new();
        for (key, expected) in clients {
            let client = client(&nginx, version, key);
            let first = client.begin(port, "b.example", "a.example");
            assert_eq!((first.resumed, first.sent()), (false, expected), "{way} {version} {key}");
            // Each request uses the newest session.
            for asked in 1.. {
                let answer = client.ask(port, "b.example", "a.example");
                assert_eq!(
                    (answer.resumed, answer.sent()),
                    (true, expected),
                    "{way} {version} {key}"
                );
                workers.insert(worker(&answer));
                if is_enough(asked, 8, workers.len()) {
                    break;
                }
            }
        }
        assert_eq!(workers.len(), 2, "{way} {version}");
        // The other key is pinned now; the sessions still count with the certificates that their clients saw.
        own(&nginx, "rsa");
        configure(&nginx, port, way, &rsa, "ecdsa");
        assert_eq!(nginx.reload(), Reload::Accepted);
        for (key, before) in clients {
            let answer = client(&nginx, version, key).ask(port, "b.example", "a.example");
            assert_eq!(answer.sent(), 1 - before, "{way} {version} {key}");
            assert!(answer.resumed || !outlives, "{way} {version} {key}");
        }
        nginx.stop();
    }
}

/// With one loaded certificate, each resumed connection gets the header, in both workers and after a reload.
#[test]
fn one_certificate_over_two_workers_and_reloads() {
    for (way, version, outlives) in WAYS {
        let mut nginx = two_keys();
        let (pin, port) = (nginx.pki().pin("ecdsa.pem"), free_port());
        own(&nginx, "ecdsa");
        configure(&nginx, port, way, &pin, "ecdsa");
        nginx.start();
        let client = client(&nginx, version, "ecdsa");
        assert_eq!(client.begin(port, "a.example", "a.example").sent(), 1, "{way} {version}");
        let mut workers = HashSet::new();
        for asked in 1.. {
            let answer = client.ask(port, "a.example", "a.example");
            assert_eq!((answer.resumed, answer.sent()), (true, 1), "{way} {version}");
            workers.insert(worker(&answer));
            if is_enough(asked, 12, workers.len()) {
                break;
            }
        }
        assert_eq!(workers.len(), 2, "{way} {version}");
        assert_eq!(nginx.reload(), Reload::Accepted);
        let answer = client.ask(port, "a.example", "a.example");
        assert_eq!(answer.sent(), 1, "{way} {version}");
        assert!(answer.resumed || !outlives, "{way} {version}");
        nginx.stop();
    }
}

/// A session from before the module was loaded does not store a certificate, so all certificates of the SSL_CTX
/// must satisfy the policy.
#[test]
fn sessions_from_before_the_module() {
    let mut nginx = two_keys();
    let (ecdsa, port) = (nginx.pki().pin("ecdsa.pem"), free_port());
    let (way, version, _) = WAYS[0];
    own(&nginx, "ecdsa");
    let without = format!(
        "ssl_protocols TLSv1.2 TLSv1.3; {way}\n{}{}",
        tls_server(
            port,
            "b.example",
            "ecdsa",
            "ssl_certificate rsa.pem; ssl_certificate_key rsa.key; return 200 b;"
        ),
        tls_server(port, "a.example", "own", "return 200 a;"),
    );
    nginx.configure_without_module(&without);
    nginx.start();
    let client = client(&nginx, version, "ecdsa");
    let of_a = SessionClient::new(&nginx.path("session-a"), &[version]);
    assert_eq!(client.begin(port, "b.example", "a.example").sent(), 0);
    assert_eq!(of_a.begin(port, "a.example", "a.example").sent(), 0);
    nginx.configure(
        &without.replace("server_name a.example;", "server_name a.example; hpkp site;").replacen(
            "ssl_protocols",
            &format!("hpkp_policy site {{ pin {ecdsa}; pin {B}; max_age 1d; }}\nssl_protocols"),
            1,
        ),
    );
    assert_eq!(nginx.reload(), Reload::Accepted);
    for (client, sni, expected) in [(&client, "b.example", 0), (&of_a, "a.example", 1)] {
        let answer = client.ask(port, sni, "a.example");
        assert_eq!((answer.resumed, answer.sent()), (true, expected), "{sni}");
    }
    assert_eq!(client.begin(port, "b.example", "a.example").sent(), 1);
    nginx.stop();
}
