//! Reads from the configuration of a machine's ACME clients which keys their next renewals use.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::input;
use crate::output;

/// The largest configuration file, in bytes.
const MAX_FILE: usize = 1 << 20;
/// The most certificates of one client that are read.
const MAX_CERTIFICATES: usize = 10_000;

/// The key of the next certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NextKey {
    /// The key in this file: the key in use, or a key that the client has made for the renewal.
    Kept(PathBuf),
    /// A key that the client will make.
    New,
    /// Options of the client's command decide, and the command is in no file that is read here.
    Unknown,
}

/// A certificate that a client renews.
#[derive(Clone, Debug)]
pub(super) struct Managed {
    pub(super) client: &'static str,
    pub(super) name: String,
    /// The certificate, followed by its chain.
    pub(super) certificate: PathBuf,
    pub(super) next_key: NextKey,
    /// The file from which the client takes its key. `None` if the client always makes the key itself.
    pub(super) key: Option<PathBuf>,
    /// The file with the key that the client has already made for the next renewal.
    pub(super) waiting: Option<PathBuf>,
    /// The setting that decides about the next key.
    pub(super) because: String,
    /// How to make the client keep its key.
    pub(super) fix: String,
    /// How many days before the expiry the client renews. `None` for a third of the certificate's lifetime.
    pub(super) days: Option<i64>,
    /// When the client renews, in seconds since 1970 UTC, if its configuration contains the time.
    pub(super) at: Option<i64>,
}

/// What a directory of an ACME client contains.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) managed: Vec<Managed>,
    /// Files and directories that could not be read, with the reason.
    pub(super) unread: Vec<String>,
}

/// The default directories of the clients, as far as they exist.
pub(super) fn usual() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let in_home = home.into_iter().flat_map(|home| [home.join(".acme.sh"), home.join(".lego")]);
    let system = [
        "/etc/letsencrypt",
        "/etc/dehydrated",
        "/var/lib/dehydrated",
        "/etc/lego",
        "/var/lib/lego",
        "/etc/ssl/uacme",
        "/etc/apache2/md",
        "/var/lib/apache2/md",
        "/etc/httpd/state/md",
        "/var/lib/httpd/md",
    ];
    system.into_iter().map(PathBuf::from).chain(in_home).filter(|path| path.is_dir()).collect()
}

/// The certificates of the client to which this directory belongs. `None` if its layout is of no known
/// client.
pub(super) fn in_directory(directory: &Path) -> Option<Found> {
    let mut found = Found::default();
    let is = |name: &str| directory.join(name).exists();
    if is("renewal") {
        certbot(directory, &mut found);
    } else if is("domains") && is("accounts") {
        mod_md(directory, &mut found);
    } else if is("certs") || is("config") {
        dehydrated(directory, &mut found);
    } else if is("certificates") {
        lego(directory, &mut found);
    } else if is("private") {
        uacme(directory, &mut found);
    } else if is("account.conf") || is("acme.sh") || is("http.header") {
        acme_sh(directory, &mut found);
    } else {
        return None;
    }
    Some(found)
}

impl Found {
    fn entries(&mut self, directory: &Path) -> Vec<PathBuf> {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) => {
                self.unread.push(format!("{}: {}", output::path(directory), output::os(&error)));
                return Vec::new();
            }
        };
        let mut paths: Vec<PathBuf> =
            entries.flatten().take(MAX_CERTIFICATES).map(|entry| entry.path()).collect();
        paths.sort();
        paths
    }

    /// The assignments `NAME=VALUE` of a file; the last one of each name counts.
    fn settings(&mut self, file: &Path) -> BTreeMap<String, String> {
        match input::found(file, MAX_FILE) {
            Ok(bytes) => settings(&String::from_utf8_lossy(&bytes)),
            Err(error) => {
                self.unread.push(format!("{}: {error}", output::path(file)));
                BTreeMap::new()
            }
        }
    }
}

