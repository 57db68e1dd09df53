//! `hpkp check`: runs a server's check on configuration files.
//!
//! Data flow: a reader (`policy_file`, `nginx`, `httpd`) extracts the directives of a text and passes them
//! to the functions of the server crate that the modules use too. These functions build the input of the
//! core's check. The failure table determines what a config test does about the result.

mod answer;
mod checked;
mod configuration;
mod deployed;
mod files;
mod format;
mod httpd;
mod nginx;
mod options;
mod other;
mod policy_file;
mod presented;
mod problem;
mod reading;

use hpkp_server::loader::Loader;

use crate::arguments::CheckArguments;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use crate::usage;
use answer::Answer;
use checked::Checked;
pub(crate) use deployed::{Deployed, deployed};
pub(crate) use options::InPlace;
use options::Options;
pub(crate) use other::Kind;
pub(crate) use reading::text;
use reading::{checked, guessed, own_openssl, unused};

/// Runs the command.
pub(crate) fn run(arguments: &CheckArguments) -> Exit {
    let other = arguments.other();
    if arguments.configuration.config.is_none() && arguments.cert.is_empty() && other.is_none() {
        return usage::wrong("nothing to compare: give --config FILE or --cert FILE");
    }
    match answer(arguments) {
        Ok((answer, exit)) => {
            let written = format::print(&answer, arguments.report_format());
            output::ended(answer.exit(arguments.deny_warnings).and(exit), written)
        }
        Err(failure) => usage::end(failure),
    }
}

fn answer(arguments: &CheckArguments) -> Result<(Answer, Exit), Failure> {
    let options = Options::new(arguments)?;
    let other = arguments.other();
    let configuration = &arguments.configuration;
    let named = other.map(|(_, file)| file).or(configuration.config.as_deref());
    let text = named.map(text).transpose()?;
    let openssl = own_openssl();
    let mut loader = Loader::new(openssl.as_ref());
    let read = match (&text, other) {
        (Some(text), Some((kind, _))) => other::check(kind, text, &options, &mut loader),
        (Some(text), None) => {
            let format = configuration.config_format.unwrap_or_else(|| guessed(text));
            checked(Some((text, format)), &options, &mut loader)
        }
        (None, _) => checked(None, &options, &mut loader),
    };
    let checked = read.unwrap_or_else(|finding| Checked::unread(*finding));
    let exit = unused(&options, &checked);
    let name = named.map_or_else(|| arguments.cert.join(" "), str::to_owned);
    let records_alone = named.is_none().then(|| arguments.records());
    Ok((Answer::new(checked, name, records_alone), exit))
}
