//! The other names in a certificate, for `hpkp published why HOST --cert`: whether their clients refuse it too.

use hpkp_core::published::{ANY_LABEL, HostName};
use hpkp_core::text::ShellWord;
use serde::Serialize;

use super::judge::hosts_on_record;
use super::replay::{Answer, Files, Replay};
use super::store::Store;
use crate::arguments::WhyArguments;
use crate::failure::Failure;
use crate::output;

/// The most names that are printed. The JSON has all.
const NAMED: usize = 8;

/// Another name in the certificate, if it is not certain that clients accept the certificate for it.
#[derive(Debug, Serialize)]
pub(super) struct OtherHost {
    host: String,
    answer: Answer,
    #[serde(skip)]
    command: String,
}

/// The names in the certificates of `files`, without `host`, for which the answer is not yes.
pub(super) fn of(
    store: &Store,
    host: &HostName,
    arguments: &WhyArguments,
    files: &Files,
) -> Result<Vec<OtherHost>, Failure> {
    let names = files.own.iter().filter_map(|chain| chain.first());
    let names = names.flat_map(|leaf| leaf.accepted_names());
    let binds = |one: &HostName| store.state.live(store.now).any(|it| it.record.body.binds(one));
    let mut others = Vec::new();
    for one in hosts_on_record(store, names).into_iter().filter(|one| one != host && binds(one)) {
        let answer = Replay::new(store, &one, arguments, files)?.answer;
        if answer != Answer::Yes {
            let command = store.command(&question(&one, arguments));
            others.push(OtherHost { host: one.as_str().replace(ANY_LABEL, "*"), answer, command });
        }
    }
    Ok(others)
}

/// The arguments of the command that asks for this host.
fn question(host: &HostName, arguments: &WhyArguments) -> String {
    // Links stay as they are: the names of certbot's files are links.
    let file = |option: &str, file: &String| {
        let path = std::path::absolute(file).unwrap_or_else(|_| file.into());
        format!(" {option} {}", ShellWord::new(path.as_os_str().as_encoded_bytes()))
    };
    // A reader puts a name in place of the word in capitals. It is a host name itself, so that the command works as it is.
    let mut command = format!("why {}", host.as_str().replace(ANY_LABEL, "HOST"));
    command.extend(arguments.cert.iter().map(|one| file("--cert", one)));
    command.extend(arguments.chain.iter().map(|one| file("--chain", one)));
    command
        .extend(arguments.trusted_certificate.iter().map(|one| file("--trusted-certificate", one)));
    command
}

/// The output lines.
pub(super) fn lines(others: &[OtherHost]) -> Vec<String> {
    let mut lines = Vec::new();
    for OtherHost { host, answer, command } in others.iter().take(NAMED) {
        let what = match answer {
            Answer::No => "locks out clients of",
            Answer::Yes | Answer::Unknown => "may lock out clients of",
        };
        let note = output::accent(output::BAD, "another name:");
        lines.push(format!("{note} this certificate {what} {host}; ask for that name:"));
        lines.push(format!("    {command}"));
    }
    if others.len() > NAMED {
        lines.push(format!("and {} more names: --json lists them", others.len() - NAMED));
    }
    lines
}
