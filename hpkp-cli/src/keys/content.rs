//! The content of a page, independent of its output form.

use fast_qr::qr::QRCode;
use zeroize::Zeroizing;

/// The white border of a QR code, in modules (ISO 18004 section 5.3.8).
pub(super) const QUIET: usize = 4;

/// The content of a page.
pub(super) struct Page {
    pub(super) head: Vec<String>,
    pub(super) codes: Vec<QRCode>,
    pub(super) typed: Zeroizing<String>,
}

/// The caption of a QR code: `QR code 2 of 3` if there are several.
pub(super) fn caption(number: usize, count: usize) -> String {
    if count == 1 { "QR code".to_owned() } else { format!("QR code {number} of {count}") }
}
