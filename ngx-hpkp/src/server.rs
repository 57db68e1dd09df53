//! The server blocks, what each address says of them, and which of them clients see.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use hpkp_core::check::{Choice, Listener, NamePattern, PolicyUse};
use hpkp_core::finding::Check;
use hpkp_core::path::CertificateFile;
use hpkp_server::file::directory_of_keys;
use hpkp_server::openssl::{NameAddress, SslCtx};
use hpkp_server::public_port::PublicPorts;
use nginx_sys::{
    ngx_array_t, ngx_cycle_t, ngx_http_conf_addr_t, ngx_http_conf_port_t,
    ngx_http_core_main_conf_t, ngx_http_core_module, ngx_http_core_srv_conf_t,
    ngx_http_server_name_t, ngx_http_ssl_module, ngx_http_ssl_srv_conf_t, ngx_listening_t,
    ngx_str_t,
};

use crate::conf::{MainConf, ServerConf, ServerKey};
use crate::ngx::{self, own_module};

/// All server blocks and what each address says of them.
pub(crate) struct Servers {
    pub(crate) all: Vec<Server>,
    /// The addresses on TLS, by the ports by which clients reach them.
    pub(crate) listeners: Vec<Listener>,
    /// The numbers and texts of these addresses.
    pub(crate) listening: Vec<(u16, String)>,
}

pub(crate) struct Server {
    pub(crate) conf: *mut ServerConf,
    pub(crate) names: Vec<String>,
    /// The names by which nginx finds it, that of requests without a host (empty) included.
    claims: Vec<String>,
    patterns: Vec<Rc<dyn NamePattern>>,
    addresses: Vec<String>,
    pub(crate) label: String,
    pub(crate) tls: bool,
    pub(crate) check: Check,
    /// Its own context, if it has certificates.
    pub(crate) own: Option<OwnContext>,
    /// The servers (by position) whose contexts its clients may see: itself, or the default
    /// servers of its addresses where it has no certificate.
    pub(crate) presents: Vec<usize>,
}

#[derive(Clone, Copy)]
pub(crate) struct OwnContext {
    pub(crate) context: *mut SslCtx,
    /// Whether the certificates have variables in their names.
    pub(crate) variables: bool,
    /// Whether the server refuses all handshakes, so that the certificates are never sent.
    pub(crate) rejects: bool,
    /// The names of the files with the certificates and with their keys; both may be null.
    pub(crate) files: [*const ngx_array_t; 2],
}

impl OwnContext {
    /// The files of the certificates, each by the address of the name that nginx attaches to the
    /// certificate.
    ///
    /// # Safety
    /// The context belongs to a configuration that has been read.
    pub(crate) unsafe fn named_files(&self) -> Vec<(NameAddress, Arc<CertificateFile>)> {
        if self.variables {
            return Vec::new();
        }
        // SAFETY: by the caller's promise; both are arrays of strings, or null.
        let [certificates, keys] = self.files.map(|array| unsafe {
            if array.is_null() { &[] } else { ngx::elements::<ngx_str_t>(array) }
        });
        let named = certificates.iter().enumerate().map(|(index, name)| {
            let path = ngx::text(name);
            let key = keys.get(index).map_or_else(|| path.clone(), ngx::text);
            let keys = directory_of_keys(&key).or_else(|| directory_of_keys(&path));
            (NameAddress(name.data.addr()), Arc::new(CertificateFile { path, keys }))
        });
        named.collect()
    }
}

impl Servers {
    /// # Safety
    /// `cycle` is the cycle whose configuration has just been read.
    pub(crate) unsafe fn of(cycle: *mut ngx_cycle_t, public_ports: &PublicPorts) -> Option<Self> {
        // SAFETY: by the caller's promise; an array of servers holds pointers to them.
        unsafe {
            let core = &raw const ngx_http_core_module;
            let http: *mut ngx_http_core_main_conf_t = ngx::http_main_conf(cycle, core);
            let http = http.as_ref()?;
            let blocks: &[*mut ngx_http_core_srv_conf_t] = ngx::elements(&raw const http.servers);
            let positions: HashMap<*mut ngx_http_core_srv_conf_t, usize> =
                blocks.iter().enumerate().map(|(position, block)| (*block, position)).collect();
            let all = blocks.iter().map(|b| Server::of(*b)).collect();
            let mut servers = Self { all, listeners: Vec::new(), listening: Vec::new() };
            for port in ngx::elements::<ngx_http_conf_port_t>(http.ports) {
                for address in ngx::elements(&raw const port.addrs) {
                    servers.add_address(port.port, address, &positions, public_ports);
                }
            }
            Some(servers)
        }
    }

