//! The main server and the virtual hosts, and which of them clients get to see.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::c_char;
use std::ptr::{self, NonNull};

use hpkp_core::check::{Choice, Listener, PolicyUse};
use hpkp_core::finding::Check;

use crate::bindings::{apr_sockaddr_ip_getbuf, server_addr_rec, server_rec};
use crate::conf;
use crate::conf::ServerConf;
use crate::cstr;
use crate::httpd;

/// A server.
pub(crate) struct Server {
    pub(crate) record: *mut server_rec,
    pub(crate) conf: NonNull<ServerConf>,
    /// How it is called in messages.
    pub(crate) label: String,
    pub(crate) names: Vec<String>,
    /// The names behind `ServerAlias` that have wildcards are among `names` too.
    patterns: Vec<String>,
    addresses: Vec<Address>,
    pub(crate) check: Check,
    /// Whether any client is ever led to it: all its names may be those of servers before it.
    pub(crate) is_asked: bool,
}

/// An address and port of `<VirtualHost>`; httpd looks among those that have both alike.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Address {
    ip: String,
    /// 0 for all ports.
    port: u16,
}

impl Address {
    /// Whether it stands for all addresses.
    fn is_any(&self) -> bool {
        matches!(self.ip.as_str(), "0.0.0.0" | "::" | "255.255.255.255")
    }

    /// How it is written with a port.
    fn on(&self, port: u16) -> String {
        match self.ip.as_str() {
            _ if self.is_any() => format!("*:{port}"),
            ip if ip.contains(':') => format!("[{ip}]:{port}"),
            ip => format!("{ip}:{port}"),
        }
    }
}

impl Server {
    /// All servers of a configuration, in its order, the main one first.
    ///
    /// # Safety
    /// `main` is the main server of the configuration, which does not change meanwhile.
    pub(crate) unsafe fn all(main: *mut server_rec) -> Vec<Self> {
        // SAFETY: by the caller's promise.
        let mut all: Vec<Self> =
            unsafe { httpd::servers(main).filter_map(|record| Self::of(record)).collect() };
        // httpd has the virtual hosts in reverse, and asks them in the order of the configuration.
        if let Some(hosts) = all.get_mut(1..) {
            hosts.reverse();
        }
        mark_asked(&mut all);
        all
    }

    /// None where httpd does not have the module.
    ///
    /// # Safety
    /// `record` is a live server, whose configuration has been read.
    unsafe fn of(record: *mut server_rec) -> Option<Self> {
        // SAFETY: by the caller's promise; arrays of names hold strings, addresses are linked.
        unsafe {
            let server = &*record;
            let first = cstr::text(server.server_hostname);
            let texts = |array| -> Vec<String> {
                let names: &[*const c_char] = httpd::elements(array);
                names.iter().map(|name| cstr::text(*name)).collect()
            };
            let patterns = texts(server.wild_names);
            let mut names: Vec<String> = Vec::new();
            for name in [first].into_iter().chain(texts(server.names)).chain(patterns.clone()) {
                if !name.is_empty() && !names.contains(&name) {
                    names.push(name);
                }
            }
            let addresses = addresses(server.addrs);
            let label = names.first().cloned().unwrap_or_else(|| {
                addresses.first().map_or_else(
                    || "main server".to_owned(),
                    |address| format!("{}:{}", address.ip, address.port),
                )
            });
            let conf = conf::server_conf(record)?;
            let check = conf.as_ref().check.unwrap_or_default();
            Some(Self { record, conf, label, names, patterns, addresses, check, is_asked: true })
        }
    }

    pub(crate) fn conf(&self) -> &ServerConf {
        // SAFETY: `of` took it from httpd, and nothing changes it while servers are looked at.
        unsafe { self.conf.as_ref() }
    }

    /// The policies in use, the enforced one first.
    pub(crate) fn policies(&self) -> [Option<&PolicyUse>; 2] {
        let conf = self.conf();
        [conf.enforced.policy(), conf.report_only.policy()]
    }

    pub(crate) fn uses_policy(&self) -> bool {
        self.policies().iter().any(Option::is_some)
    }

    /// Whether `name` leads to this server.
    pub(crate) fn answers_to(&self, name: &str) -> bool {
        self.names.iter().any(|own| own.eq_ignore_ascii_case(name))
            || self.patterns.iter().any(|pattern| matches(pattern, name))
    }
}

/// # Safety
/// `address` is null or the first of a live list.
unsafe fn addresses(mut address: *const server_addr_rec) -> Vec<Address> {
    let mut all = Vec::new();
    // SAFETY: by the caller's promise; an address has its socket address, and the buffer its size.
    unsafe {
        while let Some(record) = address.as_ref() {
            let mut buffer: [c_char; 64] = [0; 64];
            let size = buffer.len() as _;
            let done = apr_sockaddr_ip_getbuf(buffer.as_mut_ptr(), size, record.host_addr);
            if done == 0 {
                all.push(Address { ip: cstr::text(buffer.as_ptr()), port: record.host_port });
            }
            address = record.next;
        }
    }
    all
}

