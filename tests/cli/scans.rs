//! `hpkp key drill` with pictures of a page, as scanners, cameras and programs make them.

use std::path::Path;
use std::process::Command;

use hpkp_tests::pki::Pki;
use hpkp_tests::succeed;
use png::{BitDepth, ColorType};

use crate::run;

/// Makes a key with a page. Returns the page in shades of grey (width, height, pixels) and the key's pin.
fn page(dir: &Path) -> (usize, usize, Vec<u8>, String) {
    let out = run(dir, &["key", "new", "--paper", "a.pdf", "a.key"]).fine();
    succeed(Command::new("pdftoppm").current_dir(dir).args(["-r", "100", "-gray", "a.pdf", "a"]));
    let pgm = std::fs::read(dir.join("a-1.pgm")).expect("a picture");
    let mut words = pgm.splitn(4, |byte| byte.is_ascii_whitespace()).map(<[u8]>::to_vec);
    assert_eq!(words.next().expect("a kind"), b"P5");
    let mut number = || {
        let word = String::from_utf8(words.next().expect("a number")).expect("UTF-8");
        word.parse::<usize>().expect("a number")
    };
    let (width, height) = (number(), number());
    let pixels = pgm[pgm.len() - width * height..].to_vec();
    (width, height, pixels, out.split(' ').next().expect("a pin").to_owned())
}

/// Writes a PNG file; an empty palette stands for none.
fn write(
    path: &Path,
    size: (usize, usize),
    kind: (ColorType, BitDepth),
    palette: &[u8],
    pixels: &[u8],
) {
    let file = std::fs::File::create(path).expect("a file");
    let side = |side| u32::try_from(side).expect("a size");
    let mut encoder = png::Encoder::new(file, side(size.0), side(size.1));
    encoder.set_color(kind.0);
    encoder.set_depth(kind.1);
    if !palette.is_empty() {
        encoder.set_palette(palette.to_vec());
    }
    encoder.write_header().expect("a header").write_image_data(pixels).expect("a picture");
}

/// Writes the same picture in each kind that PNG has.
fn write_pictures(here: &Path, (width, height): (usize, usize), grey: &[u8]) {
    let png = |name: &str, kind, palette: &[u8], pixels: &[u8]| {
        write(&here.join(name), (width, height), kind, palette, pixels);
    };
    let negative: Vec<u8> = grey.iter().map(|grey| 255 - grey).collect();
    png("negative.png", (ColorType::Grayscale, BitDepth::Eight), &[], &negative);
    let deep: Vec<u8> = grey.iter().flat_map(|grey| [*grey, 7]).collect();
    png("16-bit.png", (ColorType::Grayscale, BitDepth::Sixteen), &[], &deep);
    // The paper is transparent black.
    let alpha: Vec<u8> = grey.iter().flat_map(|grey| [0, 255 - grey]).collect();
    png("alpha.png", (ColorType::GrayscaleAlpha, BitDepth::Eight), &[], &alpha);
    let places: Vec<u8> = grey.iter().map(|grey| u8::from(*grey > 127)).collect();
    png("palette.png", (ColorType::Indexed, BitDepth::Eight), &[20, 0, 60, 250, 250, 200], &places);
    let bits: Vec<u8> = places
        .chunks(width)
        .flat_map(|row| {
            row.chunks(8).map(|eight| (0..8).map(|n| eight.get(n).unwrap_or(&0) << (7 - n)).sum())
        })
        .collect();
    png("1-bit.png", (ColorType::Grayscale, BitDepth::One), &[], &bits);
    let colours: Vec<u8> = grey.iter().flat_map(|grey| [*grey, 255, *grey, 255]).collect();
    png("green.png", (ColorType::Rgba, BitDepth::Eight), &[], &colours);
    // Upside down, and on its side.
    let turned: Vec<u8> = grey.iter().rev().copied().collect();
    png("turned.png", (ColorType::Grayscale, BitDepth::Eight), &[], &turned);
    let side: Vec<u8> = (0..width)
        .flat_map(|x| (0..height).rev().map(move |y| (x, y)))
        .map(|(x, y)| grey[y * width + x])
        .collect();
    write(
        &here.join("side.png"),
        (height, width),
        (ColorType::Grayscale, BitDepth::Eight),
        &[],
        &side,
    );
}

