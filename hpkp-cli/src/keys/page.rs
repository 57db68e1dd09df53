//! The printed page: a key as QR codes and as lines to type, with instructions.

use fast_qr::qr::QRCode;
use zeroize::Zeroizing;

use super::content::{Page, QUIET, caption};
use super::image::Picture;
use super::pkcs8::KeyFile;
use super::qr::{self, Parts};
use super::request::SubjectName;
use super::{lines, pdf};

/// The bytes of a QR code. A code in a page of text has as many modules as fit on a line; a code in PDF has
/// modules of more than a millimetre.
const IN_TEXT: usize = 250;
const IN_PDF: usize = 330;

/// The first line of a page, by which the command recognises it.
pub(super) const TITLE: &str = "Backup key of hpkp";

/// The output form of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Pdf,
}

/// The text on a page besides the key.
pub(super) struct About<'a> {
    pub(super) kind: String,
    /// The pin with `sha256/`.
    pub(super) pin: &'a str,
    pub(super) names: &'a [SubjectName],
    /// When the key was made, in RFC 3339.
    pub(super) made: &'a str,
}

/// Makes the page of a key, and verifies that the key can be read from it.
pub(super) fn make(
    file: &KeyFile,
    about: &About<'_>,
    form: Form,
) -> Result<Zeroizing<Vec<u8>>, String> {
    let pem = file.pem();
    let limit = if form == Form::Pdf { IN_PDF } else { IN_TEXT };
    let codes =
        qr::parts(&pem, limit).iter().map(|part| qr::code(part)).collect::<Result<Vec<_>, _>>()?;
    let head = head(file, about, codes.len());
    let page = Page { head, codes, typed: lines::write(&file.der) };
    if !page.reads_back(&pem, &file.der) {
        return Err("the page cannot be read back; nothing was made".to_owned());
    }
    Ok(match form {
        Form::Text => page.text(),
        Form::Pdf => pdf::pages(&page),
    })
}

fn head(file: &KeyFile, about: &About<'_>, codes: usize) -> Vec<String> {
    let encrypted = if file.is_encrypted { ", encrypted with a passphrase" } else { "" };
    let mut head = vec![TITLE.to_owned(), String::new()];
    if !about.names.is_empty() {
        let names: Vec<String> = about.names.iter().map(ToString::to_string).collect();
        head.extend(wrapped("Names: ", &names));
    }
    head.push(format!("Key:   {}{encrypted}", about.kind));
    head.push(format!("Pin:   {}", about.pin));
    head.push(format!("Made:  {} by hpkp {}", about.made, env!("CARGO_PKG_VERSION")));
    head.push(String::new());
    if file.is_encrypted {
        head.push(
            "Whoever has this page and the passphrase has the private key. Keep them in".to_owned(),
        );
        head.push("different safes. The key is lost without the passphrase.".to_owned());
    } else {
        head.push("Whoever has this page has the private key. Keep it in a safe.".to_owned());
    }
    head.push("Check once a year that it can be restored. Scan it as PNG or JPEG:".to_owned());
    head.push("    hpkp key drill SCAN.png".to_owned());
    head.push("or type the lines with numbers:".to_owned());
    head.push("    hpkp key drill -".to_owned());
    head.push("To restore the key, add: --restore FILE".to_owned());
    head.push(match codes {
        1 => "Without hpkp: the text of the QR code is the key file, in PEM.".to_owned(),
        _ => "Without hpkp: the texts of the QR codes, each without its first line, are the key file, in PEM."
            .to_owned(),
    });
    head
}

/// Puts as many names on a line as fit.
fn wrapped(label: &str, names: &[String]) -> Vec<String> {
    const WIDTH: usize = 78;
    let mut lines = vec![label.to_owned()];
    for (place, name) in names.iter().enumerate() {
        let name = if place + 1 < names.len() { format!("{name}, ") } else { name.clone() };
        match lines.last_mut() {
            Some(line) if line.len() == label.len() || line.len() + name.len() <= WIDTH => {
                line.push_str(&name)
            }
            _ => lines.push(format!("{:1$}{name}", "", label.len())),
        }
    }
    lines
}

impl Page {
    fn text(&self) -> Zeroizing<Vec<u8>> {
        // A block character, which stands for two modules, has up to three bytes.
        let codes: usize = self.codes.iter().map(|code| (code.size + 2 * QUIET).pow(2) * 3).sum();
        let mut text = Zeroizing::new(Vec::with_capacity(codes + 2 * self.typed.len() + 8192));
        for line in &self.head {
            text.extend_from_slice(line.as_bytes());
            text.push(b'\n');
        }
        for (number, code) in (1..).zip(&self.codes) {
            let caption = format!("\n{}:\n\n", caption(number, self.codes.len()));
            text.extend_from_slice(caption.as_bytes());
            push_code(&mut text, code);
        }
        text.extend_from_slice(b"\nLines to type:\n\n");
        text.extend_from_slice(self.typed.as_bytes());
        text
    }

