//! The certificate chains that a command checks: from files, or from a server.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hpkp_core::certificate::Certificate;
use hpkp_core::pin::Pin;
use hpkp_core::spki;
use hpkp_core::text::Excerpt;
use hpkp_core::ua::host::Host;

use crate::arguments::Starttls;
use crate::failure::Failure;
use crate::input::{self, InputError};
use crate::presented::{self, Address};
use crate::{encoded, output};

/// Certificate chains with the name of the file or server that each came from.
pub(crate) type Chains = Vec<(String, Vec<Arc<Certificate>>)>;

/// The certificates in a file that the user named, in order; at least one.
pub(crate) fn of_file(file: &str) -> Result<Vec<Arc<Certificate>>, Failure> {
    let shown = output::path(Path::new(file));
    let bytes =
        input::named(file.as_ref(), spki::MAX_FILE).map_err(|error| unread(file, &error))?;
    let read = encoded::certificates(&bytes).zip(1..).map(|(one, place)| {
        let of_place = |error| Failure::no(format!("{shown}: certificate {place}: {error}"));
        one.map(Arc::new).map_err(of_place)
    });
    let certificates = read.collect::<Result<Vec<_>, _>>()?;
    if certificates.is_empty() {
        let hint = if encoded::has_private_key(&bytes) { ", but a private key" } else { "" };
        return Err(Failure::no(format!("{shown}: contains no certificate{hint}")));
    }
    Ok(certificates)
}

/// The certificates in each of these files.
pub(crate) fn of_files(files: &[String]) -> Result<Vec<Vec<Arc<Certificate>>>, Failure> {
    files.iter().map(|file| of_file(file)).collect()
}

/// The failure for a file that the user named and that cannot be read.
pub(crate) fn unread(file: &str, error: &InputError) -> Failure {
    let hint = match file.parse::<Pin>() {
        Ok(_) => "; this is a pin, and a file is expected here",
        Err(_) => "",
    };
    Failure {
        text: format!("{}: {error}{hint}", output::path(Path::new(file))),
        exit: error.exit(),
    }
}

/// The chains that a server presents.
#[derive(Debug)]
pub(crate) struct OfServer {
    pub(crate) chains: Chains,
    /// The queries that failed, as sentences. If there are any, the server may have more certificates.
    pub(crate) unknown: Vec<String>,
}

/// The chains that a server (`--server HOST[:PORT]`) presents for a host, or for its own name.
pub(crate) fn of_server(server: &str, host: Option<&String>) -> Result<OfServer, Failure> {
    const TIMEOUT: Duration = Duration::from_secs(10);
    let address =
        Address::parse(server).ok_or_else(|| Failure::usage("--server takes HOST or HOST:PORT"))?;
    let shown = Excerpt::new(server);
    let failed = |error: &dyn std::fmt::Display| Failure::undetermined(format!("{shown}: {error}"));
    let named = host.and_then(|host| Host::parse(host).ok());
    let answer = presented::ask(
        &address,
        &named.unwrap_or(address.host.clone()),
        TIMEOUT,
        Starttls::of_port(address.port),
    )
    .map_err(|error| failed(&error))?;
    let chains = answer.chains.iter().map(|chain| {
        let chain = chain.certificates.iter().map(|der| Certificate::from_der(der).map(Arc::new));
        let chain = chain.collect::<Result<_, _>>().map_err(|error| failed(&error));
        Ok::<_, Failure>((server.to_owned(), chain?))
    });
    Ok(OfServer {
        chains: chains.collect::<Result<_, _>>()?,
        unknown: answer.unknown.iter().map(|text| format!("{shown}: {text}")).collect(),
    })
}
