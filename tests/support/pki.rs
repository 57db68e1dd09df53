//! Test PKI: keys, requests and certificates, made by the openssl command in a directory of the test's own.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::succeed;

/// The arguments of `openssl genpkey` for a key.
pub const P256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
pub const P384: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
pub const P521: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"];
pub const RSA: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
pub const RSA_PSS: &[&str] = &["-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"];
pub const ED25519: &[&str] = &["-algorithm", "ED25519"];
pub const ED448: &[&str] = &["-algorithm", "ED448"];

/// Each kind of key, with its name.
pub const KINDS: [(&str, &[&str]); 7] = [
    ("rsa", RSA),
    ("rsa-pss", RSA_PSS),
    ("p256", P256),
    ("p384", P384),
    ("p521", P521),
    ("ed25519", ED25519),
    ("ed448", ED448),
];

pub fn openssl(arguments: &[&str]) -> Vec<u8> {
    succeed(Command::new("openssl").args(arguments))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// The files of one test, in a directory of its own.
pub fn pki() -> (tempfile::TempDir, Pki) {
    let dir = tempfile::tempdir().expect("a directory");
    let pki = Pki::new(dir.path());
    (dir, pki)
}

/// The files of one test.
#[derive(Clone, Debug)]
pub struct Pki {
    dir: PathBuf,
}

/// A name for a subject, its key and its certificate: files `NAME.key` and `NAME.pem`.
impl Pki {
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    pub fn write(&self, file: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(file);
        std::fs::write(&path, bytes).expect("a file written");
        path
    }

    /// Makes an empty directory for records, as `hpkp published init` does.
    pub fn records(&self, name: &str) {
        std::fs::create_dir_all(self.path(name).join("peers")).expect("a directory");
        self.write(&format!("{name}/hpkp-records"), "1\n");
    }

    pub fn read(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.path(file)).expect("a file read")
    }

    /// Makes `NAME.key`.
    pub fn key(&self, name: &str, kind: &[&str]) -> PathBuf {
        let key = self.path(&format!("{name}.key"));
        let out = [&["genpkey"], kind, &["-out", text(&key)]].concat();
        openssl(&out);
        key
    }

    /// Makes `NAME.csr` of `NAME.key`.
    pub fn request(&self, name: &str, subject: &str) -> PathBuf {
        let request = self.path(&format!("{name}.csr"));
        let key = self.path(&format!("{name}.key"));
        openssl(&["req", "-new", "-key", text(&key), "-subj", subject, "-out", text(&request)]);
        request
    }

    /// Makes `NAME.pem`, signed by `NAME.key` itself.
    pub fn self_signed(&self, name: &str, subject: &str, extensions: &[&str]) -> PathBuf {
        let certificate = self.path(&format!("{name}.pem"));
        let key = self.path(&format!("{name}.key"));
        let mut arguments = vec!["req", "-x509", "-key", text(&key), "-subj", subject];
        for extension in extensions {
            arguments.extend(["-addext", *extension]);
        }
        arguments.extend(["-days", "30", "-out", text(&certificate)]);
        openssl(&arguments);
        certificate
    }

    /// Makes a CA: `NAME.key` and `NAME.pem`.
    pub fn ca(&self, name: &str) -> PathBuf {
        self.key(name, P256);
        self.self_signed(name, &format!("/CN={name}"), &[])
    }

    /// Makes `NAME.pem` for the existing `NAME.key`, signed by `ISSUER.key` with the subject of `ISSUER.pem` as its
    /// issuer. `extensions` are lines of an extension file.
    pub fn sign(&self, name: &str, subject: &str, issuer: &str, extensions: &str) -> PathBuf {
        self.sign_as(name, name, subject, issuer, extensions)
    }

    /// As [`Pki::sign`], but writes `FILE.pem`, for a second certificate of one key.
    pub fn sign_as(
        &self,
        file: &str,
        name: &str,
        subject: &str,
        issuer: &str,
        extensions: &str,
    ) -> PathBuf {
        let certificate = self.path(&format!("{file}.pem"));
        let request = self.request(name, subject);
        let extension_file = self.write(&format!("{file}.ext"), extensions);
        let issuer_certificate = self.path(&format!("{issuer}.pem"));
        let issuer_key = self.path(&format!("{issuer}.key"));
        openssl(&[
            "x509",
            "-req",
            "-in",
            text(&request),
            "-CA",
            text(&issuer_certificate),
            "-CAkey",
            text(&issuer_key),
            "-set_serial",
            &serial(),
            "-days",
            "20",
            "-extfile",
            text(&extension_file),
            "-out",
            text(&certificate),
        ]);
        certificate
    }

    /// Makes a leaf with a new P-256 key for `host`, signed by `issuer`.
    pub fn leaf(&self, name: &str, host: &str, issuer: &str) -> PathBuf {
        self.key(name, P256);
        self.sign(name, &format!("/CN={host}"), issuer, &leaf_extensions(host))
    }

    /// Makes an intermediate CA with a new key, signed by `issuer`.
    pub fn intermediate(&self, name: &str, issuer: &str) -> PathBuf {
        self.key(name, P256);
        self.sign(name, &format!("/CN={name}"), issuer, CA_EXTENSIONS)
    }

    /// Joins files into one.
    pub fn bundle(&self, file: &str, parts: &[&str]) -> PathBuf {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| self.read(part)).collect();
        self.write(file, bytes)
    }

    /// Joins a leaf and 24 large certificates, so that the file is larger than 32 KB.
    pub fn large_bundle(&self, file: &str, leaf: &str) -> PathBuf {
        let mut parts = vec![leaf.to_owned()];
        for number in 0..24 {
            let name = format!("above-{number}");
            self.key(&name, P256);
            self.self_signed(
                &name,
                &format!("/CN={}", "x".repeat(60)),
                &[&format!("nsComment={}", "y".repeat(900))],
            );
            parts.push(format!("{name}.pem"));
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        self.bundle(file, &parts)
    }

    /// The pin of a certificate, a request, a key pair or a public key, computed by openssl.
    pub fn pin(&self, file: &str) -> String {
        let path = self.path(file);
        let path = text(&path);
        let public = match file.rsplit('.').next() {
            Some("csr") => openssl(&["req", "-in", path, "-pubkey", "-noout"]),
            Some("key") => openssl(&["pkey", "-in", path, "-pubout"]),
            Some("pub") => self.read(file),
            _ => openssl(&["x509", "-in", path, "-pubkey", "-noout"]),
        };
        let public = self.write("pin.pub.tmp", public);
        let der = openssl(&["pkey", "-pubin", "-in", text(&public), "-outform", "der"]);
        let der = self.write("pin.der.tmp", der);
        let hash = openssl(&["dgst", "-sha256", "-binary", text(&der)]);
        let hash = self.write("pin.hash.tmp", hash);
        let base64 = openssl(&["base64", "-in", text(&hash)]);
        String::from_utf8(base64).expect("base64").trim().to_owned()
    }
}

pub const CA_EXTENSIONS: &str = "basicConstraints=critical,CA:TRUE\n\
    subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";

/// The extensions of a server certificate for `host`, with key identifiers.
pub fn leaf_extensions(host: &str) -> String {
    format!("subjectAltName=DNS:{host}\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n")
}

/// A serial number that no other certificate of this process has.
fn serial() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(1000);
    NEXT.fetch_add(1, Ordering::Relaxed).to_string()
}
