//! `hpkp key drill`: verifies that a backup key can be restored and that clients accept it.

use std::ffi::OsStr;
use std::io::{self, BufRead as _, BufReader, IsTerminal as _};
use std::path::Path;

use hpkp_core::pin::Pin;
use openssl::pkey::{PKey, Private};
use serde::Serialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::drills::{self, Drill, Origin};
use super::files::{self, New};
use super::image::PictureError;
use super::pkcs8::KeyFile;
use super::qr::Parts;
use super::{Passphrase, image, kind, lines, page, secret, wipe_stack};
use crate::arguments::{DrillArguments, or_default};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::input::{self, InputError, Unbuffered};
use crate::output::{self, JSON_VERSION};
use crate::private_key;
use crate::progress::Progress;
use crate::published::holders::{self, Holder, Holders};
use crate::time;

/// The largest picture or other file, in bytes.
const MAX_PICTURE: usize = 64 << 20;
const MAX_KEY_FILE: usize = 1 << 20;

/// The JSON output.
#[derive(Debug, Serialize)]
struct Report {
    v: u32,
    /// Whether clients accept the key.
    matches: bool,
    pin: String,
    /// The kind of key, such as `RSA 3072`.
    kind: String,
    from: Origin,
    /// The records of the pins that clients hold, in the form of `hpkp published list`.
    held: Vec<Value>,
    expired: Vec<Value>,
    /// The file in which the drill was recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restored: Option<String>,
}

/// A key from a source, and the form of the source.
struct Material {
    /// PEM or DER.
    file: Zeroizing<Vec<u8>>,
    from: Origin,
}

pub(super) fn run(arguments: &DrillArguments) -> Result<Exit, Failure> {
    if let Some(path) = &arguments.restore {
        files::must_be_new(path)?;
    }
    let directories = match &arguments.pins[..] {
        [] => or_default(&arguments.directory),
        _ => arguments.directory.clone(),
    };
    let material = material(&arguments.sources)?;
    let key = open(&material, arguments)?;
    let spki = secret::proven(&key).ok_or_else(|| {
        Failure::no("this key cannot be used: it does not sign, or its private half does not belong to its public half")
    })?;
    let pin = Pin::of_spki(&spki);
    if let Some(path) = &arguments.restore {
        files::create(&[New { path, content: &material.file, is_public: false }])?;
    }
    let holders = match &directories[..] {
        [] => None,
        _ => Some(holders::of_key(&directories, &spki).map_err(|failure| unread(failure, pin))?),
    };
    let verdict = Verdict {
        pin,
        is_wanted: arguments.pins.is_empty() || arguments.pins.contains(&pin),
        holders,
    };
    let recorded = match directories.first() {
        Some(directory) if !arguments.no_record => Some(verdict.record(directory, material.from)),
        _ => None,
    };
    let unrecorded = matches!(recorded, Some(Err(_)));
    let (kind, from) = (kind::describe(&key), material.from);
    drop((key, spki, material));
    wipe_stack();
    let written = verdict.print(&kind, from, arguments, recorded);
    let exit = if verdict.matches() { Exit::Fine } else { Exit::No };
    Ok(output::ended(if unrecorded { exit.and(Exit::Undetermined) } else { exit }, written))
}

/// Adds to a failure that the key itself is valid, and that only its pin could not be compared.
fn unread(Failure { exit, text }: Failure, pin: Pin) -> Failure {
    let text = format!(
        "{text}\nthe key can be read, and its pin is sha256/{pin}; to compare it with a pin that you know: --pin PIN"
    );
    Failure { exit, text }
}

/// The result of the comparisons.
struct Verdict {
    pin: Pin,
    /// Whether the key has one of the pins of `--pin`; true without `--pin`.
    is_wanted: bool,
    holders: Option<Holders>,
}

impl Verdict {
    fn is_held(&self) -> bool {
        self.holders.as_ref().is_none_or(|holders| !holders.held.is_empty())
    }

    fn matches(&self) -> bool {
        self.is_wanted && self.is_held()
    }

