//! The arguments of `hpkp key`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use hpkp_core::pin::Pin;
use hpkp_core::published::HostName;

use super::Records;
use super::host::host;
use crate::export::Format;
use crate::keys::{KeyKind, SubjectName};

/// Make backup keys and next keys, and check that backup keys can be restored.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp key new --name www.example.com --paper backup.pdf backup.key
  hpkp key next www.example.com
  hpkp key drill backup.key")]
pub(crate) struct KeyArguments {
    #[command(subcommand)]
    pub(crate) command: KeyCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    New(NewKeyArguments),
    Next(NextKeyArguments),
    Drill(DrillArguments),
}

/// Make a backup key and its pin.
///
/// Nothing is overwritten, only the owner may read the key, and when the command exits with 0, all
/// files are on the disk and have been read back.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp key new backup.key                                       ECDSA P-256
  hpkp key new --type rsa-3072 --passphrase backup.key
  hpkp key new --name www.example.com --name example.com backup.key
  hpkp key new --pair --paper backup.pdf --directives backup.key
  hpkp key new --paper - backup.key | lp                        the page is on no disk")]
pub(crate) struct NewKeyArguments {
    /// File for the private key. With --pair, the kind of each key is added to the name:
    /// backup.ecdsa.key, backup.rsa.key.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Kind of key: p256, p384, rsa-2048 to rsa-4096, ed25519, or ml-dsa-44, ml-dsa-65 and ml-dsa-87
    /// if OpenSSL has them.
    #[arg(long = "type", value_name = "TYPE", default_value = "p256")]
    pub(crate) kind: KeyKind,

    /// Make two keys, ECDSA P-256 and RSA 3072, for a server with a certificate of each kind.
    #[arg(long, conflicts_with = "kind")]
    pub(crate) pair: bool,

    /// Host name or IP address for a certificate signing request. The first is its common name.
    #[arg(long = "name", value_name = "NAME")]
    pub(crate) names: Vec<SubjectName>,

    /// File for the certificate signing request [default: FILE with the ending .csr].
    #[arg(long, value_name = "FILE", requires = "names")]
    pub(crate) csr: Option<PathBuf>,

    /// Ask twice for a passphrase, and encrypt the key with it.
    #[arg(long)]
    pub(crate) passphrase: bool,

    /// Encrypt the key with the passphrase in the first line of a file.
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase")]
    pub(crate) passphrase_file: Option<PathBuf>,

    /// Page to print, with the key as a QR code and as lines to type: PDF if the name ends with .pdf,
    /// else text. For standard output: -
    #[arg(long, value_name = "FILE")]
    pub(crate) paper: Option<PathBuf>,

    /// Print the pin as directives of nginx and Apache httpd.
    #[arg(long)]
    pub(crate) directives: bool,

    /// Print one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Make the next key of a host, for use when clients know it.
///
/// The first call makes the key and prints what publishes its pin. Later calls say since when the pin is
/// published, and when the key may be used: as soon as, by the records, every client with pins for the host
/// has this pin too. --csr, --to and --client give the key to the ACME client, and are refused before that
/// time. Nothing is overwritten. If a call is interrupted, the next one continues it.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("handed").args(["csr", "to", "client", "forget", "export"]))]
#[command(after_help = "\
Examples:
  hpkp key next www.example.com                                make the key, or say when to use it
  hpkp key next www.example.com --csr next.csr                 its request, when that date has come
  hpkp key next www.example.com --client                       give it to the ACME client then
  hpkp key next www.example.com --export okhttp                for the next release of the app

Exit codes: 0 success, 1 the key may not be used yet, 2 wrong usage, 3 the answer cannot be determined.")]
pub(crate) struct NextKeyArguments {
    /// Host name.
    #[arg(value_name = "HOST", value_parser = host)]
    pub(crate) host: HostName,

    /// File for the private key [default: /etc/hpkp/next/HOST.PIN.key].
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,

    /// Take the private key that is in this file, and leave it there.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["key"])]
    pub(crate) take: Option<PathBuf>,

    /// Kind of key, as for hpkp key new [default: that of the key in use, p256 if it is not known].
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<KeyKind>,

    /// Write the certificate signing request to a new file, or to standard output (-).
    #[arg(long, value_name = "FILE|-")]
    pub(crate) csr: Option<PathBuf>,

    /// Host name or IP address for the request [default: those of the ACME client's certificate, or HOST].
    #[arg(long = "name", value_name = "NAME", requires = "csr")]
    pub(crate) names: Vec<SubjectName>,

    /// Put the key into this file, where an ACME client looks for it. What was there is kept beside it.
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,

    /// Put the key where the ACME client of HOST looks for it.
    #[arg(long)]
    pub(crate) client: bool,

    /// Directory of an ACME client [default: the usual directories].
    #[arg(long = "acme", value_name = "DIR")]
    pub(crate) acme: Vec<PathBuf>,

    /// Do not use the key any more.
    #[arg(long)]
    pub(crate) forget: bool,

    /// Print the pins of HOST with that of the next key, for an app or another server.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) export: Option<Format>,

    #[command(flatten)]
    pub(crate) records: Records,
}

/// Check that a backup key can be restored: that it matches a pin that clients hold.
///
/// The key comes from a file, from a scan of its QR code, or from the lines on its page. The drill is
/// recorded in the directory.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp key drill /media/safe/backup.key
  hpkp key drill scan.png
  hpkp key drill -                                   type the lines of the page
  hpkp key drill --pin sha256/PIN backup.key         on a machine without records")]
pub(crate) struct DrillArguments {
    /// Private key (PEM, DER or PKCS #12), scan of the QR code (PNG or JPEG), text with the lines of
    /// the page, or - for standard input. If a key is in several parts, give all of them.
    #[arg(required = true, value_name = "FILE|-")]
    pub(crate) sources: Vec<OsString>,

    /// Directory with records. If given several times, all are read and the drill is recorded in the
    /// first [default: /var/lib/hpkp, unless --pin is given].
    #[arg(long, short, value_name = "DIR")]
    pub(crate) directory: Vec<String>,

    /// Pin that clients hold. With --directory, the key must match both.
    #[arg(long = "pin", value_name = "PIN")]
    pub(crate) pins: Vec<Pin>,

    /// Passphrase of the key, in the first line of a file. Without this option the command asks for it.
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,

    /// Also write the key to a new file, which only the owner may read.
    #[arg(long, value_name = "FILE")]
    pub(crate) restore: Option<PathBuf>,

    /// Do not record the drill.
    #[arg(long)]
    pub(crate) no_record: bool,

    /// Print one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
