//! Azure Blob Storage: Microsoft's emulator Azurite, which `ci/stores` installs.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use object_store::azure::MicrosoftAzureBuilder;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStoreExt as _};
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use tempfile::TempDir;

use crate::engine::{Engine, address, copy, put_back};
use crate::{succeed, wait_for};

/// The account of the emulator, and its key, which is public.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// An emulator for one test.
pub struct Azure {
    at: TempDir,
    port: u16,
    server: Option<Child>,
}

impl Azure {
    pub fn start() -> Self {
        let at = tempfile::tempdir().unwrap();
        std::fs::create_dir(at.path().join("data")).unwrap();
        let mut azure = Self { at, port: hpkp_tests::free_port(), server: None };
        azure.resume();
        azure.make_container();
        azure
    }

    fn data(&self) -> PathBuf {
        self.at.path().join("data")
    }

    fn endpoint(&self) -> String {
        format!("http://{}:{}/{ACCOUNT}", address(), self.port)
    }

    fn make_container(&self) {
        let date = succeed("date", &["-u", "+%a, %d %b %Y %H:%M:%S GMT"]);
        let (date, version) = (format!("x-ms-date:{}", date.trim()), "x-ms-version:2020-10-02");
        let text = format!(
            "PUT{}{date}\n{version}\n/{ACCOUNT}/{ACCOUNT}/fleet\nrestype:container",
            "\n".repeat(12)
        );
        let key = PKey::hmac(&openssl::base64::decode_block(KEY).unwrap()).unwrap();
        let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
        let signature = signer.sign_oneshot_to_vec(text.as_bytes()).unwrap();
        let signature = openssl::base64::encode_block(&signature);
        let authorization = format!("Authorization: SharedKey {ACCOUNT}:{signature}");
        let url = format!("{}/fleet?restype=container", self.endpoint());
        let headers = ["-H", &date, "-H", version, "-H", &authorization, "-H", "Content-Length: 0"];
        succeed(
            "curl",
            &[&["-sS", "--fail-with-body", "-X", "PUT"][..], &headers, &[&url]].concat(),
        );
    }
}

impl Engine for Azure {
    fn url(&self) -> String {
        format!("az://fleet/a/prefix?endpoint={}", self.endpoint())
    }

    fn environment(&self) -> Vec<(String, String)> {
        [("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT), ("AZURE_STORAGE_ACCOUNT_KEY", KEY)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec()
    }

    fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // With SIGTERM the emulator writes its state to the disk.
            succeed("kill", &["-s", "TERM", &server.id().to_string()]);
            server.wait().unwrap();
        }
    }

    fn resume(&mut self) {
        let program = std::env::var_os("HPKP_AZURITE").map_or_else(
            || hpkp_tests::target_dir().join("stores/node_modules/.bin/azurite-blob"),
            PathBuf::from,
        );
        let server = Command::new(program)
            .args([
                "--silent",
                "--skipApiVersionCheck",
                "--disableTelemetry",
                "--blobHost",
                &address(),
            ])
            .args(["--blobPort", &self.port.to_string(), "--location"])
            .arg(self.data())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.server = Some(server.expect("azurite: run ci/stores"));
        let port = self.port;
        wait_for("azurite", || std::net::TcpStream::connect((address(), port)).is_ok());
    }

    fn back_up(&mut self) {
        self.stop();
        copy(&self.data(), &self.at.path().join("backup"));
        self.resume();
    }

    fn restore(&mut self) {
        self.stop();
        put_back(&self.at.path().join("backup"), &self.data());
        self.resume();
    }

    fn damage(&mut self, writer: &str) {
        let container = MicrosoftAzureBuilder::new()
            .with_account(ACCOUNT)
            .with_access_key(KEY)
            .with_endpoint(self.endpoint())
            .with_container_name("fleet")
            .with_client_options(ClientOptions::new().with_allow_http(true))
            .build()
            .unwrap();
        let path = format!("a/prefix/records/{writer}/{:010}.jsonl", 1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(container.put(&Path::from(path), "nonsense\n".into())).unwrap();
    }
}

impl Drop for Azure {
    fn drop(&mut self) {
        self.stop();
    }
}
