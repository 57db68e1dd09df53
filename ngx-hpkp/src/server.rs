//! The server blocks of `http`, as nginx has read them.

use std::collections::HashMap;
use std::ffi::CStr;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use hpkp_core::check::NamePattern;
use hpkp_core::finding::Location;
use hpkp_core::path::CertificateFile;
use hpkp_server::file::directory_of_keys;
use hpkp_server::nginx::{self, Address, GuardUse, Own};
use hpkp_server::openssl::{NameAddress, SslCtx};
use hpkp_server::public_port::PublicPorts;
use hpkp_server::sending::ContextAddress;
use nginx_sys::{
    ngx_array_t, ngx_cycle_t, ngx_http_conf_addr_t, ngx_http_conf_port_t,
    ngx_http_core_main_conf_t, ngx_http_core_module, ngx_http_core_srv_conf_t,
    ngx_http_server_name_t, ngx_http_ssl_module, ngx_http_ssl_srv_conf_t, ngx_listening_t,
    ngx_str_t,
};

use crate::conf::ServerConf;
use crate::ngx::{self, own_module};

/// All server blocks.
pub(crate) type Servers = nginx::Servers<Handle>;

/// A server block.
pub(crate) type Server = nginx::Server<Handle>;

/// nginx's data about a server.
#[derive(Clone, Copy)]
pub(crate) struct Handle {
    /// Null outside `http`.
    pub(crate) conf: *mut ServerConf,
    /// Its own context, if it has certificates.
    pub(crate) own: Option<OwnContext>,
}

impl Handle {
    /// The object into which its fields are written, and its own context.
    pub(crate) fn sending(&self) -> (*mut ServerConf, Option<*mut SslCtx>) {
        (self.conf, self.own.map(|own| own.context))
    }

    /// The address of its own context.
    pub(crate) fn context(&self) -> Option<ContextAddress> {
        self.own.map(|own| ContextAddress::from(own.context.cast_const()))
    }
}

#[derive(Clone, Copy)]
pub(crate) struct OwnContext {
    pub(crate) context: *mut SslCtx,
    /// Whether the certificates have variables in their names.
    pub(crate) variables: bool,
    /// Whether the server refuses all handshakes, so that the certificates are never sent.
    pub(crate) rejects: bool,
    /// The names of the files with the certificates and with their keys: arrays of `ngx_str_t` in the configuration
    /// that nginx is reading or has just read, or null.
    pub(crate) files: [*const ngx_array_t; 2],
}

impl From<OwnContext> for Own {
    fn from(own: OwnContext) -> Self {
        // SAFETY: see `OwnContext::files`; both arrays live as long as the context, which the hook that runs now uses.
        let [certificates, keys] = own.files.map(|array| unsafe { ngx::texts(array) });
        let guard = GuardUse::of(&certificates, &keys);
        Self { variables: own.variables, rejects: own.rejects, guard }
    }
}