#[test]
fn pictures_of_each_kind_restore_the_key() {
    let dir = tempfile::tempdir().expect("a directory");
    let here = dir.path();
    let (width, height, grey, pin) = page(here);
    write_pictures(here, (width, height), &grey);
    for (name, options) in [
        ("cmyk", &["-jpegcmyk"][..]),
        ("progressive", &["-jpeg", "-jpegopt", "progressive=y,quality=60"]),
        ("grey", &["-jpeg", "-gray"]),
    ] {
        let mut print = Command::new("pdftoppm");
        succeed(print.current_dir(here).args(["-r", "100"]).args(options).args(["a.pdf", name]));
    }
    for name in [
        "negative.png",
        "16-bit.png",
        "alpha.png",
        "palette.png",
        "1-bit.png",
        "green.png",
        "turned.png",
        "side.png",
        "cmyk-1.jpg",
        "progressive-1.jpg",
        "grey-1.jpg",
    ] {
        let outcome = run(here, &["key", "drill", "--pin", &pin, name]);
        assert_eq!(outcome.code, Some(0), "{name}: {outcome:?}");
        assert!(outcome.out.contains("from a QR code"), "{name}: {outcome:?}");
    }
}

#[test]
fn pictures_of_other_formats_are_reported() {
    let dir = tempfile::tempdir().expect("a directory");
    let pki = Pki::new(dir.path());
    for (kind, start) in [
        ("TIFF", &b"II*\0\x08\0\0\0"[..]),
        ("TIFF", b"MM\0*\0\0\0\x08"),
        ("GIF", b"GIF89a"),
        ("BMP", b"BM\x36\0\0\0"),
        ("PNM", b"P5\n10 10\n255\n"),
        ("WebP", b"RIFF\x10\0\0\0WEBPVP8 "),
        ("HEIF", b"\0\0\0\x18ftypheic"),
    ] {
        pki.write("scan", start);
        let outcome = run(
            dir.path(),
            &[
                "key",
                "drill",
                "--pin",
                "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
                "scan",
            ],
        );
        outcome.failed(1, &format!("pictures in {kind} are not supported"));
        assert!(outcome.err.contains("PNG or JPEG"), "{outcome:?}");
    }
}

/// An ML-DSA key has thousands of bytes; its file and its page contain only the seed, which fits into one QR code.
#[test]
fn a_key_of_ml_dsa_fits_into_one_qr_code() {
    let dir = tempfile::tempdir().expect("a directory");
    let (here, pki) = (dir.path(), Pki::new(dir.path()));
    let arguments =
        ["key", "new", "--type", "ml-dsa-65", "--name", "a.example", "--paper", "a.pdf", "a.key"];
    let outcome = run(here, &arguments);
    if outcome.code == Some(3) {
        outcome.failed(3, "needs OpenSSL 3.5 or later");
        return;
    }
    let pin = format!("sha256/{}", pki.pin("a.key"));
    assert!(outcome.fine().starts_with(&pin));
    assert!(pki.read("a.key").len() < 200);
    assert!(run(here, &["pin", "a.csr"]).fine().starts_with(&pin));
    succeed(Command::new("pdftoppm").current_dir(here).args(["-r", "100", "-png", "a.pdf", "a"]));
    let drill = ["key", "drill", "--pin", &pin, "a-1.png", "--restore", "b.key"];
    assert_eq!(run(here, &drill).code, Some(0));
    assert_eq!(pki.read("a.key"), pki.read("b.key"));
}