/// On each address httpd asks the first server of a name, and the first of all for any other name.
/// A server that is neither anywhere is never asked.
fn mark_asked(all: &mut [Server]) {
    let mut on_address: HashMap<Address, Vec<usize>> = HashMap::new();
    for (position, server) in all.iter().enumerate() {
        for address in &server.addresses {
            on_address.entry(address.clone()).or_default().push(position);
        }
    }
    let mut asked = vec![false; all.len()];
    for positions in on_address.values() {
        // By name, the first that has it: a table, or many hosts on one address would take long.
        let mut taken: HashMap<String, usize> = HashMap::new();
        let with_patterns: Vec<usize> =
            positions.iter().copied().filter(|p| !all[*p].patterns.is_empty()).collect();
        for (order, &position) in positions.iter().enumerate() {
            let server = &all[position];
            let is_taken = |name: &String| {
                taken.contains_key(&name.to_ascii_lowercase())
                    || with_patterns
                        .iter()
                        .take_while(|p| **p != position)
                        .any(|p| all[*p].answers_to(name))
            };
            if order == 0 || !server.names.iter().all(is_taken) {
                asked[position] = true;
            }
            for name in &server.names {
                taken.entry(name.to_ascii_lowercase()).or_insert(position);
            }
        }
    }
    for (server, asked) in all.iter_mut().zip(asked) {
        // The main server has no addresses: it is asked wherever no virtual host is.
        server.is_asked = asked || server.addresses.is_empty();
    }
}

/// The addresses on TLS, each with the servers among which httpd looks there. The first one's
/// settings decide whether an address is on TLS.
pub(crate) fn listeners(servers: &[Server], is_tls: &[bool]) -> Vec<Listener> {
    let mut on_address: BTreeMap<&Address, Vec<usize>> = BTreeMap::new();
    for (position, server) in servers.iter().enumerate() {
        for address in &server.addresses {
            on_address.entry(address).or_default().push(position);
        }
    }
    let ports = listening_ports();
    let mut listeners = Vec::new();
    let mut add = |address: &Address, port: u16, positions: &[usize]| {
        let Some(&default) = positions.first().filter(|first| is_tls[**first]) else { return };
        // A server without TLS presents the certificate of the first one.
        let hosts = positions.iter().copied().filter(|position| is_tls[*position]).collect();
        let choice = Choice::Httpd;
        listeners.push(Listener {
            port,
            address: Some(address.on(port)),
            choice,
            hosts,
            default,
            patterns: Vec::new(),
            by_port_alone: false,
        });
    };
    for (address, positions) in &on_address {
        match address.port {
            // On all ports that have no virtual hosts of their own.
            0 => ports
                .iter()
                .filter(|port| !on_address.keys().any(|other| other.port == **port))
                .for_each(|port| add(address, *port, positions)),
            port => add(address, port, positions),
        }
    }
    // The main server answers where no virtual host does.
    let is_covered = |port: &u16| {
        let covers =
            |address: &&Address| address.is_any() && (address.port == 0 || address.port == *port);
        on_address.keys().any(covers)
    };
    let any = Address { ip: "0.0.0.0".to_owned(), port: 0 };
    ports.iter().filter(|port| !is_covered(port)).for_each(|port| add(&any, *port, &[0]));
    listeners
}

/// The ports of all `Listen` directives.
fn listening_ports() -> BTreeSet<u16> {
    let mut ports = BTreeSet::new();
    // SAFETY: httpd's listeners are there once the configuration has been read, linked.
    unsafe {
        let mut listener = crate::bindings::ap_listeners.cast_const();
        while let Some(listening) = listener.as_ref() {
            ports.insert((*listening.bind_addr).port);
            listener = listening.next;
        }
    }
    ports
}

/// Whether `name` is like `pattern`, in which `*` stands for any octets and `?` for one.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Where the last star stands, and how far the name has been given to it.
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(octet) if *octet == b'?' || octet.eq_ignore_ascii_case(&name[n]) => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, given)) = star else { return false };
                star = Some((at, given + 1));
                p = at + 1;
                n = given + 1;
            }
        }
    }
    pattern[p..].iter().all(|octet| *octet == b'*')
}

impl Server {
    /// Whether a `Listen` directive makes its protocol `https` where the server says nothing.
    pub(crate) fn listens_on_https(&self) -> bool {
        // SAFETY: httpd's listeners are there once the configuration has been read, linked; the
        // protocol of one is null or a string. Comparing addresses changes nothing.
        unsafe {
            if !(*self.record).protocol().is_null() {
                return cstr::text((*self.record).protocol()) == "https";
            }
            let mut address = (*self.record).addrs.cast_const();
            while let Some(own) = address.as_ref() {
                let mut listener = crate::bindings::ap_listeners.cast_const();
                while let Some(listening) = listener.as_ref() {
                    let bound = listening.bind_addr;
                    if (*bound).port == own.host_port
                        && crate::bindings::apr_sockaddr_equal(bound, own.host_addr) != 0
                    {
                        return cstr::text(listening.protocol) == "https";
                    }
                    listener = listening.next;
                }
                address = own.next;
            }
        }
        false
    }
}

impl server_rec {
    /// What `Protocol` says, or null: httpd has it among the core's own settings, and fills it in
    /// from the listeners after the test.
    fn protocol(&self) -> *const c_char {
        // SAFETY: the function only reads the settings of a live server.
        unsafe { crate::bindings::ap_get_server_protocol(ptr::from_ref(self).cast_mut()) }
    }
}