    fn record(&self, directory: &str, from: Origin) -> Result<String, Failure> {
        let mut hosts: Vec<String> = self
            .holders
            .iter()
            .flat_map(|holders| &holders.held)
            .map(|holder| holder.host.clone())
            .collect();
        hosts.dedup();
        let drill = Drill { at: time::now(), pin: self.pin, matches: self.matches(), hosts, from };
        let recorded = drills::record(Path::new(directory), &drill);
        recorded
            .map(|path| output::path(&path))
            .map_err(|error| Failure::undetermined(error.to_string()))
    }

    fn print(
        &self,
        kind: &str,
        from: Origin,
        arguments: &DrillArguments,
        recorded: Option<Result<String, Failure>>,
    ) -> io::Result<()> {
        let restored = arguments.restore.as_deref().map(output::path);
        let recorded = match recorded {
            Some(Err(Failure { text, .. })) => {
                output::complain(&format!("the drill is not recorded: {text}"));
                None
            }
            Some(Ok(path)) => Some(path),
            None => None,
        };
        let none = Holders::default();
        let holders = self.holders.as_ref().unwrap_or(&none);
        if arguments.json {
            let views =
                |holders: &[Holder]| holders.iter().map(|holder| holder.view.clone()).collect();
            return output::json(&Report {
                v: JSON_VERSION,
                matches: self.matches(),
                pin: format!("sha256/{}", self.pin),
                kind: kind.to_owned(),
                from,
                held: views(&holders.held),
                expired: views(&holders.expired),
                recorded,
                restored,
            });
        }
        output::line(&self.answer())?;
        output::line(&format!(
            "sha256/{}  {} private key, {}",
            self.pin,
            kind,
            match from {
                Origin::File => "from a file",
                Origin::QrCode => "from a QR code",
                Origin::Lines => "from typed lines",
            }
        ))?;
        holders.held.iter().try_for_each(|holder| output::line(&format!("    {}", holder.line)))?;
        holders
            .expired
            .iter()
            .try_for_each(|holder| output::line(&format!("    no longer held: {}", holder.line)))?;
        recorded.iter().try_for_each(|path| output::line(&format!("recorded: {path}")))?;
        restored.iter().try_for_each(|path| output::line(&format!("restored: {path}")))
    }

    /// The first line of the output, which begins with yes or no.
    fn answer(&self) -> String {
        let yes = output::accent(output::GOOD, "yes");
        let no = output::accent(output::BAD, "no");
        match (self.is_wanted, &self.holders) {
            (false, _) => format!(
                "{no}: the key can be restored, but its pin is not the one given with --pin"
            ),
            (true, None) => {
                format!("{yes}: the key can be restored, and its pin is the one given with --pin")
            }
            (true, Some(holders)) if !holders.held.is_empty() => {
                let counted = output::counted(holders.held.len(), "record");
                format!("{yes}: the key can be restored, and clients hold its pin ({counted})")
            }
            (true, Some(holders)) if !holders.expired.is_empty() => {
                format!("{no}: the key can be restored, but clients no longer hold its pin")
            }
            (true, Some(holders)) => {
                let counted = output::counted(holders.all, "record");
                format!(
                    "{no}: the key can be restored, but no client holds its pin ({counted} of other pins)"
                )
            }
        }
    }
}

fn open(material: &Material, arguments: &DrillArguments) -> Result<PKey<Private>, Failure> {
    let mut ask = || match &arguments.passphrase_file {
        Some(file) => Passphrase::of_file(file),
        None => Passphrase::ask("the key"),
    };
    secret::open(&material.file, &mut ask).map_err(|error| match error {
        secret::SecretError::NoPassphrase(failure) => failure,
        error => Failure::no(match &arguments.sources[..] {
            [source] => format!("{}: {error}", name(source)),
            _ => error.to_string(),
        }),
    })
}

fn name(source: &OsStr) -> String {
    if source == "-" { "standard input".to_owned() } else { output::path(Path::new(source)) }
}

/// The only key in the sources, complete or in parts.
fn material(sources: &[impl AsRef<OsStr>]) -> Result<Material, Failure> {
    if sources.iter().filter(|source| source.as_ref() == "-").count() > 1 {
        return Err(Failure::usage("standard input (-) can be read once only"));
    }
    let mut parts = Parts::default();
    let mut whole: Vec<Material> = Vec::new();
    for source in sources {
        let source = source.as_ref();
        let shown = name(source);
        for one in of_source(source, &shown, &mut parts, sources.len() > 1)? {
            if whole.iter().all(|known| known.file != one.file) {
                whole.push(one);
            }
        }
    }
    match (whole.pop(), whole.is_empty(), parts.is_empty()) {
        (Some(one), true, true) => Ok(one),
        (None, _, true) => Err(Failure::no(PictureError::NoCode.to_string())),
        (None, _, false) => {
            let file = parts.join().map_err(|error| Failure::no(error.to_string()))?;
            Ok(Material { file, from: Origin::QrCode })
        }
        _ => Err(Failure::usage("more than one key is given; a drill is for one")),
    }
}

