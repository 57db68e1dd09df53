//! A configuration as the server would load it now. `hpkp plan` starts from it.

use hpkp_core::check::{Deployment, Verdict};
use hpkp_core::finding::{Class, Finding};
use hpkp_server::loader::Loader;

use super::answer::place;
use super::checked::Checked;
use super::configuration::Text;
use super::options::{InPlace, Options};
use super::reading::{checked, guessed, own_openssl, unused};
use crate::arguments::ConfigurationArguments;
use crate::exit::Exit;
use crate::failure::Failure;

/// The contents of a configuration, compared with the records.
#[derive(Debug)]
pub(crate) struct Deployed {
    pub(crate) deployment: Deployment,
    pub(crate) verdict: Verdict,
    /// Why the config test refuses the configuration, if it does.
    pub(crate) refused: Option<Failure>,
}

/// Checks a configuration as `hpkp check` does.
///
/// # Errors
/// A file that replaces a part of the configuration cannot be used.
pub(crate) fn deployed(
    arguments: &ConfigurationArguments,
    text: &Text,
    in_place: &InPlace<'_>,
) -> Result<Deployed, Failure> {
    let options = Options::of(arguments, in_place)?;
    let openssl = own_openssl();
    let mut loader = Loader::new(openssl.as_ref());
    let format = arguments.config_format.unwrap_or_else(|| guessed(text));
    let read = checked(Some((text, format)), &options, &mut loader);
    let checked = read.unwrap_or_else(|finding| Checked::unread(*finding));
    if unused(&options, &checked) != Exit::Fine {
        return Err(Failure::usage("give with --cert the certificates of the configured server"));
    }
    let refused: Vec<&Finding> = checked.refused().collect();
    let lines = refused.iter().take(3).map(|finding| line(finding));
    let why = lines.collect::<Vec<_>>().join("; ");
    let refused = match &refused[..] {
        [] => None,
        all if all.iter().all(|one| one.class == Class::Unsure) => Some(Failure::undetermined(why)),
        _ => Some(Failure::no(why)),
    };
    let Checked { deployment, verdict, .. } = checked;
    Ok(Deployed { deployment, verdict, refused })
}

/// A finding in one line.
fn line(finding: &Finding) -> String {
    let host = finding.hosts.first().map_or("-", String::as_str);
    let place = place(&finding.at).map(|place| format!(" (configured at {place})"));
    format!("[{}] {host}: {}{}", finding.code, finding.text.what, place.unwrap_or_default())
}
