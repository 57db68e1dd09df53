//! The content of a page, in each of its forms.

use fast_qr::qr::QRCode;
use zeroize::Zeroizing;

/// Modules of white round a code (ISO 18004 section 5.3.8).
pub(super) const QUIET: usize = 4;

/// What is printed.
pub(super) struct Page {
    pub(super) head: Vec<String>,
    pub(super) codes: Vec<QRCode>,
    pub(super) typed: Zeroizing<String>,
}

/// `QR code 2 of 3`, where there are several.
pub(super) fn caption(number: usize, count: usize) -> String {
    if count == 1 { "QR code".to_owned() } else { format!("QR code {number} of {count}") }
}