    /// # Safety
    /// `address` is one of the configuration just read.
    unsafe fn add_address(
        &mut self,
        port: u16,
        address: &ngx_http_conf_addr_t,
        positions: &HashMap<*mut ngx_http_core_srv_conf_t, usize>,
        public_ports: &PublicPorts,
    ) {
        let Some(&default) = positions.get(&address.default_server) else { return };
        // SAFETY: by the caller's promise; the array holds pointers to server blocks.
        let blocks: &[*mut ngx_http_core_srv_conf_t] =
            unsafe { ngx::elements(&raw const address.servers) };
        // SAFETY: the default server is one of the blocks.
        let tls = unsafe { is_tls(address) };
        let hosts: Vec<usize> =
            blocks.iter().filter_map(|block| positions.get(block)).copied().collect();
        if tls {
            let mut patterns = Vec::new();
            for host in &hosts {
                let own = self.all[*host].patterns.iter();
                patterns.extend(own.map(|pattern| (*host, pattern.clone())));
            }
            let text = ngx::text(&address.opt.addr_text);
            for port in public_ports.of(port, &text) {
                self.listeners.push(Listener {
                    port,
                    address: Some(where_listened(address, &text)),
                    choice: Choice::Nginx,
                    hosts: hosts.clone(),
                    default,
                    patterns: patterns.clone(),
                    by_port_alone: false,
                });
            }
            self.listening.push((port, text));
        }
        let mut claimed = HashSet::new();
        for position in hosts {
            // nginx asks the first block of a name; one whose names all have others is never asked,
            // unless it is the default.
            let names = &self.all[position].claims;
            let is_asked = names.iter().filter(|name| claimed.insert((*name).clone())).count() > 0
                || position == default;
            let server = &mut self.all[position];
            server.addresses.push(ngx::text(&address.opt.addr_text));
            if server.label.is_empty() {
                server.label.clone_from(&server.addresses[0]);
            }
            if !tls {
                continue;
            }
            server.tls = true;
            if !is_asked {
                continue;
            }
            let chosen = if server.own.is_some() { position } else { default };
            if !server.presents.contains(&chosen) {
                server.presents.push(chosen);
            }
        }
    }

    /// Where `cycle` is going to listen, as far as that has been read. A Unix socket can be listened
    /// at only once.
    ///
    /// # Safety
    /// `cycle` is the cycle whose configuration has just been read.
    pub(crate) unsafe fn addresses(&self, cycle: *const ngx_cycle_t) -> Vec<SocketAddr> {
        let own = self.all.iter().flat_map(|server| &server.addresses).cloned();
        // What stands before the http block. SAFETY: by the caller's promise.
        let others: &[ngx_listening_t] = unsafe { ngx::elements(&raw const (*cycle).listening) };
        own.chain(others.iter().map(|other| ngx::text(&other.addr_text)))
            .filter_map(|text| text.parse().ok())
            .collect()
    }

    pub(crate) fn any_policy(&self) -> bool {
        self.all.iter().any(Server::uses_policy)
    }
}

/// An address as records have it. HTTP/3 has the same ones as TCP, and other clients.
fn where_listened(address: &ngx_http_conf_addr_t, text: &str) -> String {
    #[cfg(ngx_quic)]
    if address.opt.quic() != 0 {
        return format!("{text}/udp");
    }
    let _ = address;
    text.to_owned()
}

/// # Safety
/// `address` is one of the configuration just read.
unsafe fn is_tls(address: &ngx_http_conf_addr_t) -> bool {
    #[cfg(ngx_quic)]
    if address.opt.quic() != 0 {
        return true;
    }
    #[cfg(ngx_ssl_on)]
    {
        // SAFETY: by the caller's promise; a server block has a configuration of every module.
        let ssl: *const ngx_http_ssl_srv_conf_t = unsafe {
            let module = &raw const ngx_http_ssl_module;
            ngx::http_server_conf((*address.default_server).ctx, module)
        };
        // SAFETY: as above.
        if unsafe { (*ssl).enable } == 1 {
            return true;
        }
    }
    address.opt.ssl() != 0
}

