//! `hpkp key new`: makes a backup key and its files.

use std::path::{Path, PathBuf};

use hpkp_core::date;
use hpkp_core::pin::Pin;
use openssl::pkey::{PKey, Private};
use serde::Serialize;
use zeroize::Zeroizing;

use super::files::{self, New};
use super::kind::KeyKind;
use super::page::{self, About, Form};
use super::pkcs8::KeyFile;
use super::{Passphrase, request, secret, wipe_stack};
use crate::arguments::NewKeyArguments;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::input;
use crate::output::{self, JSON_VERSION};
use crate::progress::Progress;
use crate::time;

/// The JSON output.
#[derive(Debug, Serialize)]
struct Report {
    v: u32,
    keys: Vec<Described>,
}

#[derive(Debug, Serialize)]
struct Described {
    pin: String,
    /// The kind of key, such as `RSA 3072`.
    kind: String,
    file: String,
    encrypted: bool,
    names: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    csr: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paper: Option<String>,
    /// The directives for each server.
    directives: Directives,
}

#[derive(Debug, Serialize)]
struct Directives {
    nginx: String,
    httpd: String,
}

/// A requested key and its files.
struct Wanted {
    kind: KeyKind,
    file: PathBuf,
    csr: Option<PathBuf>,
    /// The page; `-` stands for standard output.
    paper: Option<PathBuf>,
}

/// A generated key.
struct Made {
    wanted: Wanted,
    key: PKey<Private>,
    file: Zeroizing<String>,
    csr: Option<Vec<u8>>,
    page: Option<Zeroizing<Vec<u8>>>,
    described: Described,
}

/// The largest key file that is read back, in bytes.
const MAX_KEY_FILE: usize = 1 << 20;

pub(super) fn run(arguments: &NewKeyArguments) -> Result<Exit, Failure> {
    let wanted = wanted(arguments)?;
    for one in &wanted {
        let files = [Some(&one.file), one.csr.as_ref(), one.paper.as_ref()];
        files
            .into_iter()
            .flatten()
            .filter(|path| !is_stdout(path))
            .try_for_each(|path| files::must_be_new(path))?;
    }
    let passphrase = match &arguments.passphrase_file {
        Some(file) => Some(Passphrase::of_file(file)?),
        None if arguments.passphrase => Some(Passphrase::ask_twice()?),
        None => None,
    };
    let progress = Progress::start("making the key");
    let make = |one| Made::new(one, arguments, passphrase.as_ref());
    let made = wanted.into_iter().map(make).collect::<Result<Vec<_>, _>>()?;
    drop(progress);
    let files: Vec<New<'_>> = made.iter().flat_map(Made::files).collect();
    files::create(&files)?;
    made.iter().try_for_each(|one| one.read_back(passphrase.as_ref()))?;
    drop(passphrase);
    print(made, arguments)
}

fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

fn wanted(arguments: &NewKeyArguments) -> Result<Vec<Wanted>, Failure> {
    if is_stdout(&arguments.file) {
        return Err(Failure::usage("a private key is written to a file, not to standard output"));
    }
    if arguments.paper.as_deref().is_some_and(is_stdout) {
        if std::io::IsTerminal::is_terminal(&std::io::stdout()) {
            return Err(Failure::usage(
                "--paper - is for a pipe to a printer, not for a terminal: ... | lp",
            ));
        }
        if arguments.json || arguments.directives {
            return Err(Failure::usage(
                "--paper - uses standard output, and so does --json or --directives",
            ));
        }
    }
    let csr = match &arguments.csr {
        _ if arguments.names.is_empty() => None,
        Some(csr) => Some(csr.clone()),
        None => Some(arguments.file.with_extension("csr")),
    };
    let one = |kind: KeyKind| {
        let path = |path: &PathBuf| match arguments.pair && !is_stdout(path) {
            true => files::with_kind(path, kind.algorithm()),
            false => path.clone(),
        };
        Wanted {
            kind,
            file: path(&arguments.file),
            csr: csr.as_ref().map(path),
            paper: arguments.paper.as_ref().map(path),
        }
    };
    let wanted: Vec<Wanted> = match arguments.pair {
        true => KeyKind::PAIR.into_iter().map(one).collect(),
        false => vec![one(arguments.kind)],
    };
    for one in &wanted {
        let paths = [Some(&one.file), one.csr.as_ref(), one.paper.as_ref()];
        let paths: Vec<_> = paths.into_iter().flatten().collect();
        if paths.iter().enumerate().any(|(place, path)| paths[..place].contains(path)) {
            return Err(Failure::usage("two of the files have the same name"));
        }
    }
    Ok(wanted)
}

