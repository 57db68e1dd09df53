//! `hpkp published import`: the pins of apps, scripts and zones.

use hpkp_core::certificate::Certificate;
use hpkp_core::pem;
use hpkp_core::published::{HostName, Lifetime, Matching, Origin, Published, Scope};
use hpkp_core::spki;
use hpkp_core::text::Excerpt;

use super::add;
use super::store::{Failure, Store, shown};
use crate::arguments::ImportArguments;
use crate::exit::Exit;
use crate::import::{self, Certificates, PinSet};
use crate::input::{self, InputError};
use crate::output::{self, JSON_VERSION};

pub(super) fn run(
    store: &mut Store,
    arguments: &ImportArguments,
    json: bool,
) -> Result<Exit, Failure> {
    if arguments.origin == Origin::HEADER {
        return Err(Failure::usage("this --origin is what servers call their own header"));
    }
    let text = match arguments.file.as_str() {
        "-" => input::standard(import::MAX_TEXT),
        path => input::named(path.as_ref(), import::MAX_TEXT),
    };
    let file = shown(&arguments.file);
    let text = text.map_err(|error| unread(&file, &error))?;
    let certificates = certificates(&arguments.cert)?;
    let read = arguments.format.read(&text, &certificates);
    let imported = read.map_err(|error| Failure::no(format!("{file}: {error}")))?;
    for note in &imported.notes {
        output::complain(&format!("{file}: {note}"));
    }
    let mut all: Vec<Published> = Vec::new();
    for set in imported.sets {
        if set.expires_at.is_some_and(|time| time <= store.now) {
            output::complain(&format!(
                "{file}: the pins of {} have expired, so nobody is held to them; passed over",
                set.host.as_str()
            ));
            continue;
        }
        let published = published(set, arguments)?;
        if !all.contains(&published) {
            all.push(published);
        }
    }
    if arguments.dry_run {
        return Ok(print(&all, json));
    }
    Ok(add::record(store, arguments.writer.writer.as_ref(), &all, None)?.print(json))
}

fn unread(file: &str, error: &InputError) -> Failure {
    let text = format!("{file}: {error}");
    match error {
        InputError::TooLarge { .. } => Failure::no(text),
        _ => Failure::undetermined(text),
    }
}

/// The certificates at hand.
fn certificates(files: &[String]) -> Result<Certificates, Failure> {
    let mut certificates = Vec::new();
    for file in files {
        let shown = shown(file);
        let octets =
            input::named(file.as_ref(), spki::MAX_FILE).map_err(|error| unread(&shown, &error))?;
        let ders: Vec<Vec<u8>> = if octets.first() == Some(&0x30) {
            vec![octets]
        } else {
            let blocks = pem::blocks(&octets).flatten();
            let blocks = blocks.filter(|block| block.label.ends_with(b"CERTIFICATE"));
            blocks.filter_map(|block| block.decode().ok()).collect()
        };
        let before = certificates.len();
        certificates.extend(ders.iter().filter_map(|der| Certificate::from_der(der).ok()));
        if certificates.len() == before {
            return Err(Failure::no(format!("{shown}: it holds no certificate")));
        }
    }
    Ok(Certificates::new(certificates.iter().map(|one| (one.der(), one.subject().to_owned()))))
}

fn published(set: PinSet, arguments: &ImportArguments) -> Result<Published, Failure> {
    let name = |name: &hpkp_core::ua::host::HostName| -> Result<HostName, Failure> {
        name.as_str().parse().map_err(|error| {
            Failure::no(format!("\"{}\" cannot stand in a record: {error}", name.as_str()))
        })
    };
    let host = name(&set.host)?;
    let matching = match set.matching {
        import::Matching::Exact => Matching::Exact,
        import::Matching::OneLabel => Matching::OneLabel,
        import::Matching::AnyDepth => Matching::AnyDepth,
    };
    // A record can except hosts of `*.` only. Any other host is held to more than its clients hold
    // it to, and whoever imports it should know.
    let mut except = Vec::new();
    for one in &set.except {
        let excepted = name(&one.host)?;
        if matching == Matching::OneLabel {
            except.push(excepted);
        } else {
            output::complain(&format!(
                "{excepted} has settings of its own there, which a record cannot say: it is held to \
                 the pins of {host} too"
            ));
        }
    }
    except.sort();
    Ok(Published {
        host,
        matching,
        except,
        include_subdomains: set.include_subdomains,
        scope: match set.scope {
            import::Scope::Chain => Scope::Chain,
            import::Scope::Leaf => Scope::Leaf,
            import::Scope::PathCa => Scope::PathCa,
            import::Scope::SentCa => Scope::SentCa,
        },
        port: set.port,
        pins: add::sorted(set.pins),
        lifetime: set.expires_at.map_or(Lifetime::Open, Lifetime::ExpiresAt),
        origin: Origin::Other(format!("{} ({})", Excerpt::new(&arguments.origin), set.origin)),
        since: arguments.since,
    })
}

/// What would be recorded.
fn print(all: &[Published], json: bool) -> Exit {
    let text = |published: &Published| {
        let pins: Vec<String> = published.pins.iter().map(|pin| format!("sha256/{pin}")).collect();
        let below = if published.include_subdomains { " and all below" } else { "" };
        let port = published.port.map_or_else(String::new, |port| format!(", port {port}"));
        let name = super::view::name(&published.host, published.matching);
        let scope = super::view::scope(published.scope);
        (name, below, port, scope, pins)
    };
    let written = if json {
        let sets: Vec<_> = all
            .iter()
            .map(|published| {
                let (host, _, _, scope, pins) = text(published);
                serde_json::json!({
                    "host": host,
                    "include_subdomains": published.include_subdomains,
                    "scope": scope,
                    "port": published.port,
                    "pins": pins,
                    "origin": published.origin.as_str(),
                })
            })
            .collect();
        output::json(&serde_json::json!({ "v": JSON_VERSION, "would_record": sets }))
    } else {
        all.iter().try_for_each(|published| {
            let (name, below, port, scope, pins) = text(published);
            output::line(&format!("{name}{below}{port} ({scope}): {}", pins.join(" ")))
        })
    };
    output::ended(Exit::Fine, written)
}
