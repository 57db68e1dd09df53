//! nginx with the module and records, whose files the hooks of ACME clients install.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use hpkp_tests::client::Curl;
use hpkp_tests::nginx::Nginx;
use hpkp_tests::pki::{P256, Pki};
use hpkp_tests::{free_port, output, succeed};

use crate::pebble::Pebble;

/// The host of all certificates.
pub const HOST: &str = "www.example.com";

/// nginx, and the ACME server of its client.
pub struct Deployed {
    pub nginx: Nginx,
    pub pebble: Pebble,
    pub port: u16,
}

impl Deployed {
    /// Starts both. nginx presents a self-signed certificate until an ACME client gets another one.
    pub fn running() -> Self {
        let nginx = Nginx::new();
        let pki = nginx.pki();
        let pebble = Pebble::start(&pki);
        pki.records("records");
        pki.key("placeholder", P256);
        let name = format!("subjectAltName=DNS:{HOST}");
        pki.self_signed("placeholder", &format!("/CN={HOST}"), &[&name]);
        fs::create_dir_all(nginx.path("tls").join(HOST)).expect("a directory");
        for end in ["pem", "key"] {
            let to = nginx.path("tls").join(HOST).join(format!("site.{end}"));
            fs::copy(nginx.path(&format!("placeholder.{end}")), to).expect("a copy");
        }
        let port = free_port();
        let mut this = Self { nginx, pebble, port };
        this.nginx.configure(&format!(
            "hpkp_published_pins records writer=web-1; hpkp_trusted_certificate root.pem;\n\
             server {{ listen 127.0.0.1:{port} ssl; server_name {HOST}; ssl_certificate tls/{HOST}/site.pem; \
             ssl_certificate_key tls/{HOST}/site.key; return 200 x; }}"
        ));
        this.nginx.expect_in_log(&["hpkp: "]);
        this.nginx.start();
        this.write_settings();
        this
    }

    /// Writes the settings of the hooks.
    fn write_settings(&self) {
        let nginx = self.nginx.command();
        let words = std::iter::once(nginx.get_program()).chain(nginx.get_args());
        let words: Vec<&str> = words.map(|word| word.to_str().expect("UTF-8")).collect();
        let (command, directory) = (words.join(" "), self.nginx.path(""));
        let directory = directory.display();
        let settings = format!(
            "to={directory}/tls\ntest='{command} -t'\nreload='{command} -s reload'\n\
             options='-d {directory}/records --trusted-certificate {directory}/root.pem --served localhost:{port}'\n\
             check_options='-d {directory}/records --trusted-certificate {directory}/root.pem'\n\
             dehydrated_keeps_key=no\ndehydrated_renew_days=32\nmd_server=localhost:{port}\n",
            port = self.port
        );
        fs::write(self.nginx.path("acme.conf"), settings).expect("a file");
    }

    /// Changes a setting of the hooks.
    pub fn set(&self, name: &str, value: &str) {
        let path = self.nginx.path("acme.conf");
        let settings = fs::read_to_string(&path).expect("settings");
        fs::write(path, format!("{settings}{name}={value}\n")).expect("a file");
    }

    pub fn pki(&self) -> Pki {
        self.nginx.pki()
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.nginx.path(file)
    }