/// The assignments `NAME=VALUE` and `NAME = VALUE` of a text, without their quotation marks.
fn settings(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';', '[']));
    let pairs = lines.filter_map(|line| line.split_once('='));
    let value = |value: &str| {
        let value = value.trim();
        let quoted = ['"', '\''].iter().find_map(|quote| {
            let rest = value.strip_prefix(*quote)?;
            rest.split_once(*quote).map(|(inside, _)| inside.to_owned())
        });
        quoted.unwrap_or_else(|| value.split(" #").next().unwrap_or_default().trim().to_owned())
    };
    let name = |name: &str| name.trim().trim_start_matches("export ").trim().to_owned();
    pairs.map(|(left, right)| (name(left), value(right))).collect()
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn has_end(path: &Path, end: &str) -> bool {
    path.extension().is_some_and(|extension| extension == end)
}

fn is_true(value: Option<&String>) -> bool {
    value.is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1" || value == "yes")
}

fn certbot(directory: &Path, found: &mut Found) {
    let cli = directory.join("cli.ini");
    let cli = if cli.exists() { found.settings(&cli) } else { BTreeMap::new() };
    for file in found.entries(&directory.join("renewal")) {
        if !has_end(&file, "conf") {
            continue;
        }
        let settings = found.settings(&file);
        let name = stem(&file);
        let live = directory.join("live").join(&name);
        let path = |key: &str, default: &str| {
            settings.get(key).map_or_else(|| live.join(default), PathBuf::from)
        };
        let is_kept = is_true(settings.get("reuse_key"))
            || ["reuse-key", "reuse_key"].iter().any(|name| is_true(cli.get(*name)));
        let days = settings.get("renew_before_expiry").and_then(|text| text.strip_suffix(" days"));
        found.managed.push(Managed {
            client: "certbot",
            certificate: path("fullchain", "fullchain.pem"),
            key: Some(path("privkey", "privkey.pem")),
            waiting: None,
            next_key: match is_kept {
                true => NextKey::Kept(path("privkey", "privkey.pem")),
                false => NextKey::New,
            },
            because: match is_kept {
                true => "reuse_key = True".to_owned(),
                false => format!("no reuse_key = True in {}", output::path(&file)),
            },
            fix: format!("certbot renew --cert-name {name} --reuse-key --force-renewal"),
            days: days.and_then(|days| days.parse().ok()),
            at: None,
            name,
        });
    }
}

fn acme_sh(directory: &Path, found: &mut Found) {
    for directory in found.entries(directory) {
        let folder = name_of(&directory);
        let name = folder.strip_suffix("_ecc").unwrap_or(&folder).to_owned();
        let file = directory.join(format!("{name}.conf"));
        if !file.is_file() || !directory.join("fullchain.cer").is_file() {
            continue;
        }
        let settings = found.settings(&file);
        let is_new = is_true(settings.get("Le_ForceNewDomainKey"));
        let waiting = directory.join(format!("{name}.key.next"));
        let key = directory.join(format!("{name}.key"));
        let waiting = (is_new && waiting.is_file()).then_some(waiting);
        let next_key = match (is_new, &waiting) {
            (false, _) => NextKey::Kept(key.clone()),
            (true, Some(waiting)) => NextKey::Kept(waiting.clone()),
            (true, None) => NextKey::New,
        };
        found.managed.push(Managed {
            client: "acme.sh",
            certificate: directory.join("fullchain.cer"),
            key: Some(key),
            waiting,
            next_key,
            because: match is_new {
                true => "Le_ForceNewDomainKey='1'".to_owned(),
                false => "acme.sh keeps keys by default".to_owned(),
            },
            fix: format!("remove the line Le_ForceNewDomainKey from {}", output::path(&file)),
            days: None,
            at: settings.get("Le_NextRenewTime").and_then(|time| time.parse().ok()),
            name,
        });
    }
}

