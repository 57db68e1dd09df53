//! The servers of `mail`. Each has addresses of its own, and TLS either at once or after STARTTLS.

use hpkp_server::nginx::{Address, Choosers};
use nginx_sys::{ngx_cycle_t, ngx_inet_get_port};

use super::bindings::{
    NGX_MAIL_MODULE, NGX_MAIL_STARTTLS_OFF, ngx_mail_conf_ctx_t, ngx_mail_core_main_conf_t,
    ngx_mail_core_srv_conf_t, ngx_mail_listen_t, ngx_mail_ssl_conf_t,
};
use super::modules::{block, location, module, within};
use super::servers::{Outside, Server, handle};
use crate::ngx::{self, elements};
use crate::server::OwnContext;

/// # Safety
/// `cycle` is live, and nginx has read its block `mail` to the end or not begun it.
pub(super) unsafe fn read(cycle: *const ngx_cycle_t, outside: &mut Outside) {
    // SAFETY: by the caller's promise. nginx's modules of these names have configurations of these types: those in the
    // headers of the version for which this module was built, and nginx loads no module that was built for another one
    // (`ngx_add_module`). `listen` is an array of `ngx_mail_listen_t`.
    unsafe {
        let Some(mail) = block::<ngx_mail_conf_ctx_t>(cycle, c"ngx_mail_module") else { return };
        let find = |name| module(cycle, name, NGX_MAIL_MODULE as usize);
        let core = find(c"ngx_mail_core_module");
        let ssl = find(c"ngx_mail_ssl_module");
        let Some(main) = within::<ngx_mail_core_main_conf_t>(mail.main_conf, core) else { return };
        for listen in elements::<ngx_mail_listen_t>(&raw const main.listen) {
            let Some(server) = listen.ctx.as_ref() else { continue };
            let Some(conf) = within::<ngx_mail_core_srv_conf_t>(server.srv_conf, core) else {
                continue;
            };
            let ssl = within::<ngx_mail_ssl_conf_t>(server.srv_conf, ssl);
            let own = ssl.filter(|ssl| !ssl.ssl.ctx.is_null()).map(|ssl| OwnContext {
                context: ssl.ssl.ctx.cast(),
                variables: false,
                rejects: false,
                files: [ssl.certificates, ssl.certificate_keys],
            });
            let tls = listen.ssl() != 0 || ssl.is_some_and(is_on);
            outside.addresses.push(Address {
                text: ngx::text(&listen.addr_text),
                port: ngx_inet_get_port(listen.sockaddr.cast()),
                tls: tls && own.is_some(),
                quic: false,
                servers: vec![outside.servers.len()],
                default: outside.servers.len(),
            });
            // A server for each address; equal ones are recorded once.
            outside.servers.push(Server {
                kind: "mail",
                names: Vec::new(),
                patterns: Vec::new(),
                handle: handle(own),
                own: own.map(Into::into),
                passes_on: false,
                choosers: Choosers::default(),
                at: location(conf.file_name, conf.line),
            });
        }
    }
}

/// Whether a server speaks TLS on all its addresses, at once or after STARTTLS.
fn is_on(ssl: &ngx_mail_ssl_conf_t) -> bool {
    #[cfg(ngx_mail_ssl_on)]
    if ssl.enable == 1 {
        return true;
    }
    ssl.starttls != NGX_MAIL_STARTTLS_OFF as usize
}