impl OwnContext {
    /// The files of the certificates, each by the address of the name that nginx attaches to the
    /// certificate.
    ///
    /// # Safety
    /// The context belongs to the live cycle for which nginx calls a hook now.
    pub(crate) unsafe fn named_files(&self) -> Vec<(NameAddress, Arc<CertificateFile>)> {
        if self.variables {
            return Vec::new();
        }
        // SAFETY: by the caller's promise both arrays are live; see `OwnContext::files`.
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

    /// The key files that the directives name. nginx requires a key file for each certificate, even if it is the same
    /// file.
    ///
    /// # Safety
    /// As for [`OwnContext::named_files`].
    pub(crate) unsafe fn keys(&self) -> Vec<String> {
        let [_, keys] = self.files;
        // SAFETY: by the caller's promise the array is live; see `OwnContext::files`.
        unsafe { ngx::texts(keys) }
    }
}

/// The server blocks of a configuration; none if it has no `http` block.
///
/// # Safety
/// `cycle` is the cycle for which nginx calls a hook after it has read and merged `http`, while `cf->temp_pool`, which
/// has the ports, is live: until `ngx_init_cycle` returns.
pub(crate) unsafe fn servers_of(
    cycle: *mut ngx_cycle_t,
    public_ports: &PublicPorts,
) -> Option<Servers> {
    // SAFETY: by the caller's promise. `servers` is an array of `ngx_http_core_srv_conf_t *`, `ports` one of
    // `ngx_http_conf_port_t`, and `addrs` one of `ngx_http_conf_addr_t` (http/ngx_http_core_module.h).
    unsafe {
        let core = &raw const ngx_http_core_module;
        let http: *mut ngx_http_core_main_conf_t = ngx::http_main_conf(cycle, core);
        let http = http.as_ref()?;
        let blocks: &[*mut ngx_http_core_srv_conf_t] = ngx::elements(&raw const http.servers);
        let positions: HashMap<*mut ngx_http_core_srv_conf_t, usize> =
            blocks.iter().enumerate().map(|(position, block)| (*block, position)).collect();
        let mut servers = Servers::new(blocks.iter().map(|block| server(*block)).collect());
        for port in ngx::elements::<ngx_http_conf_port_t>(http.ports) {
            for address in ngx::elements(&raw const port.addrs) {
                if let Some(address) = self::address(port.port, address, &positions) {
                    servers.add_address(&address, public_ports);
                }
            }
        }
        Some(servers)
    }
}

/// # Safety
/// As for [`servers_of`]; `address` is of that cycle.
unsafe fn address(
    port: u16,
    address: &ngx_http_conf_addr_t,
    positions: &HashMap<*mut ngx_http_core_srv_conf_t, usize>,
) -> Option<Address> {
    let default = *positions.get(&address.default_server)?;
    // SAFETY: by the caller's promise; `servers` of an address is an array of `ngx_http_core_srv_conf_t *`.
    let blocks: &[*mut ngx_http_core_srv_conf_t] =
        unsafe { ngx::elements(&raw const address.servers) };
    Some(Address {
        text: ngx::text(&address.opt.addr_text),
        port,
        // SAFETY: by the caller's promise.
        tls: unsafe { is_tls(address) },
        quic: is_quic(address),
        servers: blocks.iter().filter_map(|block| positions.get(block)).copied().collect(),
        default,
    })
}

/// The addresses on which `cycle` will listen, as far as they have been read. Unix sockets are left out, because two
/// servers cannot listen on the same one.
///
/// # Safety
/// `cycle` is the cycle for which nginx calls a hook after it has read `http`.
pub(crate) unsafe fn addresses(servers: &Servers, cycle: *const ngx_cycle_t) -> Vec<SocketAddr> {
    let own = servers.all.iter().flat_map(|server| &server.addresses).cloned();
    // The addresses of blocks before `http`.
    // SAFETY: by the caller's promise; `listening` is an array of `ngx_listening_t`.
    let others: &[ngx_listening_t] = unsafe { ngx::elements(&raw const (*cycle).listening) };
    own.chain(others.iter().map(|other| ngx::text(&other.addr_text)))
        .filter_map(|text| text.parse().ok())
        .collect()
}

/// Whether the address is for HTTP/3.
fn is_quic(address: &ngx_http_conf_addr_t) -> bool {
    #[cfg(ngx_quic)]
    return address.opt.quic() != 0;
    #[cfg(not(ngx_quic))]
    {
        let _ = address;
        false
    }
}

/// # Safety
/// As for [`address`](self::address).
unsafe fn is_tls(address: &ngx_http_conf_addr_t) -> bool {
    if is_quic(address) {
        return true;
    }
    #[cfg(ngx_ssl_on)]
    {
        // SAFETY: by the caller's promise; the default server is a live server block, with a context.
        let ssl: *const ngx_http_ssl_srv_conf_t = unsafe {
            let module = &raw const ngx_http_ssl_module;
            ngx::http_server_conf((*address.default_server).ctx, module)
        };
        // SAFETY: `ngx_http_ssl_module` makes a configuration for every server block.
        if unsafe { (*ssl).enable } == 1 {
            return true;
        }
    }
    address.opt.ssl() != 0
}

/// # Safety
/// `block` is a server block of the cycle for which nginx calls a hook after it has read and merged `http`.
unsafe fn server(block: *mut ngx_http_core_srv_conf_t) -> Server {
    // SAFETY: by the caller's promise. A server block has a context, and in it the configurations that this module and
    // `ngx_http_ssl_module` make for every server block. `server_names` is an array of `ngx_http_server_name_t`.
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
        let settings = ((*conf).settings.clone(), (*conf).choosers.clone());
        let handle = Handle { conf, own };
        let patterns = patterns(server_names);
        let names = names(server_names);
        let mut server = Server::new(handle, names, patterns, settings, own.map(Into::into));
        server.at = Some(begin(&*block));
        server
    }
}

/// Where a server block begins.
fn begin(block: &ngx_http_core_srv_conf_t) -> Location {
    let file = if block.file_name.is_null() {
        "command line".into()
    } else {
        // SAFETY: `ngx_http_core_create_srv_conf` stores the name of the file that nginx parses: a terminated string in
        // the cycle's pool. The cycle of a block that nginx has passed to a hook is live.
        unsafe { CStr::from_ptr(block.file_name.cast()) }.to_string_lossy().into()
    };
    Location { file, line: block.line }
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
        // SAFETY: the expression lives as long as its cycle, and values of this type are kept only in that cycle.
        // `ngx_regex_exec` only reads the name, and writes at most `size` numbers; three are enough for one match.
        unsafe {
            let (captures, size) = (captures.as_mut_ptr(), captures.len());
            nginx_sys::ngx_regex_exec(self.0, &raw mut name, captures, size) >= 0
        }
    }
}

/// The regular expressions among the names of a server.
#[cfg(ngx_pcre)]
fn patterns(names: &[ngx_http_server_name_t]) -> Vec<Rc<dyn NamePattern>> {
    // SAFETY: `regex` of a name is null or an `ngx_http_regex_t` in the same cycle.
    let expressions = names.iter().filter_map(|name| unsafe { name.regex.as_ref() });
    expressions.map(|regex| Rc::new(Regex(regex.regex)) as Rc<dyn NamePattern>).collect()
}

/// An nginx without PCRE refuses such names.
#[cfg(not(ngx_pcre))]
fn patterns(_: &[ngx_http_server_name_t]) -> Vec<Rc<dyn NamePattern>> {
    Vec::new()
}

/// A server's names; `~` precedes a regular expression.
pub(crate) fn names(names: &[ngx_http_server_name_t]) -> Vec<String> {
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
