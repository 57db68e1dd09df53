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
/// `main` is the main server of the configuration, which does not change meanwhile.
pub(crate) unsafe fn all(main: *mut server_rec) -> Vec<Server> {
    // SAFETY: by the caller's promise.
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
/// `record` is a live server, whose configuration has been read.
unsafe fn server(record: *mut server_rec, main: *mut server_rec) -> Option<Server> {
    // SAFETY: by the caller's promise; arrays of names hold strings, addresses are linked.
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
    // SAFETY: by the caller's promise; an address has its socket address.
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
    // SAFETY: by the caller's promise; the buffer has its size, and what is written to it ends with a null.
    unsafe {
        let done = apr_sockaddr_ip_getbuf(buffer.as_mut_ptr(), size, address);
        (done == 0).then(|| cstr::text(buffer.as_ptr()))
    }
}

/// The addresses of all `Listen` directives.
pub(crate) fn listening() -> BTreeSet<Address> {
    let mut all = BTreeSet::new();
    // SAFETY: httpd's listeners are there once the configuration has been read, linked.
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
        // SAFETY: `server` took it from httpd, and nothing changes it while servers are looked at.
        unsafe { self.conf.as_ref() }
    }

    /// Whether a `Listen` directive sets the protocol `https` for a server without a protocol of its own.
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
    /// The protocol of the server in the core's settings, or null. httpd fills it in from the listeners only after the
    /// test.
    fn protocol(&self) -> *const c_char {
        // SAFETY: the function only reads the settings of a live server.
        unsafe { crate::bindings::ap_get_server_protocol(ptr::from_ref(self).cast_mut()) }
    }
}
