//! Hands over the next key, or its certificate signing request, to the ACME client. This is refused until
//! all clients know the pin.

use std::path::{Path, PathBuf};

use hpkp_core::date;
use hpkp_core::published::{ANY_LABEL, HostName};
use openssl::pkey::{PKey, Private};

use super::super::next_keys::{self, Happened, NextKey};
use super::super::secret_file::{self, Exchanged};
use super::super::{SubjectName, request};
use super::key_file::opened;
use super::report;
use super::today::Today;
use crate::arguments::NextKeyArguments;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use crate::plan::{Usable, When};

/// Fails unless all clients accept the key.
fn must_be_usable(today: &Today, key: &NextKey, names: &[String]) -> Result<(), Failure> {
    let (host, pin) = (&key.host, key.pin);
    if let Some(why) = today.store.state.compromised(pin) {
        return Err(Failure::no(format!(
            "the key sha256/{pin} is compromised: {}",
            hpkp_core::text::Excerpt::new(why)
        )));
    }
    let Usable { when, because_of, missing, .. } = today.usable_for(key, names);
    if !missing.is_empty() {
        return Err(Failure::undetermined(format!(
            "records of {} that a server here has read are missing, so nobody can tell which pins their clients \
             hold: copy their files to peers/ again",
            missing.join(", ")
        )));
    }
    let of = because_of.map(|other| format!(" (its certificate is for {} too)", shown(&other)));
    let of = of.unwrap_or_default();
    match when {
        When::From(at) if at <= today.store.now => Ok(()),
        When::From(at) => Err(Failure::no(format!(
            "not yet: the next key of {host} may be used from {}{of}; until then clients hold pins without it, \
             and would refuse it",
            date::format(at)
        ))),
        When::NotPublished(_) => Err(Failure::no(format!(
            "not yet: the pin of the next key of {host} is not published{of}; publish sha256/{pin} first: hpkp \
             key next {host}"
        ))),
        When::Blocked(why) => Err(Failure::no(format!("not yet: {why}"))),
        When::NothingOnRecord => Err(Failure::undetermined(format!(
            "no pins of {host} are on record in {}, so nobody can tell whether clients hold older pins; name the \
             directory with -d, or record them first (hpkp published add)",
            today.store.paths()
        ))),
    }
}

/// The name of a host. The host that stands for all others of a domain becomes a wildcard.
fn shown(host: &HostName) -> String {
    host.as_str().replace(ANY_LABEL, "*")
}

pub(super) fn hand_over(
    today: &Today,
    key: &NextKey,
    arguments: &NextKeyArguments,
) -> Result<Exit, Failure> {
    let names: Vec<String> = match &arguments.names[..] {
        [] => names_of_client(today).iter().map(ToString::to_string).collect(),
        names => names.iter().map(ToString::to_string).collect(),
    };
    must_be_usable(today, key, &names)?;
    let (private, bytes) = opened(key)?;
    let mut done = String::new();
    // The lock of the record prevents that another process hands over the key at the same time.
    let hand_over = || {
        done = match &arguments.csr {
            Some(file) => csr(today, key, &private, (file, &arguments.names))?,
            None => place(today, key, &bytes, arguments)?,
        };
        Ok::<_, Failure>(Some((key.clone(), Happened::HandedOver, today.store.now)))
    };
    next_keys::append(Path::new(&today.directory), hand_over, || Ok(()))?;
    let is_request = arguments.csr.as_deref() == Some(Path::new("-"));
    if is_request && !arguments.records.json {
        return Ok(output::ended(Exit::Fine, output::unbuffered(done.as_bytes())));
    }
    report::handed_over(today, key, &done, arguments.records.json)
}

/// Writes the request. Gives a message, or the request itself for standard output.
fn csr(
    today: &Today,
    key: &NextKey,
    private: &PKey<Private>,
    (file, names): (&Path, &[SubjectName]),
) -> Result<String, Failure> {
    let names = match names {
        [] => names_of_client(today),
        names => names.to_vec(),
    };
    let pem = request::pem(private, &names).map_err(Failure::undetermined)?;
    if file == Path::new("-") {
        return Ok(String::from_utf8_lossy(&pem).into_owned());
    }
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    secret_file::create(&absolute, &pem, 0o644)?;
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let (path, host) = (output::path(file), &key.host);
    Ok(format!(
        "certificate signing request of the next key of {host}: {path} ({})",
        names.join(", ")
    ))
}

