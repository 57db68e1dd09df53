//! The servers of `stream`. Before nginx 1.25.5 each has addresses of its own. From then on several servers may share
//! an address, and the name that a client sends (SNI) decides.

use std::collections::HashMap;

use hpkp_server::nginx::{Address, Choosers};
use nginx_sys::{ngx_cycle_t, ngx_flag_t, ngx_inet_get_port, ngx_module_t};

use super::bindings::{
    NGX_STREAM_MODULE, hpkp_stream_ssl_conf_t, ngx_stream_conf_ctx_t, ngx_stream_core_main_conf_t,
    ngx_stream_core_srv_conf_t,
};
use super::modules::{block, location, module, within};
use super::servers::{Outside, Server, handle};
use crate::chosen::Found;
use crate::ngx::{self, elements};
use crate::server::OwnContext;

/// The modules of `stream` whose configurations are read.
struct Modules<'a> {
    core: Option<&'a ngx_module_t>,
    ssl: Option<&'a ngx_module_t>,
    preread: Option<&'a ngx_module_t>,
    own: Option<&'a ngx_module_t>,
}

/// # Safety
/// `cycle` is live, and nginx has read its block `stream` to the end or not begun it.
pub(super) unsafe fn read(cycle: *const ngx_cycle_t, outside: &mut Outside) {
    // SAFETY: by the caller's promise. nginx's modules of these names have configurations of these types: those in the
    // headers of the version for which this module was built, and nginx loads no module that was built for another one
    // (`ngx_add_module`). `servers` is an array of `ngx_stream_core_srv_conf_t *`.
    unsafe {
        let stream = block::<ngx_stream_conf_ctx_t>(cycle, c"ngx_stream_module");
        let Some(stream) = stream else { return };
        let find = |name| module(cycle, name, NGX_STREAM_MODULE as usize);
        let modules = Modules {
            core: find(c"ngx_stream_core_module"),
            ssl: find(c"ngx_stream_ssl_module"),
            preread: find(c"ngx_stream_ssl_preread_module"),
            own: find(c"ngx_stream_hpkp_module"),
        };
        let found = within::<Found>(stream.main_conf, modules.own);
        outside.unseen_choosers = found.map(|found| found.unseen.clone()).unwrap_or_default();
        let main = within::<ngx_stream_core_main_conf_t>(stream.main_conf, modules.core);
        let Some(main) = main else { return };
        let blocks: &[*mut ngx_stream_core_srv_conf_t] = elements(&raw const main.servers);
        let mut positions = HashMap::new();
        for block in blocks {
            if let Some(server) = server(&**block, &modules) {
                positions.insert((**block).ctx, outside.servers.len());
                outside.servers.push(server);
            }
        }
        add_addresses(main, &positions, outside);
    }
}

/// # Safety
/// As for [`read`]; `block` is a server of the cycle, and `modules` are those of its `stream`.
unsafe fn server(block: &ngx_stream_core_srv_conf_t, modules: &Modules<'_>) -> Option<Server> {
    // SAFETY: by the caller's promise. The types are those in `read`; the name of the file is a terminated string in
    // the cycle's pool.
    unsafe {
        let context = block.ctx.as_ref()?;
        let ssl = within::<hpkp_stream_ssl_conf_t>(context.srv_conf, modules.ssl);
        let own = ssl.filter(|ssl| !ssl.ssl.ctx.is_null()).map(|ssl| OwnContext {
            context: ssl.ssl.ctx.cast(),
            variables: !ssl.certificate_values.is_null(),
            #[cfg(ngx_stream_reject)]
            rejects: ssl.reject_handshake == 1,
            #[cfg(not(ngx_stream_reject))]
            rejects: false,
            files: [ssl.certificates, ssl.certificate_keys],
        });
        // No header of nginx has this structure; in all versions its only field is the flag.
        let preread = within::<ngx_flag_t>(context.srv_conf, modules.preread);
        Some(Server {
            kind: "stream",
            names: names(block),
            patterns: patterns(block),
            handle: handle(own),
            own: own.map(Into::into),
            passes_on: preread == Some(&1),
            choosers: within::<Choosers>(context.srv_conf, modules.own)
                .cloned()
                .unwrap_or_default(),
            at: location(block.file_name, block.line),
        })
    }
}

/// The positions of servers, by the context to which `listen` refers.
type Positions = HashMap<*mut ngx_stream_conf_ctx_t, usize>;

#[cfg(not(ngx_stream_names))]
mod layout {
    use super::super::bindings::ngx_stream_listen_t;
    use super::*;

