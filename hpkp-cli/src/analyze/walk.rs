//! Follows a target from its first response to the last, and queries every server of the redirect chain.

use std::net::SocketAddr;

use hpkp_core::finding::Code;
use hpkp_core::ua::host::Host;

use super::dns::Resolver;
use super::findings::{Findings, Found};
use super::report::{Hop, TargetReport};
use super::site::{self, Knowledge, Surveyed};
use super::survey::{Answered, Failure, Way, limited};
use super::target::{Protocol, Site, Target};
use super::tlsa;
use crate::arguments::AnalyzeArguments;
use crate::exit::Exit;
use crate::parallel;
use crate::parse::header::Header;

/// A response of the redirect chain.
struct Step {
    target: Target,
    response: super::http::Response,
}

/// The report about one target.
pub(super) fn report(
    text: &str,
    target: Option<&Target>,
    arguments: &AnalyzeArguments,
    knowledge: &Knowledge<'_>,
) -> TargetReport {
    let Some(target) = target else {
        let mut findings = Findings::default();
        let found = "not a host, HOST:PORT or URL with http or https";
        findings.add(Found::new(Code::NameNotResolved, found));
        return finished(text, None, Vec::new(), Vec::new(), findings);
    };
    let way = way(target, arguments);
    let mut findings = Findings::default();
    let (steps, targets) = walk(target, &way, usize::from(arguments.max_redirects), &mut findings);
    let sites = targets.iter().map(|target| {
        let surveyed = survey(target, &way, &steps, arguments);
        site::report(&surveyed, knowledge)
    });
    let sites = sites.collect();
    let hops = steps.iter().map(|step| Hop {
        response: site::view(&step.answered()),
        location: step.response.location.clone(),
    });
    finished(text, Some(target), hops.collect(), sites, findings)
}

fn finished(
    text: &str,
    target: Option<&Target>,
    hops: Vec<Hop>,
    sites: Vec<super::report::SiteReport>,
    findings: Findings,
) -> TargetReport {
    let findings = findings.finish(0);
    let all = sites.iter().flat_map(|site| &site.findings).chain(&findings);
    let ended = all.fold(Exit::Fine, |exit, finding| exit.and(finding.exit()));
    let is_void = |header: &Header| !header.rfc7469.valid;
    let headers = sites.iter().flat_map(|site| &site.headers);
    let ended = match headers.into_iter().any(|one| is_void(&one.header)) {
        true => ended.and(Exit::No),
        false => ended,
    };
    TargetReport {
        target: text.to_owned(),
        url: target.map(ToString::to_string),
        exit: ended.code(),
        hops,
        sites,
        test_reports: None,
        findings,
        ended,
    }
}

impl Step {
    fn answered(&self) -> Answered {
        Answered { url: self.target.to_string(), response: self.response.clone() }
    }
}

fn way(target: &Target, arguments: &AnalyzeArguments) -> Way {
    Way {
        connect: arguments.connect,
        instead_of: (target.site.host.clone(), target.site.port),
        servername: arguments.servername.as_deref().and_then(|name| Host::parse(name).ok()),
        resolver: arguments.resolver.map(|server| Resolver { server, timeout: arguments.timeout }),
        timeout: arguments.timeout,
        requests: arguments.requests,
    }
}

/// Follows redirects. Gives the responses, and each server with the last resource that was requested from
/// it.
fn walk(
    first: &Target,
    way: &Way,
    limit: usize,
    findings: &mut Findings,
) -> (Vec<Step>, Vec<Target>) {
    let mut targets = vec![first.clone()];
    let mut steps: Vec<Step> = Vec::new();
    if !matches!(first.site.protocol, Protocol::Http | Protocol::Https) {
        return (steps, targets);
    }
    let mut here = first.clone();
    loop {
        let addresses = way.addresses(&here.site).unwrap_or_default();
        // The failure is reported later, when each address of the server is queried and fails again.
        let Ok(response) = way.ask_first(&here, &addresses) else {
            return (steps, targets);
        };
        let location = response.redirect().map(str::to_owned);
        steps.push(Step { target: here.clone(), response });
        let Some(location) = location.filter(|_| limit > 0) else {
            return (steps, targets);
        };
        let Some(there) = here.follow(&location) else {
            let location = hpkp_core::text::Excerpt::new(&location).to_string();
            let text = format!("{here} redirects to {location}, which is not followed");
            findings.add(Found::new(Code::NoHttpResponse, text));
            return (steps, targets);
        };
        if steps.len() > limit {
            let text =
                format!("more than {limit} redirects (--max-redirects), the last from {here}");
            findings.add(Found::new(Code::TooManyRedirects, text));
            return (steps, targets);
        }
        match targets.iter_mut().find(|known| known.site == there.site) {
            Some(known) => known.path.clone_from(&there.path),
            None => targets.push(there.clone()),
        }
        here = there;
    }
}

