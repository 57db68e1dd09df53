//! Certificates that the user has at hand.

use std::sync::Arc;

use hpkp_core::certificate::Certificate;
use hpkp_core::pin::Pin;
use hpkp_core::spki;

use super::store::{Failure, shown};
use crate::encoded;
use crate::import::Certificates;
use crate::input::{self, InputError};

/// The certificates of each file.
pub(super) fn certificates(files: &[String]) -> Result<Vec<Vec<Arc<Certificate>>>, Failure> {
    files.iter().map(|file| of_file(file)).collect()
}

/// By which hashes of whole certificates are told from pins.
pub(super) fn hashes(files: &[String]) -> Result<Certificates, Failure> {
    let certificates = certificates(files)?;
    let all = certificates.iter().flatten();
    Ok(Certificates::new(all.map(|one| (one.der(), one.subject().to_owned()))))
}

fn of_file(file: &str) -> Result<Vec<Arc<Certificate>>, Failure> {
    let octets =
        input::named(file.as_ref(), spki::MAX_FILE).map_err(|error| unread(file, &error))?;
    let read = encoded::certificates(&octets).zip(1..).map(|(one, place)| {
        one.map(Arc::new)
            .map_err(|error| Failure::no(format!("{}: certificate {place}: {error}", shown(file))))
    });
    let certificates = read.collect::<Result<Vec<_>, _>>()?;
    if certificates.is_empty() {
        let hint = if encoded::has_private_key(&octets) { ", but a private key" } else { "" };
        return Err(Failure::no(format!("{}: contains no certificate{hint}", shown(file))));
    }
    Ok(certificates)
}

/// What is said of a file that was not read.
pub(super) fn unread(file: &str, error: &InputError) -> Failure {
    let hint = match file.parse::<Pin>() {
        Ok(_) => "; this is a pin, and a file is expected here",
        Err(_) => "",
    };
    Failure { exit: error.exit(), text: format!("{}: {error}{hint}", shown(file)) }
}