    /// Whether the codes and the lines contain the key.
    fn reads_back(&self, pem: &str, der: &[u8]) -> bool {
        let typed = lines::read(&self.typed, false);
        let mut parts = Parts::default();
        let mut whole = None;
        for code in &self.codes {
            for text in picture(code).codes().unwrap_or_default() {
                if !parts.push(&text) {
                    whole = Some(text);
                }
            }
        }
        let read = whole.or_else(|| parts.join().ok());
        typed.is_ok_and(|typed| **typed == *der)
            && read.is_some_and(|read| **read == *pem.as_bytes())
    }
}

fn is_dark(code: &QRCode, x: usize, y: usize) -> bool {
    let inside = |place: usize| place.checked_sub(QUIET).filter(|place| *place < code.size);
    matches!((inside(x), inside(y)), (Some(x), Some(y)) if code[y][x].value())
}

/// Appends a code as text. A line of text contains two rows of modules.
fn push_code(text: &mut Vec<u8>, code: &QRCode) {
    let side = code.size + 2 * QUIET;
    for y in (0..side).step_by(2) {
        for x in 0..side {
            let block = match (is_dark(code, x, y), is_dark(code, x, y + 1)) {
                (true, true) => "█",
                (true, false) => "▀",
                (false, true) => "▄",
                (false, false) => " ",
            };
            text.extend_from_slice(block.as_bytes());
        }
        while text.last() == Some(&b' ') {
            text.pop();
        }
        text.push(b'\n');
    }
}

/// The picture that a scanner would take of a code.
fn picture(code: &QRCode) -> Picture {
    const PIXELS: usize = 4;
    let side = (code.size + 2 * QUIET) * PIXELS;
    let mut luma = Zeroizing::new(Vec::with_capacity(side * side));
    for y in 0..side {
        luma.extend(
            (0..side).map(|x| if is_dark(code, x / PIXELS, y / PIXELS) { 0 } else { 0xff }),
        );
    }
    Picture::new(side, side, luma)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::keys::KeyKind;

    /// The picture that a scanner would take of a code in text form.
    fn of_text(text: &str) -> Picture {
        let lines: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
        let width = lines.iter().map(Vec::len).max().unwrap() + QUIET;
        let mut luma = Vec::new();
        for y in 0..lines.len() * 8 {
            for x in 0..width * 4 {
                let block = lines[y / 8].get(x / 4).copied().unwrap_or(' ');
                let upper = y % 8 < 4;
                let dark = matches!((block, upper), ('█', _) | ('▀', true) | ('▄', false));
                luma.push(if dark { 0 } else { 0xff });
            }
        }
        Picture::new(width * 4, lines.len() * 8, Zeroizing::new(luma))
    }

    #[test]
    fn qr_codes_of_a_text_page_can_be_scanned() {
        for kind in [KeyKind::P256, KeyKind::Ed25519, KeyKind::Rsa(2048)] {
            let file = KeyFile::new(&kind.generate().unwrap(), None).unwrap();
            let names = ["www.example.com".parse().unwrap()];
            let about = About {
                kind: kind.to_string(),
                pin: "sha256/x",
                names: &names,
                made: "2026-11-26T05:00:00Z",
            };
            let page = make(&file, &about, Form::Text).unwrap();
            let text = std::str::from_utf8(&page).unwrap();
            assert!(text.starts_with(TITLE) && text.contains("Names: www.example.com\n"));
            assert!(text.lines().all(|line| line.chars().count() <= 100));
            assert_eq!(lines::read(text, true).unwrap(), file.der);
            let mut parts = Parts::default();
            let mut whole = None;
            for code in text.split("\nQR code").skip(1) {
                let code = code.split("\nLines").next().unwrap().split_once(":\n").unwrap().1;
                for text in of_text(code).codes().unwrap() {
                    if !parts.push(&text) {
                        whole = Some(text);
                    }
                }
            }
            let read = whole.unwrap_or_else(|| parts.join().unwrap());
            assert_eq!(*read, file.pem().as_bytes());
        }
    }

    #[test]
    fn names_are_wrapped() {
        let names: Vec<String> = (0..20).map(|n| format!("host-{n}.example.com")).collect();
        let lines = wrapped("Names: ", &names);
        assert!(lines.len() > 3 && lines.iter().all(|line| line.trim_end().len() <= 80));
        assert!(lines[1].starts_with("       host-"));
    }
}