/// The complete keys in a source. Parts of a key are added to `parts`.
fn of_source(
    source: &OsStr,
    shown: &str,
    parts: &mut Parts,
    is_one_of_many: bool,
) -> Result<Vec<Material>, Failure> {
    let no = |text: &dyn std::fmt::Display| Failure::no(format!("{shown}: {text}"));
    if source == "-" && io::stdin().is_terminal() {
        return typed().map(|one| vec![one]);
    }
    let read = match source == "-" {
        true => input::secret_standard(MAX_PICTURE),
        false => input::secret(Path::new(source), MAX_PICTURE),
    };
    let bytes = read.map_err(|error| Failure::unread(shown, &error))?;
    if image::is_picture(&bytes) {
        let progress = Progress::start("reading the QR code");
        let codes = match image::codes(&bytes) {
            Ok(codes) => codes,
            // A sheet may contain only the lines to type, if the QR codes are on other sheets.
            Err(PictureError::NoCode) if is_one_of_many => return Ok(Vec::new()),
            Err(error) => return Err(no(&error)),
        };
        drop(progress);
        let mut whole = Vec::new();
        for text in codes {
            if parts.push(&text) {
                continue;
            }
            if !text.starts_with(b"-----BEGIN") {
                return Err(no(&"the QR code in the picture is not that of a key"));
            }
            whole.push(Material { file: text, from: Origin::QrCode });
        }
        return Ok(whole);
    }
    if bytes.len() > MAX_KEY_FILE {
        let error = InputError::TooLarge { limit: MAX_KEY_FILE };
        return Err(Failure::unread(shown, &error));
    }
    if bytes.starts_with(b"%PDF-") {
        return Err(no(
            &"PDF files are not supported; print the file and scan the page, or: pdftoppm -r 300 -png FILE \
              scan",
        ));
    }
    if let Some(kind) = image::foreign(&bytes) {
        return Err(no(&format!(
            "pictures in {kind} are not supported; scan the page as PNG or JPEG, or convert the picture"
        )));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) if text.trim_start().starts_with(page::TITLE) || lines::are_in(text) => {
            let is_page = text.trim_start().starts_with(page::TITLE);
            let der = lines::read(text, is_page).map_err(|errors| {
                let texts: Vec<String> =
                    errors.iter().map(|error| format!("{shown}: {error}")).collect();
                Failure::no(texts.join("\n"))
            })?;
            Ok(vec![of_lines(der)])
        }
        _ => Ok(vec![Material { file: bytes, from: Origin::File }]),
    }
}

fn of_lines(der: Zeroizing<Vec<u8>>) -> Material {
    let is_encrypted = private_key::is_encrypted_pkcs8(&der);
    let pem = KeyFile { der, is_encrypted }.pem();
    let mut file = Zeroizing::new(Vec::with_capacity(pem.len()));
    file.extend_from_slice(pem.as_bytes());
    Material { file, from: Origin::Lines }
}

/// Reads the lines of a page from a terminal. A mistake is reported immediately, so that the line can be
/// typed again.
fn typed() -> Result<Material, Failure> {
    output::complain(
        "type the lines of the page, with their numbers; the last one begins with end",
    );
    let mut reader = lines::Reader::default();
    let mut stdin = BufReader::new(Unbuffered::new());
    while !reader.is_complete() {
        let mut line = Zeroizing::new(String::with_capacity(4096));
        match stdin.read_line(&mut line) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => {
                return Err(Failure::undetermined(format!(
                    "standard input: {}",
                    output::os(&error)
                )));
            }
        }
        if let Err(error) = reader.push(&line) {
            output::complain(&format!("{error}; type that line again"));
        }
    }
    let der = reader.finish().map_err(|errors| {
        Failure::no(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })?;
    Ok(of_lines(der))
}
