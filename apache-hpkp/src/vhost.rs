//! Reads the main server and the virtual hosts from httpd.

use std::collections::BTreeSet;
use std::ffi::c_char;
use std::ptr::{self, NonNull};

use hpkp_server::httpd::{self as model, Address};

use crate::bindings::{apr_sockaddr_ip_getbuf, apr_sockaddr_t, server_addr_rec, server_rec};
use crate::conf;
use crate::conf::ServerConf;
use crate::cstr;
use crate::httpd;

/// A server.
pub(crate) type Server = model::Server<Handle>;

/// httpd's data about a server.
#[derive(Clone, Copy)]
pub(crate) struct Handle {
    pub(crate) record: *mut server_rec,
    pub(crate) conf: NonNull<ServerConf>,
}

/// All servers of a configuration, in its order, the main one first.
///
/// # Safety
/// `main` is the main server of the configuration for which httpd runs `check_config` or `post_config`. The [`Handle`]s
/// in the result are used only while that hook runs.
pub(crate) unsafe fn all(main: *mut server_rec) -> Vec<Server> {
    // SAFETY: by the caller's promise; httpd does not change the list of servers while a hook runs.
    let mut all: Vec<Server> =
        unsafe { httpd::servers(main).filter_map(|record| server(record, main)).collect() };
    // httpd lists the virtual hosts in reverse, but chooses them in the order of the configuration.
    if let Some(hosts) = all.get_mut(1..) {
        hosts.reverse();
    }
    model::mark_asked(&mut all);
    all
}

/// A server; none if httpd does not have the module.
///
/// # Safety
/// As for [`all`]; `record` is a server of the configuration.
unsafe fn server(record: *mut server_rec, main: *mut server_rec) -> Option<Server> {
    // SAFETY: by the caller's promise httpd has made this module's object. `names` and `wild_names` are null or arrays
    // of `char *` (`set_server_alias` in server/core.c), and `addrs` is a list of addresses, or null.
    unsafe {
        let server = &*record;
        let texts = |array| -> Vec<String> {
            let names: &[*const c_char] = httpd::elements(array);
            names.iter().map(|name| cstr::text(*name)).collect()
        };
        let conf = conf::server_conf(record)?;
        // The main server has a wildcard address for all ports, which httpd does not use to choose a server.
        let first = if record == main { ptr::null() } else { server.addrs };
        Some(Server::new(
            Handle { record, conf },
            cstr::text(server.server_hostname),
            texts(server.names),
            texts(server.wild_names),
            addresses(first),
            conf.as_ref().settings.clone(),
        ))
    }
}

/// # Safety
/// `address` is null or the first of a live list.
unsafe fn addresses(mut address: *const server_addr_rec) -> Vec<Address> {
    let mut all = Vec::new();
    // SAFETY: by the caller's promise. `host_addr` is never null: httpd resolves the address when it reads
    // `<VirtualHost>` (`get_addresses` in server/vhost.c). `next` is null in the last address.
    unsafe {
        while let Some(record) = address.as_ref() {
            all.extend(ip(record.host_addr).map(|ip| Address { ip, port: record.host_port }));
            address = record.next;
        }
    }
    all
}

/// # Safety
/// `address` is live.
unsafe fn ip(address: *mut apr_sockaddr_t) -> Option<String> {
    let mut buffer: [c_char; 64] = [0; 64];
    let size = buffer.len() as _;
    // SAFETY: by the caller's promise. `apr_sockaddr_ip_getbuf` writes at most `size` bytes, the last of them null, if
    // it returns 0.
    unsafe {
        let done = apr_sockaddr_ip_getbuf(buffer.as_mut_ptr(), size, address);
        (done == 0).then(|| cstr::text(buffer.as_ptr()))
    }
}

/// The addresses of all `Listen` directives.
pub(crate) fn listening() -> BTreeSet<Address> {
    let mut all = BTreeSet::new();
    // SAFETY: this is called in httpd's main thread by a hook after the directives have been executed. `Listen` has put
    // the listeners into the list (`alloc_listener` in server/listen.c), each with its address; `next` is null in the
    // last.
    unsafe {
        let mut listener = crate::bindings::ap_listeners.cast_const();
        while let Some(listening) = listener.as_ref() {
            let port = (*listening.bind_addr).port;
            // An address that cannot be read counts as the wildcard address.
            let ip = ip(listening.bind_addr).unwrap_or_else(|| "::".to_owned());
            all.insert(Address { ip, port });
            listener = listening.next;
        }
    }
    all
}

impl Handle {
    /// The configuration.
    pub(crate) fn conf(&self) -> &ServerConf {
        // SAFETY: `server` took the pointer from a live server, and handles are used only while a hook runs (see
        // `all`). `activate` alone changes objects then, without a reference from here.
        unsafe { self.conf.as_ref() }
    }

    /// Whether a `Listen` directive sets the protocol `https` for a server without a protocol of its own.
    pub(crate) fn listens_on_https(&self) -> bool {
        // SAFETY: the server is live while the hook runs (see `all`); for the list of listeners see `listening`. The
        // protocol of a listener is null or a string. `apr_sockaddr_equal` only reads the two addresses.
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
    /// The protocol of the server in the core's settings, or null. httpd fills it in from the listeners only after the
    /// test.
    fn protocol(&self) -> *const c_char {
        // SAFETY: `ap_get_server_protocol` only reads core's object of the server, which every live server has.
        unsafe { crate::bindings::ap_get_server_protocol(ptr::from_ref(self).cast_mut()) }
    }
}
