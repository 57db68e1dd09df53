//! An ACME server on loopback (RFC 8555): pebble, which accepts every challenge here.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use hpkp_tests::instance::wait;
use hpkp_tests::pki::{P256, Pki};
use hpkp_tests::{free_port, succeed};

/// Runs until it is dropped.
pub struct Pebble {
    process: Child,
    port: u16,
    management: u16,
    /// The CA of its own certificate, which clients must trust.
    pub ca: PathBuf,
}

impl Pebble {
    /// Starts it with files in the directory of `pki`.
    pub fn start(pki: &Pki) -> Self {
        let (port, management) = (free_port(), free_port());
        pki.ca("pebble-ca");
        pki.key("pebble", P256);
        let names = "subjectAltName=DNS:localhost,IP:127.0.0.1\n";
        pki.sign("pebble", "/CN=localhost", "pebble-ca", names);
        let configuration = format!(
            r#"{{"pebble": {{"listenAddress": "127.0.0.1:{port}", "managementListenAddress": "127.0.0.1:{management}",
                "certificate": "pebble.pem", "privateKey": "pebble.key", "httpPort": {}, "tlsPort": {},
                "ocspResponderURL": "", "externalAccountBindingRequired": false,
                "certificateValidityPeriod": 518400}}}}"#,
            free_port(),
            free_port()
        );
        pki.write("pebble.json", configuration);
        let log = fs::File::create(pki.path("pebble.log")).expect("a file");
        let mut command = Command::new("pebble");
        command.args(["-config", "pebble.json"]).current_dir(pki.path(""));
        command.envs([
            ("PEBBLE_VA_NOSLEEP", "1"),
            ("PEBBLE_VA_ALWAYS_VALID", "1"),
            ("PEBBLE_WFE_NONCEREJECT", "0"),
        ]);
        let errors = log.try_clone().expect("a file");
        let process = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        let process = process.expect("pebble is missing: run ci/prerequisites, which installs it");
        let this = Self { process, port, management, ca: pki.path("pebble-ca.pem") };
        let is_up = |port| TcpStream::connect(("127.0.0.1", port)).is_ok();
        assert!(wait(|| is_up(port) && is_up(management)), "pebble did not start");
        fs::write(pki.path("root.pem"), this.root()).expect("a file");
        this
    }

    pub fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.port)
    }

    /// The root of the certificates that it issues, in PEM.
    fn root(&self) -> Vec<u8> {
        let url = format!("https://localhost:{}/roots/0", self.management);
        succeed(Command::new("curl").args(["-sf", "--cacert"]).arg(&self.ca).arg(url))
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
