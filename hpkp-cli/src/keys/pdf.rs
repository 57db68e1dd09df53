//! Writes the page as PDF, in A4, with the standard fonts of every PDF reader.

use fast_qr::qr::QRCode;
use pdf_writer::{Content, Name, Pdf, Rect, Ref, Str};
use zeroize::Zeroizing;

use super::content::{Page, QUIET, caption};

/// The width of a sheet. Lengths are in points (1/72 inch); the origin is at the lower left.
const WIDTH: f32 = 595.0;
const HEIGHT: f32 = 842.0;
const MARGIN: f32 = 56.0;
/// The side of a QR code with its white border: 90 mm.
const CODE: f32 = 255.0;
const FONT: Name<'static> = Name(b"F1");
const BOLD: Name<'static> = Name(b"F2");
const SIZE: f32 = 9.0;
const LEADING: f32 = 12.0;

/// Writes the whole document.
pub(super) fn pages(page: &Page) -> Zeroizing<Vec<u8>> {
    let mut sheet = Sheets::default();
    for (number, line) in page.head.iter().enumerate() {
        let (font, size) = if number == 0 { (BOLD, 14.0) } else { (FONT, SIZE) };
        sheet.line(line, font, size);
    }
    sheet.down(LEADING / 2.0);
    for (number, code) in (1..).zip(&page.codes) {
        sheet.code(code, &caption(number, page.codes.len()));
    }
    sheet.down(LEADING);
    // A short list is not split between two sheets.
    if page.typed.lines().count() < 30 {
        sheet.room_for(LEADING * (page.typed.lines().count() + 1) as f32);
    }
    sheet.line("Lines to type:", FONT, SIZE);
    page.typed.lines().for_each(|line| sheet.line(line, FONT, SIZE));
    sheet.document()
}

/// Sheets of paper, filled from the top.
struct Sheets {
    done: Vec<Zeroizing<Vec<u8>>>,
    content: Content,
    /// The vertical position of the next element.
    y: f32,
}

impl Default for Sheets {
    fn default() -> Self {
        Self { done: Vec::new(), content: Content::with_capacity(1 << 18), y: HEIGHT - MARGIN }
    }
}

impl Sheets {
    fn down(&mut self, by: f32) {
        self.y -= by;
    }

    /// Begins a new sheet if less than this height is left.
    fn room_for(&mut self, height: f32) {
        if self.y - height < MARGIN {
            let full = std::mem::replace(&mut self.content, Content::with_capacity(1 << 18));
            self.done.push(Zeroizing::new(full.finish().to_vec()));
            self.y = HEIGHT - MARGIN;
        }
    }

    fn line(&mut self, text: &str, font: Name<'_>, size: f32) {
        self.room_for(LEADING);
        self.y -= LEADING;
        self.content
            .begin_text()
            .set_font(font, size)
            .next_line(MARGIN, self.y)
            .show(Str(text.as_bytes()))
            .end_text();
    }

    fn code(&mut self, code: &QRCode, caption: &str) {
        self.room_for(CODE + LEADING);
        self.line(caption, FONT, SIZE);
        let module = CODE / (code.size + 2 * QUIET) as f32;
        let (left, top) = (MARGIN + QUIET as f32 * module, self.y - QUIET as f32 * module);
        for row in 0..code.size {
            let mut x = 0;
            while x < code.size {
                let run = (x..code.size).take_while(|x| code[row][*x].value()).count();
                if run > 0 {
                    let y = top - (row + 1) as f32 * module;
                    self.content.rect(left + x as f32 * module, y, run as f32 * module, module);
                }
                x += run.max(1);
            }
        }
        self.content.fill_nonzero();
        self.y -= CODE;
    }

    fn document(mut self) -> Zeroizing<Vec<u8>> {
        let last = std::mem::replace(&mut self.content, Content::new());
        self.done.push(Zeroizing::new(last.finish().to_vec()));
        let size: usize = self.done.iter().map(|content| content.len() + 512).sum();
        let mut pdf = Pdf::with_capacity(size + 4096);
        let mut numbers = (1..).map(Ref::new);
        let mut next = || numbers.next().unwrap_or(Ref::new(1));
        let (catalog, tree, font, bold) = (next(), next(), next(), next());
        pdf.catalog(catalog).pages(tree);
        let kids: Vec<(Ref, Ref)> = self.done.iter().map(|_| (next(), next())).collect();
        pdf.pages(tree)
            .kids(kids.iter().map(|(page, _)| *page))
            .count(i32::try_from(kids.len()).unwrap_or(i32::MAX));
        pdf.type1_font(font).base_font(Name(b"Courier"));
        pdf.type1_font(bold).base_font(Name(b"Courier-Bold"));
        for ((page, content), stream) in kids.into_iter().zip(&self.done) {
            let mut page = pdf.page(page);
            page.media_box(Rect::new(0.0, 0.0, WIDTH, HEIGHT)).parent(tree).contents(content);
            page.resources().fonts().pair(FONT, font).pair(BOLD, bold);
            drop(page);
            pdf.stream(content, stream);
        }
        Zeroizing::new(pdf.finish())
    }
}