impl Made {
    fn new(
        wanted: Wanted,
        arguments: &NewKeyArguments,
        passphrase: Option<&Passphrase>,
    ) -> Result<Self, Failure> {
        let key = wanted.kind.generate().map_err(Failure::undetermined)?;
        let spki = secret::proven(&key)
            .ok_or_else(|| Failure::undetermined("the new key does not work; nothing was made"))?;
        let pin = format!("sha256/{}", Pin::of_spki(&spki));
        let file = KeyFile::new(&key, passphrase).map_err(Failure::undetermined)?;
        let csr = match &wanted.csr {
            Some(_) => Some(request::pem(&key, &arguments.names).map_err(Failure::undetermined)?),
            None => None,
        };
        let page = match &wanted.paper {
            Some(paper) => {
                let made = date::format(time::now());
                let about = About {
                    kind: wanted.kind.to_string(),
                    pin: &pin,
                    names: &arguments.names,
                    made: &made,
                };
                Some(page::make(&file, &about, form(paper)).map_err(Failure::undetermined)?)
            }
            None => None,
        };
        let shown = |path: &PathBuf| output::path(path);
        let described = Described {
            kind: wanted.kind.to_string(),
            file: shown(&wanted.file),
            encrypted: file.is_encrypted,
            names: arguments.names.iter().map(ToString::to_string).collect(),
            csr: wanted.csr.as_ref().map(shown),
            paper: wanted.paper.as_ref().map(shown),
            directives: Directives {
                nginx: format!("pin {pin};"),
                httpd: format!("HPKPPin {pin}"),
            },
            pin,
        };
        Ok(Self { file: file.pem(), wanted, key, csr, page, described })
    }

    fn files(&self) -> impl Iterator<Item = New<'_>> {
        let key = New { path: &self.wanted.file, content: self.file.as_bytes(), is_public: false };
        let csr = self.wanted.csr.as_ref().zip(self.csr.as_ref());
        let csr = csr.map(|(path, content)| New { path, content, is_public: true });
        let page = self.wanted.paper.as_ref().zip(self.page.as_ref());
        let page = page.filter(|(path, _)| !is_stdout(path));
        let page = page.map(|(path, content)| New { path, content, is_public: false });
        [Some(key), csr, page].into_iter().flatten()
    }

    /// Verifies that the key file contains the generated key.
    fn read_back(&self, passphrase: Option<&Passphrase>) -> Result<(), Failure> {
        let shown = &self.described.file;
        let failed = || {
            Failure::undetermined(format!(
                "{shown}: the file does not have the key that was written to it; do not publish its pin"
            ))
        };
        let bytes = input::secret(&self.wanted.file, MAX_KEY_FILE).map_err(|_| failed())?;
        let mut ask = || passphrase.cloned().ok_or_else(failed);
        let read = secret::open(&bytes, &mut ask).map_err(|_| failed())?;
        if read.public_eq(&self.key) && secret::proven(&read).is_some() {
            Ok(())
        } else {
            Err(failed())
        }
    }
}

fn form(path: &Path) -> Form {
    let is_pdf = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("pdf"));
    if is_pdf { Form::Pdf } else { Form::Text }
}

fn print(made: Vec<Made>, arguments: &NewKeyArguments) -> Result<Exit, Failure> {
    let is_page = arguments.paper.as_deref().is_some_and(is_stdout);
    if is_page {
        for (number, page) in made.iter().filter_map(|one| one.page.as_ref()).enumerate() {
            let between: &[u8] = if number > 0 { b"\x0c\n" } else { b"" };
            output::unbuffered(between).and_then(|()| output::unbuffered(page)).map_err(
                |error| {
                    Failure::undetermined(format!(
                        "the page was not printed: {}; the key is in its file",
                        output::os(&error)
                    ))
                },
            )?;
        }
        // Standard output contains only the page, so the description goes to standard error.
        made.iter().flat_map(|one| one.described.lines()).for_each(|line| output::complain(&line));
        return Ok(Exit::Fine);
    }
    let keys: Vec<Described> = made.into_iter().map(|one| one.described).collect();
    wipe_stack();
    let written = if arguments.json {
        output::json(&Report { v: JSON_VERSION, keys })
    } else {
        let mut lines: Vec<String> = keys.iter().flat_map(Described::lines).collect();
        if arguments.directives {
            lines.push("nginx, in hpkp_policy:".to_owned());
            lines.extend(keys.iter().map(|key| format!("    {}", key.directives.nginx)));
            lines.push("Apache httpd, in <HPKPPolicy>:".to_owned());
            lines.extend(keys.iter().map(|key| format!("    {}", key.directives.httpd)));
        }
        lines.iter().try_for_each(|line| output::line(line))
    };
    Ok(output::ended(Exit::Fine, written))
}

impl Described {
    fn lines(&self) -> Vec<String> {
        let encrypted = if self.encrypted { ", encrypted" } else { "" };
        let mut lines =
            vec![format!("{}  private key {} ({}{encrypted})", self.pin, self.file, self.kind)];
        lines.extend(
            self.csr.as_ref().map(|csr| {
                format!("certificate signing request: {csr} ({})", self.names.join(", "))
            }),
        );
        let paper = self.paper.as_ref().filter(|paper| *paper != "-");
        lines.extend(paper.map(|paper| {
            format!(
                "page to print: {paper} (contains the private key; delete it when it is printed)"
            )
        }));
        lines
    }
}