    /// # Safety
    /// `main` is the configuration of `stream`, which has been read.
    pub(super) unsafe fn add_addresses(
        main: &ngx_stream_core_main_conf_t,
        positions: &Positions,
        outside: &mut Outside,
    ) {
        // SAFETY: by the caller's promise; `listen` is an array of `ngx_stream_listen_t`.
        for listen in unsafe { elements::<ngx_stream_listen_t>(&raw const main.listen) } {
            let Some(&server) = positions.get(&listen.ctx) else { continue };
            outside.addresses.push(Address {
                text: ngx::text(&listen.addr_text),
                // SAFETY: by the caller's promise; `ngx_stream_core_listen` sets the `sockaddr` of every address.
                port: unsafe { ngx_inet_get_port(listen.sockaddr.cast()) },
                tls: listen.ssl() != 0,
                quic: false,
                servers: vec![server],
                default: server,
            });
        }
    }

    pub(super) fn names(_: &ngx_stream_core_srv_conf_t) -> Vec<String> {
        Vec::new()
    }

    pub(super) fn patterns(
        _: &ngx_stream_core_srv_conf_t,
    ) -> Vec<std::rc::Rc<dyn hpkp_core::check::NamePattern>> {
        Vec::new()
    }
}

#[cfg(ngx_stream_names)]
mod layout {
    use std::rc::Rc;

    use hpkp_core::check::NamePattern;

    use super::super::bindings::{
        ngx_stream_conf_addr_t, ngx_stream_conf_port_t, ngx_stream_server_name_t,
    };
    use super::*;
    #[cfg(ngx_pcre)]
    use crate::server::Regex;

    /// # Safety
    /// `main` is the configuration of `stream`, which has been read.
    pub(super) unsafe fn add_addresses(
        main: &ngx_stream_core_main_conf_t,
        positions: &Positions,
        outside: &mut Outside,
    ) {
        // SAFETY: by the caller's promise. `ports` is an array of `ngx_stream_conf_port_t` in `cf->temp_pool`, which
        // `ngx_init_cycle` destroys after it has called all hooks for the new configuration; `addrs` is one of
        // `ngx_stream_conf_addr_t`, and `servers` one of `ngx_stream_core_srv_conf_t *`. Every server has a context.
        unsafe {
            for port in elements::<ngx_stream_conf_port_t>(main.ports) {
                for address in elements::<ngx_stream_conf_addr_t>(&raw const port.addrs) {
                    let blocks: &[*mut ngx_stream_core_srv_conf_t] =
                        elements(&raw const address.servers);
                    let position = |block: &*mut ngx_stream_core_srv_conf_t| {
                        positions.get(&(**block).ctx).copied()
                    };
                    let Some(default) = position(&address.default_server) else { continue };
                    outside.addresses.push(Address {
                        text: ngx::text(&address.opt.addr_text),
                        port: ngx_inet_get_port(address.opt.sockaddr.cast()),
                        tls: address.opt.ssl() != 0,
                        quic: false,
                        servers: blocks.iter().filter_map(position).collect(),
                        default,
                    });
                }
            }
        }
    }

    fn all(block: &ngx_stream_core_srv_conf_t) -> &[ngx_stream_server_name_t] {
        // SAFETY: `block` is in a live cycle, and `server_names` is an array of `ngx_stream_server_name_t`.
        unsafe { elements(&raw const block.server_names) }
    }

    pub(super) fn names(block: &ngx_stream_core_srv_conf_t) -> Vec<String> {
        let texts = all(block).iter().map(|name| {
            #[cfg(ngx_pcre)]
            if !name.regex.is_null() {
                return format!("~{}", ngx::text(&name.name));
            }
            ngx::text(&name.name)
        });
        texts.filter(|name| !name.is_empty()).collect()
    }

    pub(super) fn patterns(block: &ngx_stream_core_srv_conf_t) -> Vec<Rc<dyn NamePattern>> {
        #[cfg(ngx_pcre)]
        return all(block)
            .iter()
            // SAFETY: `regex` of a name is null or an `ngx_stream_regex_t` in the same cycle.
            .filter_map(|name| unsafe { name.regex.as_ref() })
            .map(|regex| Rc::new(Regex(regex.regex.cast())) as Rc<dyn NamePattern>)
            .collect();
        #[cfg(not(ngx_pcre))]
        {
            let _ = block;
            Vec::new()
        }
    }
}

use layout::{add_addresses, names, patterns};