    /// A client's command, with what the hooks need in its environment.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let hpkp = PathBuf::from(env!("CARGO_BIN_EXE_hpkp"));
        let path = std::env::var("PATH").expect("PATH");
        command.current_dir(self.path("")).env_remove("HPKP_CHECK");
        command.env("PATH", format!("{}:{path}", hpkp.parent().expect("a directory").display()));
        command.env("HPKP_ACME_CONF", self.path("acme.conf")).env("HPKP_ACME_DIR", hooks());
        command
    }

    /// Runs a client's command, and keeps what it prints for [`Self::log`].
    pub fn run(&self, command: &mut Command) -> Output {
        let output = output(command);
        let log = [output.stdout.as_slice(), &output.stderr].concat();
        fs::write(self.path("client.log"), log).expect("a file");
        output
    }

    /// What the last command of a client printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("client.log")).unwrap_or_default()
    }

    /// Whether the server presents the key of the certificate in a file.
    pub fn serves(&self, certificate: &str) -> bool {
        let pin = format!("sha256//{}", self.pki().pin(certificate));
        let curl = Curl::new(&self.path("root.pem")).with(&["--pinnedpubkey", &pin]);
        curl.exit_code(&format!("https://{HOST}:{}/", self.port)) == Some(0)
    }

    /// Records that an app pins the key that is served now, and copies its pair to `good.pem` and `good.key`.
    #[track_caller]
    pub fn pin_served_key(&self) {
        for end in ["pem", "key"] {
            let from = self.path(&format!("tls/{HOST}/site.{end}"));
            fs::copy(from, self.path(&format!("good.{end}"))).expect("a copy");
        }
        assert!(self.serves("good.pem"));
        let pin = format!("sha256/{}", self.pki().pin("good.pem"));
        let mut add = Command::new(env!("CARGO_BIN_EXE_hpkp"));
        let arguments = [
            "published",
            "-d",
            "records",
            "add",
            HOST,
            "--origin",
            "app 1",
            "--pin",
            &pin,
            "--writer",
            "apps",
        ];
        succeed(add.current_dir(self.path("")).args(arguments));
    }

    /// The pin of the installed certificate.
    pub fn in_place(&self) -> String {
        self.pki().pin(&format!("tls/{HOST}/site.pem"))
    }

    /// Fails unless clients of the app can still connect: the pinned key is installed and served, and the
    /// config test passes, so a restart would load it.
    #[track_caller]
    pub fn clients_can_connect(&self) {
        assert_eq!(self.in_place(), self.pki().pin("good.pem"), "{}", self.log());
        assert_eq!(self.pki().pin(&format!("tls/{HOST}/site.key")), self.pki().pin("good.pem"));
        assert!(self.serves("good.pem"), "{}", self.log());
        assert_eq!(self.nginx.test().code, Some(0));
    }

    /// Makes the next key of the host, and hands it to the ACME client of `directory` once an app pins it, and not
    /// before. Returns its pin.
    #[track_caller]
    pub fn hand_over(&self, directory: &str) -> String {
        let hpkp = |arguments: &[&str], code: i32| {
            let mut command = self.command(env!("CARGO_BIN_EXE_hpkp"));
            let output = self.run(command.args(arguments));
            assert_eq!(output.status.code(), Some(code), "{}", self.log());
        };
        let next = ["key", "next", HOST, "-d", "records", "--acme", directory];
        let client = [&next[..], &["--client"]].concat();
        hpkp(&[&next[..], &["--key", "planned.key"]].concat(), 0);
        hpkp(&client, 1);
        let planned = self.pki().pin("planned.key");
        let pins = [self.pki().pin("good.pem"), planned.clone()].map(|pin| format!("sha256/{pin}"));
        let published = ["published", "-d", "records"];
        let end = ["end", "--host", HOST, "--why", "withdrawn", "--writer", "apps"];
        hpkp(&[&published[..], &end].concat(), 0);
        let add = ["add", HOST, "--origin", "app 2", "--writer", "apps"];
        hpkp(&[&published[..], &add, &["--pin", &pins[0], "--pin", &pins[1]]].concat(), 0);
        hpkp(&client, 0);
        planned
    }

    /// Fails unless the server presents the certificate of the key that was handed over.
    #[track_caller]
    pub fn presents(&self, planned: &str) {
        assert_eq!(self.in_place(), planned, "{}", self.log());
        assert!(self.serves(&format!("tls/{HOST}/site.pem")));
    }

    /// The doctor's result for the only certificate in a client's directory: the ACME client, its next key, and
    /// whether clients accept that key.
    #[track_caller]
    pub fn doctor(&self, directory: &str) -> [String; 3] {
        let mut doctor = Command::new(env!("CARGO_BIN_EXE_hpkp"));
        let arguments = [
            "acme",
            "doctor",
            "-d",
            "records",
            "--trusted-certificate",
            "root.pem",
            "--json",
            "--acme",
        ];
        let outcome = output(doctor.current_dir(self.path("")).args(arguments).arg(directory));
        let json: serde_json::Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
        let all = json["certificates"].as_array().expect("certificates");
        assert_eq!(all.len(), 1, "{json}");
        ["client", "next_key", "answer"]
            .map(|name| all[0][name].as_str().expect("a text").to_owned())
    }

    /// The installed certificate, as bytes, which differ after each renewal that was installed.
    pub fn certificate(&self) -> Vec<u8> {
        fs::read(self.path(&format!("tls/{HOST}/site.pem"))).expect("a file")
    }
}

/// The directory of the shipped hooks.
pub fn hooks() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/acme"))
}

pub fn hook(name: &str) -> String {
    hooks().join(name).to_str().expect("UTF-8").to_owned()
}
