//! The arguments of `hpkp sync`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::seconds::seconds;

/// Share records with other machines through a store.
///
/// Writes the records of this machine into the store, and copies those of other machines into the directory
/// `peers`. Run it before and after each reload, and by a timer. The program hpkp-sync does the work.
///
/// STORE is one of
///
///   file:///DIR                        a directory
///
///   git+ssh://USER@HOST/PATH           a git repository; also git+file:// and git+https://
///
///   postgres://USER@HOST/DATABASE      a PostgreSQL database
///
///   s3://BUCKET/PREFIX                 S3-compatible object storage; also gs:// (Google) and az:// (Azure)
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp sync --init file:///mnt/fleet/hpkp
  hpkp sync git+ssh://hpkp@git.example.com/srv/hpkp.git
  hpkp sync postgres://web1@db.example.com/hpkp --then 'nginx -t && nginx -s reload'
  hpkp sync s3://example-hpkp/fleet --lease www.example.com --then 'nginx -s reload'
  hpkp sync --store-file /etc/hpkp/store --json

Environment: HPKP_STORE (the store), PGPASSWORD, PGPASSFILE, AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL, AZURE_STORAGE_ACCOUNT_NAME,
AZURE_STORAGE_ACCOUNT_KEY, GOOGLE_APPLICATION_CREDENTIALS, GIT_SSH_COMMAND.
A password in STORE is refused on the command line, where other users can read it.

Exit codes: 0 the store has all records of this machine and all others are copied, 1 the
command of --then failed, or a server presents a key that does not match the pins of another
server, 2 wrong usage, 3 something could not be read or written.")]
pub struct SyncArguments {
    /// Store [default: the first line of --store-file, else $HPKP_STORE].
    #[arg(value_name = "STORE", conflicts_with = "store_file")]
    pub store: Option<String>,

    /// File whose first line is STORE. It may contain a password; then only its owner may read it.
    #[arg(long, value_name = "FILE")]
    pub store_file: Option<PathBuf>,

    /// Directory with records.
    #[arg(long, short, value_name = "DIR", default_value = "/var/lib/hpkp")]
    pub directory: String,

    /// Prepare a new store, or update the tables of an older one; nothing is copied.
    #[arg(long, conflicts_with_all = ["then", "lease", "watch"])]
    pub init: bool,

    /// After the copies have arrived, run this command with sh, then sync again. If the store cannot be read,
    /// a copy cannot be written, or this machine's own records are older than those in the store, the command
    /// does not run.
    #[arg(long, value_name = "COMMAND", conflicts_with = "watch")]
    pub then: Option<String>,

    /// While the command of --then runs, no other machine may hold the lease of this host. May be given
    /// several times.
    #[arg(long, value_name = "HOST", requires = "then")]
    pub lease: Vec<String>,

    /// The lease expires after this time, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds, requires = "lease")]
    pub lease_time: Duration,

    /// After the command of --then, wait at most this long for new records, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds, requires = "then")]
    pub settle: Duration,

    /// Keep running, and sync again after this time in seconds. With PostgreSQL, sync as soon as another
    /// machine has written.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "60", value_parser = seconds)]
    pub watch: Option<Duration>,

    /// Time limit for each operation of the store, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub timeout: Duration,

    /// Directory for the copy of a git repository [default: /var/cache/hpkp, or $XDG_CACHE_HOME/hpkp].
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,

    /// Private key of OpenSSH (ssh-keygen -t ed25519 -N '') with which this machine signs its records. Others
    /// verify it if they have a file `peers.keys`.
    #[arg(long, value_name = "FILE")]
    pub sign_key: Option<PathBuf>,

    /// Print one line of JSON.
    #[arg(long)]
    pub json: bool,
}