impl Server {
    /// # Safety
    /// `block` is a server block of the configuration just read.
    pub(crate) unsafe fn of(block: *mut ngx_http_core_srv_conf_t) -> Self {
        // SAFETY: by the caller's promise; a server block has a configuration of every module.
        unsafe {
            let conf: *mut ServerConf = ngx::http_server_conf((*block).ctx, own_module());
            let ssl: *const ngx_http_ssl_srv_conf_t =
                ngx::http_server_conf((*block).ctx, &raw const ngx_http_ssl_module);
            let context: *mut SslCtx = (*ssl).ssl.ctx.cast();
            let own = (!context.is_null()).then(|| OwnContext {
                context,
                variables: !(*ssl).certificate_values.is_null(),
                rejects: (*ssl).reject_handshake == 1,
                files: [(*ssl).certificates, (*ssl).certificate_keys],
            });
            let server_names = ngx::elements(&raw const (*block).server_names);
            let claims = names(server_names);
            let names: Vec<String> =
                claims.iter().filter(|name| !name.is_empty()).cloned().collect();
            Self {
                conf,
                label: names.first().cloned().unwrap_or_default(),
                names,
                claims,
                patterns: patterns(server_names),
                addresses: Vec::new(),
                tls: false,
                check: (*conf).check.unwrap_or_default(),
                own,
                presents: Vec::new(),
            }
        }
    }

    pub(crate) fn conf(&self) -> &ServerConf {
        // SAFETY: `of` took it from nginx, and nothing changes it while servers are looked at.
        unsafe { &*self.conf }
    }

    /// Whether it has a context whose certificates are those that have been loaded, as far as its
    /// directives say.
    pub(crate) fn is_loaded(&self) -> bool {
        let own = self.own.filter(|own| !own.variables && !own.rejects);
        own.is_some() && self.conf().chosen_by.is_none()
    }

    pub(crate) fn key(&self) -> ServerKey {
        // nginx sorts its lists of addresses when it has read `http` to the end.
        let mut addresses = self.addresses.clone();
        addresses.sort();
        ServerKey { names: self.names.clone(), addresses }
    }

    pub(crate) fn policies(&self) -> [Option<&PolicyUse>; 2] {
        let conf = self.conf();
        [conf.enforced.policy(), conf.report_only.policy()]
    }

    pub(crate) fn uses_policy(&self) -> bool {
        self.policies().iter().any(Option::is_some)
    }

    /// Whether there is something that its certificates are compared with.
    pub(crate) fn is_checked(&self, main: &MainConf) -> bool {
        self.uses_policy() || !main.published.is_empty()
    }
}

/// A name of a server that is a regular expression.
#[cfg(ngx_pcre)]
#[derive(Debug)]
pub(crate) struct Regex(pub(crate) *mut nginx_sys::ngx_regex_t);

#[cfg(ngx_pcre)]
impl NamePattern for Regex {
    fn fits(&self, name: &str) -> bool {
        let mut name = ngx::string(name);
        let mut captures = [0; 3];
        // SAFETY: the expression lives as long as the configuration being checked. nginx only reads
        // the name, and has room for one match.
        unsafe {
            let (captures, size) = (captures.as_mut_ptr(), captures.len());
            nginx_sys::ngx_regex_exec(self.0, &raw mut name, captures, size) >= 0
        }
    }
}

/// The regular expressions among the names of a server.
#[cfg(ngx_pcre)]
fn patterns(names: &[ngx_http_server_name_t]) -> Vec<Rc<dyn NamePattern>> {
    // SAFETY: a name has no expression or a live one.
    let expressions = names.iter().filter_map(|name| unsafe { name.regex.as_ref() });
    expressions.map(|regex| Rc::new(Regex(regex.regex)) as Rc<dyn NamePattern>).collect()
}

/// An nginx without PCRE refuses such names.
#[cfg(not(ngx_pcre))]
fn patterns(_: &[ngx_http_server_name_t]) -> Vec<Rc<dyn NamePattern>> {
    Vec::new()
}

fn names(names: &[ngx_http_server_name_t]) -> Vec<String> {
    names
        .iter()
        .map(|name| {
            #[cfg(ngx_pcre)]
            let is_regex = !name.regex.is_null();
            #[cfg(not(ngx_pcre))]
            let is_regex = false;
            format!("{}{}", if is_regex { "~" } else { "" }, ngx::text(&name.name))
        })
        .collect()
}
