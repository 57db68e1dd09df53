//! Reads QR codes from pictures: scans and photos, PNG or JPEG.

use std::panic::{self, AssertUnwindSafe};

use rqrr::PreparedImage;
use zeroize::Zeroizing;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// The largest picture, in pixels: a page of A4 at 600 dpi has 35 million.
const MAX_PIXELS: usize = 100_000_000;
/// The longest side, in pixels.
const MAX_SIDE: usize = 30_000;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
const JPEG: &[u8] = b"\xff\xd8\xff";

/// The format of a picture that cannot be read, such as TIFF.
pub(super) fn foreign(file: &[u8]) -> Option<&'static str> {
    let is_heif = |file: &[u8]| file.get(4..8) == Some(b"ftyp");
    let is_webp = |file: &[u8]| file.starts_with(b"RIFF") && file.get(8..12) == Some(b"WEBP");
    match file {
        [b'I', b'I', b'*', 0, ..] | [b'M', b'M', 0, b'*', ..] => Some("TIFF"),
        [b'G', b'I', b'F', b'8', ..] => Some("GIF"),
        [b'B', b'M', ..] => Some("BMP"),
        [b'P', b'1'..=b'7', b'\n' | b' ', ..] => Some("PNM"),
        _ if is_webp(file) => Some("WebP"),
        _ if is_heif(file) => Some("HEIF"),
        _ => None,
    }
}

/// Whether a file is a picture in a supported format.
pub(super) fn is_picture(file: &[u8]) -> bool {
    file.starts_with(PNG) || file.starts_with(JPEG)
}

const AGAIN: &str = "scan the page flat, at 300 dpi, in grey, or type its lines: hpkp key drill -";

/// Why no key was read from a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PictureError {
    #[error("the picture has more than {} million pixels; scan at 300 dpi", MAX_PIXELS / 1_000_000)]
    TooLarge,
    #[error("the picture is damaged or truncated")]
    Damaged,
    #[error("no QR code found in the picture; {AGAIN}")]
    NoCode,
    /// The picture contains a QR code that cannot be decoded.
    #[error("the QR code is damaged or blurred; {AGAIN}")]
    Unreadable,
}

/// A greyscale picture.
pub(super) struct Picture {
    width: usize,
    height: usize,
    luma: Zeroizing<Vec<u8>>,
}

impl Picture {
    pub(super) fn new(width: usize, height: usize, luma: Zeroizing<Vec<u8>>) -> Self {
        Self { width, height, luma }
    }

    /// The texts of the QR codes in the picture. If there are none, the inverted picture is tried, because
    /// a scan may be a negative.
    pub(super) fn codes(&self) -> Result<Vec<Zeroizing<Vec<u8>>>, PictureError> {
        let error = match self.dark_codes() {
            Ok(codes) => return Ok(codes),
            Err(error) => error,
        };
        let mut luma = Zeroizing::new(Vec::with_capacity(self.luma.len()));
        luma.extend(self.luma.iter().map(|grey| 255 - grey));
        match Self::new(self.width, self.height, luma).dark_codes() {
            Err(PictureError::NoCode) => Err(error),
            codes => codes,
        }
    }

    fn dark_codes(&self) -> Result<Vec<Zeroizing<Vec<u8>>>, PictureError> {
        let mut all: Vec<Zeroizing<Vec<u8>>> = Vec::new();
        let mut seen = false;
        // Reducing the picture removes noise, and enlarging it gives finer borders, so that a code may be
        // readable in one size only.
        for (times, of) in [(1, 1), (1, 2), (3, 2), (2, 3), (2, 1), (1, 3), (5, 4)] {
            if self.luma.len() / (of * of) * times * times > MAX_PIXELS {
                continue;
            }
            let (found, failed) = self.scaled(times, of).codes_as_is();
            seen |= failed || !found.is_empty();
            for text in found {
                if !all.contains(&text) {
                    all.push(text);
                }
            }
            // A complete key has no further parts.
            if all.iter().any(|text| text.starts_with(b"-----BEGIN")) {
                break;
            }
        }
        match (all.is_empty(), seen) {
            (false, _) => Ok(all),
            (true, true) => Err(PictureError::Unreadable),
            (true, false) => Err(PictureError::NoCode),
        }
    }

    /// The texts of the codes that can be decoded, and whether one could not be.
    fn codes_as_is(&self) -> (Vec<Zeroizing<Vec<u8>>>, bool) {
        if self.width < 21 || self.height < 21 {
            return (Vec::new(), false);
        }
        let grey = |x, y| self.luma.get(y * self.width + x).copied().unwrap_or(0xff);
        let mut image = PreparedImage::prepare_from_greyscale(self.width, self.height, grey);
        let mut failed = false;
        let mut texts = Vec::new();
        for grid in image.detect_grids() {
            let mut text = Zeroizing::new(Vec::with_capacity(4096));
            match grid.decode_to(&mut *text) {
                Ok(_) => texts.push(text),
                Err(_) => failed = true,
            }
        }
        (texts, failed)
    }

