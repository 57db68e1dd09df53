//! Writes, for `ci/bench`, the records of a server whose hosts each had a new backup pin every day.
//!
//! `history DIRECTORY HOSTS LINES`: the hosts have the certificates `1.pem`, `2.pem`, ... in the directory, issued
//! by the authority `ca.pem`. The output is a file of the writer `web-1` of this machine, which must have a
//! machine-id.
//!
//! `history short WRITER LINES`: lines of another writer, as short as an event can be.

use std::error::Error;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use hpkp_core::accepted::accepted;
use hpkp_core::certificate::Certificate;
use hpkp_core::check::{
    Certificates, Choice, Context, Deployment, Host, Listener, PolicyUse, Records, TrustSetting,
    check,
};
use hpkp_core::finding::Location;
use hpkp_core::max_age::MaxAge;
use hpkp_core::path::{Anchor, Anchors, Chain, Trust, VerifySignature};
use hpkp_core::pem;
use hpkp_core::pin::Pin;
use hpkp_core::policy::{PinSetting, PinSource, PolicySpec};
use hpkp_core::published::{Body, Compromised, Ended, Event, Identity, State, Why, WriterName};

const DAY: i64 = 86_400;

/// Accepts every signature: the authority has signed all certificates.
struct Signed;

impl VerifySignature for Signed {
    fn is_signed_by(&self, _: &Certificate, _: &Certificate) -> bool {
        true
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, hosts, lines] = arguments.as_slice() else {
        return Err("usage: history DIRECTORY HOSTS LINES, or history short WRITER LINES".into());
    };
    if directory == "short" {
        return short(&hosts.parse()?, lines.parse()?);
    }
    let (hosts, lines): (u32, usize) = (hosts.parse()?, lines.parse()?);
    let writer: WriterName = "web-1".parse()?;
    let mut deployment = deployment(directory, hosts, &writer)?;

    // Each day has a line for each host, and some more.
    let days = i64::try_from(lines / usize::try_from(hosts)?)? + 1;
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    // With another machine-id the server would take the file for a copy from another machine.
    let id = std::fs::read("/etc/machine-id")?;
    let machine = Identity::machine_of(id.trim_ascii());
    let identity = Identity { instance: "0".to_owned(), machine };
    let mut events = vec![Event::new(now - days * DAY, 0, writer.clone(), Body::Writer(identity))];
    let mut state = State::default();
    for day in (1..=days).rev() {
        let at = now - day * DAY;
        if hosts == 1 && day < days {
            // The same events as from the check, without running it 100,000 times.
            replace(&mut events, at, backup(day));
            continue;
        }
        pin(&mut deployment, backup(day));
        let verdict = check(&deployment, at, &Signed);
        if let Some(finding) = verdict.findings.first() {
            return Err(finding.lines().collect::<Vec<_>>().join("\n").into());
        }
        for event in accepted(&deployment, &verdict, &state, &writer, at) {
            state.add(&event);
            events.push(event);
        }
        if let Some(records) = &mut deployment.records {
            records.state.clone_from(&state);
        }
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for event in events.iter().take(lines) {
        writeln!(out, "{}", event.line())?;
    }
    Ok(out.flush()?)
}

/// The backup pin of a day.
fn backup(day: i64) -> Pin {
    let mut backup = [0xf0; Pin::BYTES];
    backup[..8].copy_from_slice(&day.to_be_bytes());
    Pin::from_bytes(backup)
}

/// Replaces the backup pin in the header of the only host.
fn replace(events: &mut Vec<Event>, at: i64, backup: Pin) {
    let is_last = |event: &&Event| matches!(event.body(), Body::Published(_));
    let Some(last) = events.iter().rev().find(is_last) else { return };
    let Body::Published(mut published) = last.body().clone() else { return };
    let ended = Ended { ids: vec![last.id()], why: Why::Replaced, when: None };
    published.pins.retain(|pin| pin.bytes()[8..] != backup.bytes()[8..]);
    published.pins.push(backup);
    published.pins.sort_unstable();
    for body in [Body::Ended(ended), Body::Published(published)] {
        let Some(last) = events.last() else { return };
        let event = Event::new(at, last.seq() + 1, last.writer().clone(), body);
        events.push(event);
    }
}

/// Writes `compromised` events, which have the shortest lines.
fn short(writer: &WriterName, lines: u64) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for seq in 1..=lines {
        let body =
            Body::Compromised(Compromised { pin: backup(i64::try_from(seq)?), why: "x".into() });
        writeln!(out, "{}", Event::new(1_700_000_000, seq, writer.clone(), body).line())?;
    }
    Ok(out.flush()?)
}

fn at() -> Location {
    Location { file: "history".into(), line: 1 }
}

fn certificate(directory: &str, name: &str) -> Result<Arc<Certificate>, Box<dyn Error>> {
    let file = std::fs::read(format!("{directory}/{name}.pem"))?;
    let block = pem::blocks(&file).next().and_then(Result::ok).ok_or("no certificate")?;
    let der = block.decode().map_err(|_| "no base64 in the certificate")?;
    Ok(Arc::new(Certificate::from_der(&der)?))
}

/// Hosts with their certificates, which `writer` records.
fn deployment(
    directory: &str,
    hosts: u32,
    writer: &WriterName,
) -> Result<Deployment, Box<dyn Error>> {
    let anchor = Anchor { certificate: certificate(directory, "ca")?, origin: "ca.pem".into() };
    let trust = Trust { system: Arc::new(Anchors::new([anchor])), added: None };
    let trust = Arc::new(TrustSetting { trust, ..TrustSetting::default() });
    let mut deployment = Deployment::default();
    for number in 1..=hosts {
        let chain = Chain::new(vec![certificate(directory, &number.to_string())?]);
        let chain = chain.ok_or("no chain")?;
        let certificates = Certificates::Loaded(vec![chain]);
        let name = format!("h{number}.example.com");
        deployment.contexts.push(Context { certificates, trust: trust.clone() });
        deployment.hosts.push(Host {
            enforced: Some(PolicyUse { policy: name.clone(), at: at(), own: true }),
            ..Host::new(name.clone(), vec![name], vec![deployment.contexts.len() - 1])
        });
    }
    deployment.listeners.push(Listener::new(
        443,
        Choice::Nginx,
        (0..deployment.hosts.len()).collect(),
        0,
    ));
    deployment.records = Some(Records {
        directories: vec!["/var/lib/hpkp".to_owned()],
        state: State::default(),
        writer: Some(writer.clone()),
        at: at(),
        problems: Vec::new(),
        unrecorded: None,
        freshness: Vec::new(),
    });
    Ok(deployment)
}

/// Gives each host a policy of its own key and `backup`, for 30 days.
fn pin(deployment: &mut Deployment, backup: Pin) {
    let pins = |context: &Context| match &context.certificates {
        Certificates::Loaded(chains) => {
            chains.iter().filter_map(|chain| chain.leaf().pin()).chain([backup]).collect()
        }
        _ => vec![backup],
    };
    let hosts = deployment.hosts.iter().zip(&deployment.contexts);
    deployment.policies = hosts
        .map(|(host, context)| {
            let mut spec = PolicySpec::new(host.label.clone(), at());
            let setting = |pin| PinSetting { source: PinSource::Literal(pin), at: at() };
            spec.pins = pins(context).into_iter().map(setting).collect();
            spec.max_age = MaxAge::from_seconds(30 * 86_400);
            spec.resolve(|_| Err(String::new()))
        })
        .collect();
}