fn dehydrated(directory: &Path, found: &mut Found) {
    let mut settings = BTreeMap::new();
    let mut files = vec![directory.join("config")];
    let more = Path::new("/etc/dehydrated");
    if directory != more && directory == Path::new("/var/lib/dehydrated") {
        files = vec![more.join("config")];
    }
    let folder = files[0].with_file_name("conf.d");
    if folder.is_dir() {
        files.extend(found.entries(&folder).into_iter().filter(|file| has_end(file, "sh")));
    }
    for file in files.iter().filter(|file| file.is_file()) {
        settings.extend(found.settings(file));
    }
    let certificates = directory.join("certs");
    if !certificates.is_dir() {
        return;
    }
    for directory in found.entries(&certificates) {
        if !directory.join("fullchain.pem").exists() {
            continue;
        }
        let mut own = settings.clone();
        let file = directory.join("config");
        if file.is_file() {
            own.extend(found.settings(&file));
        }
        let is_kept = own.get("PRIVATE_KEY_RENEW").is_some_and(|value| value == "no");
        let is_rollover = own.get("PRIVATE_KEY_ROLLOVER").is_some_and(|value| value == "yes");
        let waiting = directory.join("privkey.roll.pem");
        let (next_key, because) = if is_kept {
            (NextKey::Kept(directory.join("privkey.pem")), "PRIVATE_KEY_RENEW=\"no\"")
        } else if is_rollover && waiting.exists() {
            (NextKey::Kept(waiting), "PRIVATE_KEY_ROLLOVER=\"yes\"")
        } else {
            (NextKey::New, "PRIVATE_KEY_RENEW is not \"no\"")
        };
        found.managed.push(Managed {
            client: "dehydrated",
            name: name_of(&directory),
            certificate: directory.join("fullchain.pem"),
            key: Some(directory.join("privkey.pem")),
            waiting: match &next_key {
                NextKey::Kept(key) if !is_kept => Some(key.clone()),
                _ => None,
            },
            next_key,
            because: because.to_owned(),
            fix: format!("write PRIVATE_KEY_RENEW=\"no\" into {}", output::path(&file)),
            days: Some(own.get("RENEW_DAYS").and_then(|days| days.parse().ok()).unwrap_or(32)),
            at: None,
        });
    }
}

fn lego(directory: &Path, found: &mut Found) {
    for file in found.entries(&directory.join("certificates")) {
        if !has_end(&file, "crt") || name_of(&file).ends_with(".issuer.crt") {
            continue;
        }
        found.managed.push(Managed {
            client: "lego",
            name: stem(&file),
            key: Some(file.with_extension("key")),
            waiting: None,
            next_key: NextKey::Unknown,
            because: "lego makes a new key unless its command has --reuse-key".to_owned(),
            fix: "add --reuse-key after \"renew\" where lego is called (cron, timers)".to_owned(),
            days: Some(30),
            at: None,
            certificate: file,
        });
    }
}

fn uacme(directory: &Path, found: &mut Found) {
    for directory in found.entries(directory) {
        let name = name_of(&directory);
        let certificate = directory.join("cert.pem");
        let key = directory.with_file_name("private").join(&name).join("key.pem");
        if !certificate.is_file() {
            continue;
        }
        let is_there = key.exists();
        found.managed.push(Managed {
            client: "uacme",
            certificate,
            because: match is_there {
                true => "uacme keeps keys".to_owned(),
                false => format!("{} is missing", output::path(&key)),
            },
            fix: format!("put the key of the present certificate into {}", output::path(&key)),
            key: Some(key.clone()),
            waiting: None,
            next_key: if is_there { NextKey::Kept(key) } else { NextKey::New },
            days: Some(30),
            at: None,
            name,
        });
    }
}

fn mod_md(directory: &Path, found: &mut Found) {
    for directory in found.entries(&directory.join("domains")) {
        let certificate = directory.join("pubcert.pem");
        if !certificate.is_file() {
            continue;
        }
        found.managed.push(Managed {
            client: "mod_md",
            name: name_of(&directory),
            certificate,
            key: None,
            waiting: None,
            next_key: NextKey::New,
            because: "mod_md makes a key for every certificate".to_owned(),
            fix: "set MDMessageCmd /usr/share/hpkp/acme/mod_md-message, which stops such a renewal, and \
                  let another client renew".to_owned(),
            days: None,
            at: None,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_shells_and_ini_files_are_read() {
        let text = "# x\n[renewalparams]\nreuse_key = True\nA=\"b c\" # d\nexport B='x'\nC=y # z\nA=last\n";
        let read = settings(text);
        let get = |name: &str| read.get(name).map(String::as_str);
        assert_eq!(
            (get("reuse_key"), get("A"), get("B"), get("C")),
            (Some("True"), Some("last"), Some("x"), Some("y"))
        );
    }
}
