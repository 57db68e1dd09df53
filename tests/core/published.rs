//! Published pins compared with real certificates: names, patterns and default servers, the findings, and the events
//! that are recorded.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use hpkp_core::accepted::{accepted, stopped};
use hpkp_core::certificate::Certificate;
use hpkp_core::check::{
    Certificates, Choice, Context, Deployment, Host, Listener, NamePattern, PolicyUse, Records,
    Serving, TrustSetting, Verdict, check,
};
use hpkp_core::date;
use hpkp_core::finding::{Class, Code, Location, Text};
use hpkp_core::max_age::MaxAge;
use hpkp_core::path::{Anchor, Anchors, Chain, Trust, VerifySignature};
use hpkp_core::pem;
use hpkp_core::pin::Pin;
use hpkp_core::policy::{PinSetting, PinSource, PolicySpec};
use hpkp_core::published::{
    Body, Compromised, Ended, Event, Lifetime, Matching, Origin, Published, Scope, State, Waived,
    Why,
};
use hpkp_tests::pki::Pki;
use hpkp_tests::recorded::held;
use hpkp_tests::site;

pub(crate) const DAY: i64 = 86_400;

fn start() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("a time").as_secs() as i64
}

/// Verifies no signature: in these tests, key identifiers decide.
pub(crate) struct Never;

impl VerifySignature for Never {
    fn is_signed_by(&self, _: &Certificate, _: &Certificate) -> bool {
        false
    }
}

pub(crate) fn at() -> Location {
    Location { file: "test.conf".into(), line: 1 }
}

/// A server and its records.
pub(crate) struct World {
    _dir: tempfile::TempDir,
    pub(crate) pki: Pki,
    pub(crate) state: State,
    pub(crate) now: i64,
    pub(crate) writer: Option<&'static str>,
    pins: RefCell<HashMap<String, Pin>>,
}

/// A server block: its names, its port, its certificate, the keys that its policy pins.
#[derive(Clone, Copy)]
pub(crate) struct Block<'a> {
    pub(crate) names: &'a [&'a str],
    pub(crate) port: u16,
    pub(crate) certificate: &'a str,
    pub(crate) pins: &'a [&'a str],
    pub(crate) include_subdomains: bool,
}

pub(crate) const BLOCK: Block<'_> =
    Block { names: &[], port: 443, certificate: "", pins: &[], include_subdomains: false };

impl World {
    pub(crate) fn new(certificates: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let pki = Pki::new(dir.path());
        pki.ca("ca");
        for (name, host) in certificates {
            pki.leaf(name, host, "ca");
        }
        Self {
            _dir: dir,
            pki,
            state: State::default(),
            now: start(),
            writer: Some("web-1"),
            pins: RefCell::default(),
        }
    }

    pub(crate) fn certificate(&self, file: &str) -> Arc<Certificate> {
        let pem = self.pki.read(&format!("{file}.pem"));
        let block = pem::blocks(&pem).next().expect("a block").expect("a whole one");
        Arc::new(Certificate::from_der(&block.decode().expect("base64")).expect("a certificate"))
    }

    pub(crate) fn pin(&self, name: &str) -> Pin {
        match name {
            "backup" => site::B.parse().expect("a pin"),
            _ => {
                let mut known = self.pins.borrow_mut();
                let pin = || self.pki.pin(&format!("{name}.pem")).parse().expect("a pin");
                *known.entry(name.to_owned()).or_insert_with(pin)
            }
        }
    }