/// The names in the certificate that the next one replaces, as far as they are known.
fn names_of_client(today: &Today) -> Vec<SubjectName> {
    let names = today.clients.iter().flat_map(|client| &client.names);
    let mut all: Vec<SubjectName> = today.host.as_str().parse().into_iter().collect();
    for name in names.filter_map(|name| name.parse().ok()) {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

/// Puts the key into a file of the ACME client, and gives a message.
fn place(
    today: &Today,
    key: &NextKey,
    bytes: &[u8],
    arguments: &NextKeyArguments,
) -> Result<String, Failure> {
    let (file, client) = match &arguments.to {
        Some(file) => (file.clone(), None),
        None => {
            let (file, client, is_own) = of_client(today, key)?;
            if is_own {
                return Ok(format!(
                    "{client} has the next key of {} itself: {}",
                    key.host,
                    output::path(&file)
                ));
            }
            (file, Some(client))
        }
    };
    // certbot and dehydrated use symbolic links, which are kept; their target is replaced.
    let full = match std::fs::canonicalize(&file) {
        Ok(full) => full,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => file.clone(),
        Err(error) => {
            return Err(Failure::undetermined(format!(
                "{}: {}",
                output::path(&file),
                output::os(&error)
            )));
        }
    };
    let shown = output::path(&full);
    let client = client.map(|client| format!("{client}, ")).unwrap_or_default();
    let host = &key.host;
    Ok(match secret_file::exchange(&full, bytes)? {
        Exchanged::Same => format!("next key of {host}: {client}{shown} has it already"),
        Exchanged::New => format!("next key of {host}: {client}{shown}"),
        Exchanged::Kept(kept) => format!(
            "next key of {host}: {client}{shown} (the key that was there: {})\nrenew now. If the server itself \
             reads {shown}, do not reload or restart it before the new certificate is there",
            output::path(&kept)
        ),
    })
}

/// The file from which the ACME client takes its key, the client's name, and whether the client made the
/// next key itself.
fn of_client(today: &Today, key: &NextKey) -> Result<(PathBuf, &'static str, bool), Failure> {
    let host = &key.host;
    let (client, rest) = match &today.clients[..] {
        [] => {
            return Err(Failure::no(format!(
                "no ACME client renews a certificate of {host}; name its directory with --acme, or the file with \
                 --to"
            )));
        }
        [one, rest @ ..] => (one, rest),
    };
    if !rest.is_empty() {
        let names: Vec<&str> = today.clients.iter().map(|one| one.client).collect();
        return Err(Failure::usage(format!(
            "several certificates of {host} are renewed ({}); name the file with --to",
            names.join(", ")
        )));
    }
    let name = client.client;
    if let Some(waiting) = &client.waiting {
        let own = std::fs::canonicalize(waiting).ok();
        return match own.as_ref() == Some(&key.file) {
            true => Ok((waiting.clone(), name, true)),
            false => Err(Failure::no(format!(
                "{name} has made another next key, {}, and would use that one; run hpkp key next {host} \
                 --forget and use that key with --take, or configure {name} to keep its keys",
                output::path(waiting)
            ))),
        };
    }
    let Some(file) = &client.key else {
        return Err(Failure::no(format!(
            "{name} cannot use a key that it has not made; use --csr with another client"
        )));
    };
    match &client.makes_new {
        Some(fix) if !client.is_uncertain => {
            Err(Failure::no(format!("{name} would make a new key; first: {fix}")))
        }
        Some(fix) => {
            output::complain(&format!("{name} uses the key only if it keeps keys: {fix}"));
            Ok((file.clone(), name, false))
        }
        None => Ok((file.clone(), name, false)),
    }
}

pub(super) fn forget(today: &Today, key: &NextKey) -> Result<Exit, Failure> {
    let given_up = || Ok::<_, Failure>(Some((key.clone(), Happened::GivenUp, today.store.now)));
    next_keys::append(Path::new(&today.directory), given_up, || Ok(()))?;
    report::forgotten(today, key)
}