/// Queries every address of a server, the DNS resolver, and the server's plain HTTP port.
fn survey(target: &Target, way: &Way, steps: &[Step], arguments: &AnalyzeArguments) -> Surveyed {
    let mut surveyed = Surveyed {
        target: target.clone(),
        servername: way.servername(&target.site).clone(),
        asked: Vec::new(),
        plain: Vec::new(),
        tlsa: None,
        failures: Vec::new(),
    };
    let addresses = match way.addresses(&target.site) {
        Ok(addresses) => addresses,
        Err(failure) => {
            surveyed.failures.push(failure);
            return surveyed;
        }
    };
    let (addresses, more) = limited(addresses);
    surveyed.failures.extend(more);
    let on_this = steps.iter().filter(|step| step.target.site == target.site);
    let on_the_way: Vec<Answered> = on_this.map(Step::answered).collect();
    if target.site.protocol == Protocol::Http {
        return plain_site(surveyed, way, &addresses, on_the_way);
    }
    surveyed.tlsa = ask_tlsa(&target.site, way);
    surveyed.asked =
        parallel::map(&addresses, addresses.len(), |address| way.ask(target, *address), |_| {});
    if let Some(first) = surveyed.asked.iter_mut().find(|asked| !asked.responses.is_empty()) {
        first.responses.splice(0..0, on_the_way);
    }
    surveyed.plain = plain_port(target, way, &addresses, arguments);
    surveyed
}

fn ask_tlsa(site: &Site, way: &Way) -> Option<Result<tlsa::Asked, Failure>> {
    let resolver = way.resolver?;
    let Host::Name(name) = &site.host else { return None };
    let owner = site::owner(&site.host, site.port);
    Some(match resolver.tlsa(name.as_str(), site.port) {
        Ok(answer) => Ok(tlsa::Asked { owner, resolver, answer }),
        Err(error) => {
            let text = format!(
                "cannot look up the TLSA records of {owner} at {}: {error}",
                resolver.server
            );
            Err(Failure::new(Code::ResolverFailed, text))
        }
    })
}

/// A server without TLS, at the beginning or the end of a redirect chain.
fn plain_site(
    mut surveyed: Surveyed,
    way: &Way,
    addresses: &[SocketAddr],
    on_the_way: Vec<Answered>,
) -> Surveyed {
    if on_the_way.is_empty() {
        // No redirect has queried this server, or the server did not respond.
        match way.ask_first(&surveyed.target, addresses) {
            Ok(response) => {
                let url = surveyed.target.to_string();
                surveyed.plain.push(Answered { url, response });
            }
            Err(failure) => surveyed.failures.push(failure),
        }
    }
    surveyed.plain.extend(on_the_way);
    surveyed
}

/// The response of the same host over plain HTTP. Many hosts do not listen on that port, which is no fault.
fn plain_port(
    target: &Target,
    way: &Way,
    addresses: &[SocketAddr],
    arguments: &AnalyzeArguments,
) -> Vec<Answered> {
    let Site { protocol, host, port } = &target.site;
    let asked = arguments.http_port;
    let is_usual = *port == Protocol::Https.port() && arguments.connect.is_none();
    let Some(port) = asked.or(is_usual.then_some(Protocol::Http.port())) else {
        return Vec::new();
    };
    if *protocol != Protocol::Https {
        return Vec::new();
    }
    let site = Site { protocol: Protocol::Http, host: host.clone(), port };
    let plain = Target { site, path: target.path.clone() };
    let addresses = addresses.iter().map(|address| SocketAddr::new(address.ip(), port));
    // One address is queried for all.
    let addresses: Vec<SocketAddr> = addresses.take(1).collect();
    match way.ask_first(&plain, &addresses) {
        Ok(response) => vec![Answered { url: plain.to_string(), response }],
        Err(_) => Vec::new(),
    }
}