    pub(crate) fn deployment(&self, blocks: &[Block<'_>]) -> Deployment {
        let anchor = Anchor { certificate: self.certificate("ca"), origin: "store".into() };
        let trust = Trust { system: Arc::new(Anchors::new([anchor])), added: None };
        let trust = Arc::new(TrustSetting { trust, ..TrustSetting::default() });
        let mut deployment = Deployment::default();
        for (position, block) in blocks.iter().enumerate() {
            let chain = Chain::new(vec![self.certificate(block.certificate)]).expect("a chain");
            let certificates = Certificates::Loaded(vec![chain]);
            deployment.contexts.push(Context { certificates, trust: trust.clone() });
            let mut spec = PolicySpec::new(format!("policy-{position}"), at());
            let pins = block.pins.iter().map(|name| self.pin(name));
            let setting = |pin| PinSetting { source: PinSource::Literal(pin), at: at() };
            spec.pins = pins.map(setting).collect();
            spec.max_age = Some("1d".parse().expect("a time"));
            spec.include_subdomains = Some(block.include_subdomains);
            let policy = spec.name.clone();
            deployment.policies.push(spec.resolve(|_| Err(String::new())));
            deployment.hosts.push(Host {
                enforced: (!block.pins.is_empty()).then(|| PolicyUse {
                    policy,
                    at: at(),
                    own: true,
                }),
                ..Host::new(
                    block.names.first().copied().unwrap_or("-").to_owned(),
                    block.names.iter().map(|name| (*name).to_owned()).collect(),
                    vec![position],
                )
            });
            match deployment.listeners.iter_mut().find(|listener| listener.port == block.port) {
                Some(listener) => listener.hosts.push(position),
                None => deployment.listeners.push(Listener::new(
                    block.port,
                    Choice::Nginx,
                    vec![position],
                    position,
                )),
            }
        }
        deployment.records = Some(Records {
            directories: vec!["/var/lib/hpkp".to_owned()],
            state: self.state.clone(),
            writer: self.writer.map(|writer| writer.parse().expect("a name")),
            at: at(),
            problems: vec![],
            unrecorded: None,
            freshness: Vec::new(),
        });
        deployment
    }

    pub(crate) fn check(&self, blocks: &[Block<'_>]) -> Verdict {
        check(&self.deployment(blocks), self.now, &Never)
    }

    pub(crate) fn codes(&self, blocks: &[Block<'_>]) -> Vec<(Code, Class)> {
        codes(&self.check(blocks))
    }

    /// Accepts the blocks and adds the resulting events to the records.
    pub(crate) fn accept(&mut self, blocks: &[Block<'_>]) -> Vec<Event> {
        let deployment = self.deployment(blocks);
        self.accept_deployment(&deployment)
    }

    pub(crate) fn accept_deployment(&mut self, deployment: &Deployment) -> Vec<Event> {
        let verdict = check(deployment, self.now, &Never);
        let writer = self.writer.expect("a writer").parse().expect("a name");
        let events = accepted(deployment, &verdict, &self.state, &writer, self.now);
        events.iter().for_each(|event| self.state.add(event));
        events
    }

    pub(crate) fn import(
        &mut self,
        host: &str,
        matching: Matching,
        scope: Scope,
        key: &str,
    ) -> Event {
        let body = Body::Published(Published {
            matching,
            scope,
            lifetime: Lifetime::ExpiresAt(self.now + 30 * DAY),
            ..held(host, vec![self.pin(key)])
        });
        self.add("apps", body)
    }

    /// Records a header of the writer `web-1`.
    pub(crate) fn header(&mut self, host: &str, key: &str, seconds: u64) -> Event {
        let body = Body::Published(Published {
            lifetime: Lifetime::MaxAge(MaxAge::from_seconds(seconds).expect("an age")),
            origin: Origin::Header,
            ..held(host, vec![self.pin(key)])
        });
        self.add("web-1", body)
    }

    pub(crate) fn add(&mut self, writer: &str, body: Body) -> Event {
        let writer = writer.parse().expect("a name");
        let event = Event::new(self.now, 1 + self.state.last_seq(&writer), writer, body);
        self.state.add(&event);
        event
    }
}

pub(crate) fn codes(verdict: &Verdict) -> Vec<(Code, Class)> {
    verdict.findings.iter().map(|finding| (finding.code, finding.class)).collect()
}

pub(crate) fn published(events: &[Event]) -> Vec<(&str, Matching)> {
    let all = events.iter().filter_map(|event| match event.body() {
        Body::Published(published) => Some((published.host.as_str(), published.matching)),
        _ => None,
    });
    all.collect()
}

pub(crate) const LOCKOUT: Class = Class::Lockout;

#[test]
fn a_key_changes_in_two_steps() {
    let mut world = World::new(&[("old", "www.example.com"), ("new", "www.example.com")]);
    let names: &[&str] = &["www.example.com"];
    let before = Block { names, certificate: "old", pins: &["old", "backup"], ..BLOCK };
    let both = Block { names, certificate: "old", pins: &["old", "new"], ..BLOCK };
    let after = Block { names, certificate: "new", pins: &["new", "backup"], ..BLOCK };
    assert_eq!(world.codes(&[before]), []);
    let before = || Block { names, certificate: "old", pins: &["old", "backup"], ..BLOCK };
    assert_eq!(world.accept(&[before()]).len(), 2);
    assert_eq!(world.accept(&[before()]), []);

    let swapped = || Block { names, certificate: "new", pins: &["new", "backup"], ..BLOCK };
    assert_eq!(world.codes(&[swapped()]), [(Code::PublishedPinsUnmet, LOCKOUT)]);
    assert!(world.check(&[swapped()]).hosts[0].enforced.as_ref().unwrap().header.is_none());
    // Removing the policy does not change the pins that clients hold.
    let bare = || Block { names, certificate: "new", ..BLOCK };
    assert_eq!(world.codes(&[bare()]), [(Code::PublishedPinsUnmet, LOCKOUT)]);

    assert_eq!(world.codes(&[both]), []);
    world.accept(&[Block { names, certificate: "old", pins: &["old", "new"], ..BLOCK }]);
    world.now += 2 * DAY - 1;
    assert_eq!(world.codes(&[swapped()]), [(Code::PublishedPinsUnmet, LOCKOUT)]);
    world.now += 1;
    assert_eq!(world.codes(&[after]), []);
}

#[test]
fn a_finding_names_clients_pins_expiry_and_remedy() {
    let mut world = World::new(&[("old", "www.example.com"), ("new", "www.example.com")]);
    let names: &[&str] = &["www.example.com"];
    world.accept(&[Block { names, certificate: "old", pins: &["old", "backup"], ..BLOCK }]);
    let stolen = Compromised { pin: world.pin("backup"), why: "stolen".into() };
    world.add("ops", Body::Compromised(stolen));
    let verdict = world.check(&[Block { names, certificate: "new", ..BLOCK }]);
    let lines: Vec<String> = verdict.findings[0].lines().collect();
    let text = lines.join("\n");
    let id = world.state.published().next().unwrap().id;
    for part in [
        "clients that visited www.example.com since 20",
        "recorded by web-1",
        &format!("sha256/{}", world.pin("old")),
        &format!("sha256/{} (compromised, do not use it)", world.pin("backup")),
        "would refuse the certificate, until 2 days after this server stops sending these pins",
        &format!("publish its pin (sha256/{}) now", world.pin("new")),
        "the certificate may change 2 days after that",
        &format!("hpkp published -d /var/lib/hpkp waive {id} --who NAME --why REASON"),
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(lines.iter().all(|line| line.starts_with("hpkp: [published-pins-unmet] www.example.")));
}

#[test]
fn a_finding_names_the_longest_retention() {
    let mut world = World::new(&[("old", "www.example.com"), ("new", "www.example.com")]);
    let names: &[&str] = &["www.example.com"];
    // The records after max_age was reduced from 60 days to 1 day.
    let long = world.header("www.example.com", "old", 60 * DAY as u64);
    let ids = vec![long.id()];
    world.add("web-1", Body::Ended(Ended { ids, why: Why::Replaced, when: None }));
    world.accept(&[Block { names, certificate: "old", pins: &["old", "backup"], ..BLOCK }]);
    let text = |world: &World| {
        let verdict = world.check(&[Block { names, certificate: "new", ..BLOCK }]);
        verdict.findings[0].text.what.clone()
    };
    let until = date::format(world.now + 61 * DAY);
    assert!(
        text(&world).ends_with(&format!("would refuse the certificate, until {until}")),
        "{}",
        text(&world)
    );
    // Near the end of the longer one, the present header lasts longer.
    world.now += 60 * DAY;
    let text = text(&world);
    assert!(text.contains("until 2 days after this server stops"), "{text}");
}

#[test]
fn no_advice_leads_back_to_a_compromised_key() {
    let mut world = World::new(&[("old", "www.example.com"), ("new", "www.example.com")]);
    let names: &[&str] = &["www.example.com"];
    let pins: &[&str] = &["old", "backup"];
    world.accept(&[Block { names, certificate: "old", pins, ..BLOCK }]);
    let text = |world: &World, class: Code| {
        let mut deployment =
            world.deployment(&[Block { names, certificate: "new", pins, ..BLOCK }]);
        let not_after = "2027".to_owned();
        deployment.hosts[0].serving = vec![Serving { pin: world.pin("old"), not_after }];
        let verdict = check(&deployment, world.now, &Never);
        let found = verdict.findings.iter().find(|finding| finding.code == class);
        let lines: Vec<String> = found.expect("a finding").lines().collect();
        lines.join("\n")
    };
    let codes = [Code::NoPinInChain, Code::PublishedPinsUnmet];
    for code in codes {
        let text = text(&world, code);
        assert!(
            text.contains("the previous certificate") && !text.contains("compromised"),
            "{text}"
        );
    }
    for (key, advice) in [("old", "not compromised"), ("backup", "no certificate can satisfy")] {
        let pin = world.pin(key);
        world.add("ops", Body::Compromised(Compromised { pin, why: "stolen".into() }));
        for code in codes {
            let text = text(&world, code);
            assert!(text.contains(advice), "{text}");
            assert!(!text.contains("the previous") && !text.contains("restore"), "{text}");
            // Both the served key and the pin are marked as compromised.
            let served = world.pin("old");
            let lines = || text.lines().filter(|line| line.contains(&format!("sha256/{served}")));
            assert!(lines().count() > 1, "{text}");
            assert!(lines().all(|line| line.contains("(compromised, do not use it)")), "{text}");
        }
    }
}

#[test]
fn a_wildcard_block_publishes_the_names_in_its_certificate() {
    let mut world = World::new(&[
        ("wild", "*.example.com"),
        ("api", "api.example.com"),
        ("shop", "shop.example.com"),
    ]);
    let wild = || Block {
        names: &["*.example.com"],
        certificate: "wild",
        pins: &["wild", "backup"],
        ..BLOCK
    };
    let api = || Block { names: &["api.example.com"], certificate: "api", ..BLOCK };
    let events = world.accept(&[wild(), api()]);
    assert_eq!(published(&events), [("example.com", Matching::OneLabel)]);
    // The other block has another key, and its clients never noted the wildcard's pins.
    assert_eq!(world.codes(&[wild(), api()]), []);
    // This block takes over a name whose clients did note them.
    let shop = || Block { names: &["shop.example.com"], certificate: "shop", ..BLOCK };
    let refused = [(Code::PublishedPinsUnmet, LOCKOUT)];
    assert_eq!(world.codes(&[wild(), api(), shop()]), refused);
    // An app's pins for a name that only the wildcard covers are compared with the wildcard's certificate.
    world.import("img.example.com", Matching::Exact, Scope::Leaf, "wild");
    assert_eq!(world.codes(&[wild(), api()]), []);
    world.import("img.example.com", Matching::Exact, Scope::Leaf, "api");
    assert!(world.codes(&[wild(), api()]).contains(&(Code::PublishedPinsUnmet, Class::Warning)));
}

#[test]
fn a_default_server_has_the_names_of_its_certificate() {
    let mut world = World::new(&[("a", "app.example.com"), ("b", "app.example.com")]);
    world.import("app.example.com", Matching::Exact, Scope::Leaf, "a");
    for names in [&["_"][..], &[], &["other.example.com"]] {
        assert_eq!(world.codes(&[Block { names, certificate: "a", ..BLOCK }]), []);
        let refused = [(Code::PublishedPinsUnmet, LOCKOUT)];
        assert_eq!(world.codes(&[Block { names, certificate: "b", ..BLOCK }]), refused);
    }
}

#[test]
fn pins_sent_by_a_named_default_server_for_other_names_are_recorded() {
    let mut world = World::new(&[("both", "example.com,DNS:www.example.com"), ("new", "x.test")]);
    let site = || Block {
        names: &["example.com"],
        certificate: "both",
        pins: &["both", "backup"],
        ..BLOCK
    };
    let events = world.accept(&[site()]);
    let exact = |name| (name, Matching::Exact);
    assert_eq!(published(&events), [exact("example.com"), exact("www.example.com")]);
    let www = || Block { names: &["www.example.com"], certificate: "new", ..BLOCK };
    assert_eq!(world.codes(&[site(), www()]), [(Code::PublishedPinsUnmet, LOCKOUT)]);
}

#[test]
fn a_default_server_with_a_name_answers_where_the_block_does_not_listen() {
    let world = World::new(&[
        ("www", "www.example.com"),
        ("wild", "*.example.com"),
        ("apex", "example.com"),
    ]);
    let www = || Block {
        names: &["www.example.com"],
        certificate: "www",
        pins: &["www", "backup"],
        ..BLOCK
    };
    let default = || Block { names: &["example.com"], port: 8443, certificate: "wild", ..BLOCK };
    assert_eq!(world.codes(&[www(), default()]), [(Code::SameHostPinMismatch, LOCKOUT)]);
    // The certificate of this block is not for the pinned host.
    let other = Block { names: &["example.com"], port: 8443, certificate: "apex", ..BLOCK };
    assert_eq!(world.codes(&[www(), other]), []);
    let mut deployment = world.deployment(&[www(), default()]);
    // If the pinned block listens on the second port too, no client of it reaches the default server.
    deployment.listeners[1].hosts.push(0);
    assert_eq!(codes(&check(&deployment, world.now, &Never)), []);
}

#[test]
fn a_name_given_up_goes_to_the_default_server() {
    let mut world = World::new(&[("a", "a.example.com,DNS:*.example.com"), ("b", "b.example.com")]);
    let a = || Block { names: &["a.example.com"], certificate: "a", ..BLOCK };
    let b =
        || Block { names: &["b.example.com"], certificate: "b", pins: &["b", "backup"], ..BLOCK };
    world.accept(&[a(), b()]);
    assert_eq!(world.codes(&[a()]), [(Code::PublishedPinsUnmet, LOCKOUT)]);
    // A mismatch that was accepted once does not refuse later configurations.
    world.accept(&[a()]);
    assert_eq!(world.codes(&[a()]), [(Code::WildcardHostPinsUnmet, Class::Warning)]);
    world.now += 2 * DAY;
    assert_eq!(world.codes(&[a()]), []);
}

#[test]
fn a_name_is_not_unchanged_because_its_block_is() {
    let mut world =
        World::new(&[("a", "a.example.com"), ("b", "*.example.com"), ("c", "*.example.com")]);
    let warned = [(Code::PublishedPinsUnmet, Class::Warning)];
    let refused = [(Code::PublishedPinsUnmet, LOCKOUT)];
    let names = |names| Block { names, certificate: "c", ..BLOCK };
    let (www, both): (&[&str], &[&str]) =
        (&["www.example.com"], &["www.example.com", "api.example.com"]);
    world.import("api.example.com", Matching::Exact, Scope::Leaf, "a");
    assert_eq!(world.codes(&[names(both)]), refused, "at first use");
    world.accept(&[names(www)]);
    assert_eq!(world.codes(&[names(both)]), refused, "a name that is new in a block");
    assert_eq!(world.codes(&[names(&["www.example.com", "*.example.com"])]), refused);
    // A restart of the accepted configuration.
    world.accept(&[names(both)]);
    assert_eq!(world.codes(&[names(both)]), warned);
    // Clients of the name got this key from the block with the pattern.
    let pattern: &[&str] = &["www.example.com", "*.example.com"];
    world.accept(&[names(pattern)]);
    assert_eq!(world.codes(&[names(pattern)]), warned);
    assert_eq!(world.codes(&[names(both)]), warned);
    // Clients of the name got another key from the block with the pattern.
    let other = || Block { names: &["*.example.com"], certificate: "b", ..BLOCK };
    world.accept(&[names(www), other()]);
    world.import("img.example.com", Matching::Exact, Scope::Leaf, "a");
    let taken = || names(&["www.example.com", "img.example.com"]);
    let codes = world.codes(&[taken(), other()]);
    assert!(codes.contains(&refused[0]), "{codes:?}");
    world.accept(&[taken(), other()]);
    assert!(!world.codes(&[taken(), other()]).contains(&refused[0]));
}

#[test]
fn the_key_of_another_port_is_not_the_key_before() {
    let mut world = World::new(&[("a", "www.example.com"), ("c", "www.example.com")]);
    let names: &[&str] = &["www.example.com"];
    let at = |port, certificate| Block { names, port, certificate, ..BLOCK };
    let warned = [(Code::PublishedPinsUnmet, Class::Warning)];
    let refused = [(Code::PublishedPinsUnmet, LOCKOUT)];
    let body = Body::Published(Published {
        scope: Scope::Leaf,
        port: Some(443),
        ..held("www.example.com", vec![world.pin("a")])
    });
    world.add("apps", body);
    world.accept(&[at(443, "a"), at(8443, "c")]);
    assert_eq!(world.codes(&[at(443, "a"), at(8443, "c")]), []);
    assert_eq!(world.codes(&[at(443, "c"), at(8443, "c")]), refused);
    world.accept(&[at(443, "c"), at(8443, "c")]);
    assert_eq!(world.codes(&[at(443, "c"), at(8443, "c")]), warned);

    // A block on both ports may be unchanged on one port and changed on the other.
    world.import("www.example.com", Matching::Exact, Scope::Leaf, "a");
    world.accept(&[at(443, "a"), at(8443, "c")]);
    let mut deployment = world.deployment(&[at(443, "c"), at(8443, "c")]);
    deployment.listeners[0].hosts = vec![1];
    deployment.listeners[0].default = 1;
    assert!(codes(&check(&deployment, world.now, &Never)).contains(&refused[0]));

    // A name on a new port counts as a new name.
    world.accept(&[at(443, "c")]);
    let port = (Code::PublishedPinsPortNotServed, Class::Warning);
    assert_eq!(world.codes(&[at(9443, "c")]), [refused[0], port]);
}

#[test]
fn a_pattern_counts_for_the_hosts_that_its_certificate_is_for() {
    let mut world = World::new(&[("a", "a.example.com"), ("c", "www.example.com")]);
    let block = || Block { names: &["*.example.com"], certificate: "c", ..BLOCK };
    world.accept(&[block()]);
    // No client of this host accepts the certificate, whichever pins it holds.
    world.import("api.example.com", Matching::Exact, Scope::Leaf, "a");
    assert_eq!(world.codes(&[block()]), []);
    let renewed = Block { names: &["*.example.com"], certificate: "a", ..BLOCK };
    assert_eq!(world.codes(&[renewed]), []);
}

#[derive(Debug)]
struct Below(&'static str);

impl NamePattern for Below {
    fn fits(&self, name: &str) -> bool {
        name.ends_with(self.0)
    }
}

#[test]
fn the_server_matches_its_regular_expressions() {
    let mut world = World::new(&[("a", "a.example.com"), ("b", "*.example.net")]);
    world.import("x.example.net", Matching::Exact, Scope::Leaf, "a");
    let blocks = [
        Block { names: &["a.example.com"], certificate: "a", ..BLOCK },
        Block { names: &["~^.+\\.example\\.net$"], certificate: "b", ..BLOCK },
    ];
    let mut deployment = world.deployment(&blocks);
    assert_eq!(codes(&check(&deployment, world.now, &Never)), []);
    deployment.listeners[0].patterns.push((1, Rc::new(Below(".example.net"))));
    let refused = [(Code::PublishedPinsUnmet, LOCKOUT)];
    assert_eq!(codes(&check(&deployment, world.now, &Never)), refused);
}

#[derive(Debug)]
struct Starting(&'static str);

impl NamePattern for Starting {
    fn fits(&self, name: &str) -> bool {
        name.starts_with(self.0)
    }
}

#[test]
fn a_regular_expression_for_some_hosts_of_a_certificate_is_recorded() {
    let mut world = World::new(&[
        ("first", "first.test"),
        ("api", "*.example.com,DNS:api9.example.com,DNS:www.example.com"),
        ("img", "*.example.com"),
    ]);
    let first = || Block { names: &["_"], certificate: "first", ..BLOCK };
    let block = |names, key, pins| Block { names, certificate: key, pins, ..BLOCK };
    let api = |key, pins| block(&["~^api[0-9]+\\.example\\.com$"], key, pins);
    let img = || block(&["~^img[0-9]+\\.example\\.com$"], "img", &["img", "backup"]);
    let deployment = |world: &World, blocks: &[Block<'_>]| {
        let mut deployment = world.deployment(blocks);
        for (host, start) in [(1, "api"), (2, "img")].into_iter().take(blocks.len() - 1) {
            deployment.listeners[0].patterns.push((host, Rc::new(Starting(start))));
        }
        deployment
    };
    let codes = |world: &World, blocks: &[Block<'_>]| {
        codes(&check(&deployment(world, blocks), world.now, &Never))
    };
    let pins: &[&str] = &["api", "backup"];
    // On one address, no client of one of the two blocks reaches the other.
    assert_eq!(codes(&world, &[first(), api("api", pins), img()]), []);
    let accepted = deployment(&world, &[first(), api("api", pins)]);
    let events = world.accept_deployment(&accepted);
    let exact = ("api9.example.com", Matching::Exact);
    assert_eq!(published(&events), [exact, ("example.com", Matching::OneLabel)]);
    assert_eq!(codes(&world, &[first(), api("api", pins)]), []);
    let refused = [(Code::PublishedPinsUnmet, LOCKOUT)];
    assert_eq!(codes(&world, &[first(), api("img", &[])]), refused);
    // No client accepts the first server, because of its name alone.
    assert_eq!(codes(&world, &[first()]), [(Code::RemovedHostPinsUnmet, Class::Warning)]);
    // On another port, clients that noted the pins may reach the other block.
    let other = Block { names: &["_"], port: 8443, certificate: "img", ..BLOCK };
    let mut elsewhere = world.deployment(&[first(), api("api", pins), other]);
    elsewhere.listeners[0].patterns.push((1, Rc::new(Starting("api"))));
    let found = self::codes(&check(&elsewhere, world.now, &Never));
    assert!(found.contains(&(Code::SameHostPinMismatch, LOCKOUT)), "{found:?}");
}

#[test]
fn a_wildcard_for_some_hosts_of_a_certificate_is_recorded() {
    let world = World::new(&[("first", "first.test"), ("wild", "*.example.com,DNS:*.a.test")]);
    let first = || Block { names: &["first.test"], certificate: "first", ..BLOCK };
    let wild = |names| Block { names, certificate: "wild", pins: &["wild", "backup"], ..BLOCK };
    let some = ("example.com", Matching::OneLabel);
    let exact = |name| (name, Matching::Exact);
    type Case = (Choice, &'static [&'static str], Vec<(&'static str, Matching)>);
    let cases: [Case; 8] = [
        (Choice::Nginx, &["www.*"], vec![exact("www.a.test"), exact("www.example.com")]),
        (Choice::Nginx, &["www.example.*"], vec![exact("www.example.com")]),
        (Choice::Nginx, &["www.b.*"], vec![]),
        (Choice::Nginx, &["*.b.example.com"], vec![]),
        (Choice::Httpd, &["x.org", "www.*"], vec![exact("www.a.test"), exact("www.example.com")]),
        (Choice::Httpd, &["x.org", "api*.example.com"], vec![some]),
        (Choice::Httpd, &["x.org", "API?.e*.com"], vec![some]),
        (Choice::Httpd, &["x.org", "api*.example.org"], vec![]),
    ];
    for (choice, names, mut wanted) in cases {
        let mut deployment = world.deployment(&[first(), wild(names)]);
        deployment.listeners[0].choice = choice;
        let verdict = check(&deployment, world.now, &Never);
        let writer = "web-1".parse().unwrap();
        let events = accepted(&deployment, &verdict, &world.state, &writer, world.now);
        if let [own @ "x.org", ..] = names {
            wanted.push(exact(own));
        }
        let mut published = published(&events);
        published.sort();
        wanted.sort();
        assert_eq!(published, wanted, "{names:?}");
    }
}

#[test]
fn a_pattern_that_another_hides_is_not_asked() {
    let world = World::new(&[("all", "*.example.com"), ("some", "*.example.com")]);
    let all =
        Block { names: &["*.example.com"], certificate: "all", pins: &["all", "backup"], ..BLOCK };
    let some = Block { names: &["api*.example.com", "~^api"], certificate: "some", ..BLOCK };
    let mut deployment = world.deployment(&[all, some]);
    deployment.listeners[0].patterns.push((1, Rc::new(Starting("api"))));
    for choice in [Choice::Nginx, Choice::Httpd] {
        deployment.listeners[0].choice = choice;
        let verdict = check(&deployment, world.now, &Never);
        assert_eq!(codes(&verdict), []);
        assert!(verdict.hosts[1].names.iter().all(|name| name.nameless), "{choice:?}");
    }
}

#[test]
fn blocks_of_the_same_name_and_below_are_compared_with_a_policy() {
    let mut world = World::new(&[("a", "example.com"), ("b", "example.com")]);
    let policy = |include_subdomains| Block {
        names: &["example.com"],
        certificate: "a",
        pins: &["a", "backup"],
        include_subdomains,
        ..BLOCK
    };
    let port = Block { names: &["example.com"], port: 8443, certificate: "b", ..BLOCK };
    assert_eq!(world.codes(&[policy(false), port]), [(Code::SameHostPinMismatch, LOCKOUT)]);
    let below = || Block { names: &["www.example.com"], certificate: "b", ..BLOCK };
    assert_eq!(world.codes(&[policy(false), below()]), []);
    let refused = [(Code::SuperdomainPinsUnmet, LOCKOUT)];
    assert_eq!(world.codes(&[policy(true), below()]), refused);
    // The finding needs no records, because both blocks are in one configuration.
    let mut deployment = world.deployment(&[policy(true), below()]);
    deployment.records = None;
    assert_eq!(codes(&check(&deployment, world.now, &Never)), refused);
    // After the pins have been sent, the block below is refused also without the pinned block.
    world.accept(&[policy(true)]);
    let twice = [refused[0], refused[0]];
    assert_eq!(world.codes(&[policy(true), below()]), twice, "who will note it and who has");
    world.accept(&[below()]);
    assert_eq!(world.codes(&[below()]).len(), 2, "the name given up, and the one below");
}

#[test]
fn a_fleet_publishes_first_and_changes_then() {
    let mut world = World::new(&[("a", "www.example.com"), ("b", "www.example.com")]);
    let names: &[&str] = &["www.example.com"];
    world.writer = Some("web-2");
    world.accept(&[Block { names, certificate: "b", ..BLOCK }]);
    world.writer = Some("web-1");
    let own = Block { names, certificate: "a", pins: &["a", "backup"], ..BLOCK };
    assert_eq!(world.codes(&[own]), [(Code::PeerServerPinMismatch, LOCKOUT)]);
    let both = Block { names, certificate: "a", pins: &["a", "b", "backup"], ..BLOCK };
    assert_eq!(world.codes(&[both]), []);
}

#[test]
fn a_finding_names_each_server_without_the_pin_of_the_new_key() {
    let mut world = World::new(&[("a", "www.example.com"), ("b", "www.example.com")]);
    let names: &[&str] = &["www.example.com"];
    let others_pin = |world: &mut World, pins: &[&str]| {
        world.state = State::default();
        for writer in ["web-2", "web-3"] {
            world.writer = Some(writer);
            world.accept(&[Block { names, certificate: "b", pins, ..BLOCK }]);
        }
        world.writer = Some("web-1");
    };
    others_pin(&mut world, &["b", "backup"]);
    let new = || Block { names, certificate: "a", pins: &["a", "backup"], ..BLOCK };
    let lines = |world: &World| {
        let findings = world.check(&[new()]).findings;
        let lines: Vec<String> = findings.iter().flat_map(|one| one.lines()).collect();
        lines.join("\n")
    };
    let publish = format!("for a new key: publish its pin (sha256/{}) now on", world.pin("a"));
    let text = lines(&world);
    let part = format!("{publish} web-2, web-3 too; the certificate may change 2 days after that");
    assert!(text.contains(&part), "{part}\n{text}");
    // Pins that were published until today with a longer max-age count too.
    let long = world.header("www.example.com", "b", 60 * DAY as u64);
    world.add("web-1", Body::Ended(Ended { ids: vec![long.id()], why: Why::Replaced, when: None }));
    let day = date::format(world.now + 61 * DAY);
    let text = lines(&world);
    let part = format!("{publish} web-2, web-3 too; the certificate may change on {day}");
    assert!(text.contains(&part), "{part}\n{text}");
    // The finding also names each server that presents a key which the policy here does not pin.
    others_pin(&mut world, &["a", "b", "backup"]);
    let text = lines(&world);
    for part in [
        "web-2, web-3 present keys for www.example.com that policy",
        "only if web-2 is gone for good: hpkp published -d /var/lib/hpkp end --writer web-2 --why",
        "only if web-3 is gone for good: hpkp published -d /var/lib/hpkp end --writer web-3 --why",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn a_stopped_server_still_counts() {
    let mut world = World::new(&[("a", "www.example.com"), ("c", "www.example.com")]);
    let names: &[&str] = &["www.example.com"];
    let bare = |certificate| Block { names, certificate, ..BLOCK };
    world.writer = Some("web-2");
    let presents = world.accept(&[bare("c")])[0].id();
    let writer = "web-2".parse().expect("a name");
    for event in stopped(&world.state, &writer, world.now) {
        world.state.add(&event);
    }
    world.writer = Some("web-1");
    world.accept(&[bare("a")]);
    let new = || Block { names, certificate: "a", pins: &["a", "backup"], ..BLOCK };
    let verdict = world.check(&[new()]);
    assert_eq!(codes(&verdict), [(Code::PeerServerPinMismatch, LOCKOUT)]);
    let lines: Vec<String> = verdict.findings[0].lines().collect();
    let text = lines.join("\n");
    let command = "hpkp published -d /var/lib/hpkp end --writer web-2 --why REASON";
    for part in ["may start again", &presents.to_string(), command] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    // The server comes back with another key, or was ended before its stop.
    let before = world.state.clone();
    world.writer = Some("web-2");
    world.accept(&[bare("a")]);
    world.writer = Some("web-1");
    assert_eq!(world.codes(&[new()]), []);
    world.state = before;
    let gone =
        Ended { ids: vec![presents], why: Why::Other("sold".into()), when: Some(world.now - DAY) };
    world.add("ops", Body::Ended(gone));
    assert_eq!(world.codes(&[new()]), []);
}

#[test]
fn many_hosts_share_one_finding() {
    let mut world = World::new(&[("old", "www.example.com"), ("new", "www.example.com")]);
    let names: Vec<String> = (0..50).map(|number| format!("h{number}.example.com")).collect();
    let names: Vec<[&str; 1]> = names.iter().map(|name| [name.as_str()]).collect();
    let blocks = |certificate, pins| -> Vec<Block<'_>> {
        names.iter().map(|name| Block { names: name, certificate, pins, ..BLOCK }).collect()
    };
    world.accept(&blocks("old", &["old", "backup"]));
    let verdict = world.check(&blocks("new", &["new", "backup"]));
    let [finding] = &verdict.findings[..] else { panic!("{:#?}", verdict.findings) };
    assert_eq!((finding.code, finding.host_count), (Code::PublishedPinsUnmet, 50));
    assert_eq!(finding.hosts.len(), 3);
}

#[test]
fn an_unchanged_certificate_is_not_refused_when_the_roots_change() {
    let mut world = World::new(&[("a", "www.example.com"), ("b", "www.example.com")]);
    world.pki.ca("other");
    let names: &[&str] = &["www.example.com"];
    let block = |names, certificate, pins| Block { names, certificate, pins, ..BLOCK };
    let root: &[&str] = &["ca", "backup"];
    let elsewhere = |world: &World, block| {
        let anchor = Anchor { certificate: world.certificate("other"), origin: "store".into() };
        let trust = Trust { system: Arc::new(Anchors::new([anchor])), added: None };
        let mut deployment = world.deployment(&[block]);
        deployment.contexts[0].trust = Arc::new(TrustSetting { trust, ..TrustSetting::default() });
        let verdict = check(&deployment, world.now, &Never);
        (deployment, verdict)
    };
    let grave = |world: &World, block| {
        let all = codes(&elsewhere(world, block).1);
        all.contains(&(Code::NoPinInChain, LOCKOUT))
    };
    assert!(grave(&world, block(names, "a", root)), "at first use");
    world.accept(&[block(names, "a", root)]);

    // The same configuration passes, and again after it was accepted.
    for _ in 0..2 {
        let (deployment, verdict) = elsewhere(&world, block(names, "a", root));
        let warned = [Code::NoPinInChain, Code::PublishedPinsUnmet].map(|c| (c, Class::Warning));
        assert_eq!(codes(&verdict), warned);
        assert!(verdict.findings[0].text.fix[0].contains("roots have changed"));
        let sending = verdict.hosts[0].enforced.as_ref().expect("a policy");
        assert!(sending.contexts.is_empty(), "nothing is sent where it is not met");
        let writer = "web-1".parse().expect("a name");
        let events = accepted(&deployment, &verdict, &world.state, &writer, world.now);
        assert_eq!(published(&events), []);
        events.iter().for_each(|event| world.state.add(event));
    }
    // Every change is refused.
    assert!(grave(&world, block(names, "b", root)));
    assert!(grave(&world, block(names, "a", &["ca", "b"])));
    assert!(grave(&world, block(&["www.example.com", "api.example.com"], "a", root)));
    // A policy that was accepted without its header has not been published.
    world.accept(&[block(names, "a", &["b", "backup"])]);
    assert!(grave(&world, block(names, "a", &["b", "backup"])));
}

#[test]
fn a_waived_record_refuses_nothing_and_is_reported() {
    let mut world = World::new(&[("a", "www.example.com"), ("b", "www.example.com")]);
    let import = world.import("www.example.com", Matching::Exact, Scope::Chain, "a");
    let ids = vec![import.id()];
    world.add("ops", Body::Waived(Waived { ids, who: "ops".into(), why: "no users".into() }));
    let block = Block { names: &["www.example.com"], certificate: "b", ..BLOCK };
    assert_eq!(world.codes(&[block]), [(Code::Waived, Class::Warning)]);
}

/// Clients that visit after the waiver note the same pins, and nothing protects them. A test says so while that is so.
#[test]
fn waived_pins_that_are_still_sent_are_reported() {
    let mut world = World::new(&[("a", "www.example.com"), ("b", "www.example.com")]);
    let names: &[&str] = &["www.example.com"];
    let block = |certificate, pins| Block { names, certificate, pins, ..BLOCK };
    let events = world.accept(&[block("a", &["a", "backup"])]);
    let is_published = |event: &&Event| matches!(event.body(), Body::Published(_));
    let ids = events.iter().filter(is_published).map(Event::id).collect();
    assert!(world.codes(&[block("a", &["a", "backup"])]).is_empty());
    world.add("ops", Body::Waived(Waived { ids, who: "ops".into(), why: "no users".into() }));
    let waived = [(Code::Waived, Class::Warning)];
    assert_eq!(world.codes(&[block("a", &["a", "backup"])]), waived);
    assert_eq!(world.codes(&[block("b", &["b", "backup"])]), waived);

    // Other pins are recorded anew and protect whoever notes them.
    world.accept(&[block("a", &["a", "b", "backup"])]);
    assert!(world.codes(&[block("a", &["a", "b", "backup"])]).is_empty());
    world.accept(&[block("a", &["a", "backup"])]);
    assert!(world.codes(&[block("a", &["a", "backup"])]).is_empty());
    let codes = world.codes(&[block("b", &["b", "backup"])]);
    assert!(codes.contains(&(Code::PublishedPinsUnmet, LOCKOUT)), "{codes:?}");
}

#[test]
fn a_clock_set_back_ends_nothing_early() {
    let mut world = World::new(&[("a", "www.example.com"), ("b", "www.example.com")]);
    let names: &[&str] = &["www.example.com"];
    let a = || Block { names, certificate: "a", pins: &["a", "backup"], ..BLOCK };
    world.accept(&[a()]);
    let right = world.now;
    world.now -= 10 * DAY;
    assert_eq!(world.codes(&[a()]), [(Code::ClockBehindRecords, Class::Warning)]);
    let bare = Block { names, certificate: "a", ..BLOCK };
    let events = world.accept(&[bare]);
    // By the clock the pins ended 10 days ago, before they were published; they may have ended just now.
    assert!(events.iter().all(|event| event.at() == world.now));
    world.now = right + 2 * DAY - 1;
    let b = || Block { names, certificate: "b", ..BLOCK };
    assert_eq!(world.codes(&[b()]), [(Code::PublishedPinsUnmet, LOCKOUT)]);
}

#[test]
fn records_that_cannot_be_read_leave_every_host_unsure() {
    let world = World::new(&[("a", "www.example.com")]);
    let block =
        || Block { names: &["www.example.com"], certificate: "a", pins: &["a", "backup"], ..BLOCK };
    let mut deployment = world.deployment(&[block(), block()]);
    let problem = (Code::RecordsUnreadable, Text::new("the volume is missing"), at());
    deployment.records.as_mut().unwrap().problems.push(problem);
    let verdict = check(&deployment, world.now, &Never);
    assert_eq!(codes(&verdict), [(Code::RecordsUnreadable, Class::Unsure)]);
    assert!(verdict.hosts[0].enforced.as_ref().unwrap().header.is_none());
}

#[test]
fn a_header_without_a_writer_is_reported_as_not_recorded() {
    let mut world = World::new(&[("a", "www.example.com")]);
    world.writer = None;
    let names: &[&str] = &["www.example.com"];
    let block = Block { names, certificate: "a", pins: &["a", "backup"], ..BLOCK };
    assert_eq!(world.codes(&[block]), [(Code::PublishedPinsNoWriter, Class::Warning)]);
    assert_eq!(world.codes(&[Block { names, certificate: "a", ..BLOCK }]), []);
}

#[test]
fn no_header_is_sent_without_its_record() {
    let mut world = World::new(&[("a", "a.example.com"), ("b", "b.example.com")]);
    let block = |name, certificate, pins| Block { names: name, certificate, pins, ..BLOCK };
    let a = || block(&["a.example.com"], "a", &["a", "backup"]);
    world.accept(&[a()]);
    let blocks = [a(), block(&["b.example.com"], "b", &["b", "backup"])];
    let deployment = world.deployment(&blocks);
    let mut verdict = check(&deployment, world.now, &Never);
    let writer = "web-1".parse().unwrap();
    let finding = verdict
        .withhold_unrecorded(&deployment, &world.state, &writer, "the disk is full")
        .expect("a finding");
    assert_eq!((finding.code, finding.class), (Code::PublishedPinsWriteFailed, Class::Withhold));
    assert_eq!(finding.hosts, ["b.example.com"]);
    let sends = |host: usize| verdict.hosts[host].enforced.as_ref().unwrap().header.is_some();
    assert_eq!((sends(0), sends(1)), (true, false));
}

#[test]
fn an_unknown_certificate_is_reported_where_pins_are_held() {
    let mut world = World::new(&[("a", "www.example.com")]);
    let block = || Block { names: &["www.example.com"], certificate: "a", ..BLOCK };
    let unknown = |world: &World| {
        let mut deployment = world.deployment(&[block()]);
        deployment.contexts[0].certificates =
            Certificates::NotKnown { why: "it has a variable".into(), remedy: "name the file" };
        codes(&check(&deployment, world.now, &Never))
    };
    assert_eq!(unknown(&world), []);
    world.import("www.example.com", Matching::Exact, Scope::Chain, "a");
    assert_eq!(unknown(&world), [(Code::CertificateNotKnownAtLoad, Class::Withhold)]);
}

#[test]
fn one_command_covers_all_hosts_of_a_finding() {
    let hosts: Vec<String> =
        (0..40).map(|number| format!("h{number}.department.example.com")).collect();
    for does_expire in [true, false] {
        let mut world = World::new(&[("a", "h0.example.com"), ("b", "h0.example.com")]);
        for host in &hosts {
            let lifetime = match does_expire {
                true => Lifetime::ExpiresAt(world.now + 30 * DAY),
                false => Lifetime::Open,
            };
            let pins = vec![world.pin("a")];
            world.add("apps", Body::Published(Published { lifetime, ..held(host, pins) }));
        }
        let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let blocks = names.chunks(3).map(|names| Block { names, certificate: "b", ..BLOCK });
        let verdict = world.check(&blocks.collect::<Vec<_>>());
        assert_eq!(codes(&verdict), [(Code::PublishedPinsUnmet, LOCKOUT)]);
        let mut commands: Vec<String> =
            verdict.findings[0].lines().filter(|line| line.contains("hpkp published -d")).collect();
        let waive = commands.pop().expect("a command");
        for host in &hosts {
            assert!(waive.contains(&format!(" --host {host} ")), "{waive}");
        }
        assert!(waive.ends_with(" --who NAME --why REASON"), "{waive}");
        // A host may have pins of app releases that are still in use, so no command ends all pins at once.
        match &commands[..] {
            [] => assert!(does_expire),
            [list] => assert!(!does_expire && list.ends_with(" list"), "{list}"),
            _ => panic!("{commands:?}"),
        }
    }
}