    /// The picture in another size. Each new pixel is the mean of four places of the old picture.
    fn scaled(&self, times: usize, of: usize) -> Self {
        let (width, height) = (self.width * times / of, self.height * times / of);
        let mut luma = Zeroizing::new(Vec::with_capacity(width * height));
        // The places are at a quarter and at three quarters of the new pixel.
        let place = |at: usize, half: usize, limit: usize| {
            ((4 * at + 1 + 2 * half) * of / (4 * times)).min(limit - 1)
        };
        for y in 0..height {
            for x in 0..width {
                let at = |row: usize, column: usize| {
                    let (y, x) = (place(y, row, self.height), place(x, column, self.width));
                    u16::from(self.luma.get(y * self.width + x).copied().unwrap_or(0xff))
                };
                luma.push(((at(0, 0) + at(0, 1) + at(1, 0) + at(1, 1)) / 4) as u8);
            }
        }
        Self::new(width, height, luma)
    }
}

/// The texts of the QR codes in a picture.
pub(super) fn codes(file: &[u8]) -> Result<Vec<Zeroizing<Vec<u8>>>, PictureError> {
    // The picture is untrusted input, so a panic of the decoders counts as a damaged picture.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| ()));
    let codes = panic::catch_unwind(AssertUnwindSafe(|| {
        let picture = if file.starts_with(PNG) { png(file) } else { jpeg(file) }?;
        picture.codes()
    }));
    panic::set_hook(hook);
    codes.unwrap_or(Err(PictureError::Damaged))
}

fn png(file: &[u8]) -> Result<Picture, PictureError> {
    let damaged = |_| PictureError::Damaged;
    let limits = png::Limits { bytes: 4 * MAX_PIXELS };
    let mut decoder = png::Decoder::new_with_limits(std::io::Cursor::new(file), limits);
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(damaged)?;
    let (width, height) = size(reader.info().width as usize, reader.info().height as usize)?;
    let length = reader.output_buffer_size().ok_or(PictureError::TooLarge)?;
    let mut pixels = Zeroizing::new(vec![0; length]);
    let info = reader.next_frame(&mut pixels).map_err(damaged)?;
    let channels = info.color_type.samples();
    let mut luma = Zeroizing::new(Vec::with_capacity(width * height));
    luma.extend(pixels.chunks_exact(channels).take(width * height).map(grey));
    Ok(Picture::new(width, height, luma))
}

/// The luminance of a pixel. A transparent pixel has the white of paper.
fn grey(pixel: &[u8]) -> u8 {
    let of_rgb =
        |r: u8, g: u8, b: u8| (299 * u32::from(r) + 587 * u32::from(g) + 114 * u32::from(b)) / 1000;
    let (grey, alpha) = match *pixel {
        [grey] => (u32::from(grey), 255),
        [grey, alpha] => (u32::from(grey), u32::from(alpha)),
        [r, g, b] => (of_rgb(r, g, b), 255),
        [r, g, b, alpha] => (of_rgb(r, g, b), u32::from(alpha)),
        _ => (255, 255),
    };
    ((grey * alpha + 255 * (255 - alpha)) / 255) as u8
}

fn jpeg(file: &[u8]) -> Result<Picture, PictureError> {
    let options = DecoderOptions::default().set_max_width(MAX_SIDE).set_max_height(MAX_SIDE);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(file), options);
    decoder.decode_headers().map_err(|_| PictureError::Damaged)?;
    let info = decoder.info().ok_or(PictureError::Damaged)?;
    let (width, height) = size(info.width.into(), info.height.into())?;
    // The decoder converts CMYK and other colour spaces to RGB only.
    let of_colours = !matches!(
        decoder.input_colorspace(),
        Some(ColorSpace::Luma | ColorSpace::YCbCr | ColorSpace::MultiBand(_))
    );
    let (space, channels) = if of_colours { (ColorSpace::RGB, 3) } else { (ColorSpace::Luma, 1) };
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    let mut pixels = Zeroizing::new(vec![0; width * height * channels]);
    decoder.decode_into(&mut pixels).map_err(|_| PictureError::Damaged)?;
    if !of_colours {
        return Ok(Picture::new(width, height, pixels));
    }
    let mut luma = Zeroizing::new(Vec::with_capacity(width * height));
    luma.extend(pixels.chunks_exact(channels).map(grey));
    Ok(Picture::new(width, height, luma))
}

fn size(width: usize, height: usize) -> Result<(usize, usize), PictureError> {
    let pixels = width.checked_mul(height).ok_or(PictureError::TooLarge)?;
    if pixels > MAX_PIXELS || width.max(height) > MAX_SIDE {
        return Err(PictureError::TooLarge);
    }
    Ok((width, height))
}
