//! The gate: the check of a whole configuration, after nginx has read all of it and before anything
//! of it takes effect.
//!
//! It stands in a `postconfiguration` of its own, before that of the first filter. There every
//! server is known, with its addresses and certificates. Any later, and a refusal takes a working
//! server down in the end: `postconfiguration` builds the one chain of filters anew, in the master
//! that goes on with the old configuration, and each worker that it has to replace inherits what
//! stands there. A refusal half-way leaves half a chain; one at the end leaves a chain with modules
//! that have just been unloaded, where the refused configuration was the first to name them.

use std::collections::{HashMap, HashSet};

use hpkp_core::check::{Certificates, Context, Deployment, Host, PolicyUse, Serving, Verdict};
use hpkp_core::finding::Check;
use hpkp_core::path::Chain;
use hpkp_core::policy::Policy;
use hpkp_server::failure::{self, Answer, LogLine, Phase};
use hpkp_server::loader::{self, Loader};
use hpkp_server::openssl::{OpenSsl, OpenSslError, SslCtx};
use hpkp_server::sending::{self, ContextAddress};
use nginx_sys::{
    NGX_LOG_WARN, ngx_conf_t, ngx_cycle, ngx_cycle_t, ngx_http_conf_addr_t, ngx_http_conf_port_t,
    ngx_http_core_main_conf_t, ngx_http_core_module, ngx_http_core_srv_conf_t,
    ngx_http_server_name_t, ngx_http_ssl_module, ngx_http_ssl_srv_conf_t, ngx_int_t, ngx_module_t,
};

use crate::boundary::{self, Aftermath};
use crate::conf::{MainConf, Response, Served, ServerConf, ServerKey};
use crate::ngx::{self, ERROR, OK};
use crate::{filter, log, ngx_http_hpkp_module, phase};

/// The variable that lets a test pass where it would be refused: for the test that a service runs
/// before each start, and for placeholder certificates.
const OVERRIDE: &str = "HPKP_CHECK";

pub(crate) unsafe extern "C" fn postconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    let after = |aftermath| match aftermath {
        Aftermath::Refuse => ERROR,
        Aftermath::GoOn => OK,
    };
    boundary::configuring("gate", after, || {
        let Some(phase) = phase::current() else { return OK };
        if boundary::has_failed() {
            return OK;
        }
        // SAFETY: nginx calls this with the configuration that it has just read.
        let accepted = unsafe { pass((*cf).cycle, phase) };
        if accepted { OK } else { ERROR }
    })
}

/// `init_module`, where the error log has been opened: at a start, what was said before went to the
/// terminal alone.
pub(crate) unsafe extern "C" fn init_module(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    filter::activate();
    // An error from here would make the master of a running server exit.
    boundary::serving("init_module", OK, || {
        // SAFETY: nginx calls this with the cycle that is about to take effect.
        let alarms = unsafe {
            let main: *mut MainConf = ngx::http_main_conf(cycle, own_module());
            main.as_mut().map(|main| std::mem::take(&mut main.alarms)).unwrap_or_default()
        };
        // SAFETY: the cycle has a log; one that is not a file, such as syslog, has none.
        let to_terminal = unsafe {
            let file = (*(*cycle).log).file;
            file.as_ref().is_some_and(|file| file.fd == libc::STDERR_FILENO)
        };
        for line in alarms.iter().filter(|_| !to_terminal) {
            // SAFETY: as above.
            unsafe { log::write_line((*cycle).log, line) };
        }
        OK
    })
}

/// Checks the configuration of `cycle`; whether it is accepted.
///
/// # Safety
/// `cycle` is the cycle whose configuration has just been read.
unsafe fn pass(cycle: *mut ngx_cycle_t, phase: Phase) -> bool {
    // SAFETY: by the caller's promise.
    let Some(mut servers) = (unsafe { Servers::of(cycle) }) else { return true };
    if !servers.any_policy() {
        return true;
    }
    // SAFETY: the cycle has a log from the beginning.
    let log = unsafe { (*cycle).log };
    if phase::is_test() && std::env::var_os(OVERRIDE).is_some_and(|value| value == "warn") {
        for server in &mut servers.all {
            server.check = Check::Warn;
        }
        let text = "hpkp: HPKP_CHECK=warn is set, so this test passes what a reload would refuse";
        // SAFETY: as above.
        unsafe { log::write(log, NGX_LOG_WARN, text, None) };
    }
    // SAFETY: nginx is linked with one OpenSSL, and its functions are found from the program on.
    let openssl = unsafe { OpenSsl::load(|name| libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr())) };
    // SAFETY: by the caller's promise; nothing else changes the configuration now.
    let main = unsafe { &mut *ngx::http_main_conf::<MainConf>(cycle, own_module()) };

    // SAFETY: as above.
    let (deployment, addresses, verdict) = unsafe { checked(main, &servers, openssl.as_ref()) };
    let judgement = failure::judge(&verdict, phase, main.on_start.unwrap_or_default());
    for line in &judgement.lines {
        // SAFETY: as above.
        unsafe { log::write_line(log, line) };
    }
    if judgement.refused {
        return false;
    }
    for ((server, host), verdict) in servers.all.iter().zip(&deployment.hosts).zip(&verdict.hosts) {
        if server.uses_policy() && host.tls {
            let served = Served { alarms: verdict.alarms.clone(), ..presented(host, &deployment) };
            // Of two blocks with the same names and addresses nginx asks the first.
            main.served.entry(server.key()).or_insert(served);
        }
    }
    if phase == Phase::Start {
        let is_alarm = |line: &LogLine| line.answer == Answer::Alarm;
        main.alarms = judgement.lines.into_iter().filter(is_alarm).collect();
    }
    if let Ok(openssl) = openssl {
        let fields = sending::fields(&verdict, &addresses);
        for (server, fields) in servers.all.iter().zip(fields) {
            // SAFETY: as above; the servers are different objects.
            let conf = unsafe { &mut *server.conf };
            let own = server.own.map(|own| ContextAddress::from(own.context.cast_const()));
            conf.response = Response::new(openssl, fields, own);
        }
    }
    true
}

const fn own_module() -> *const ngx_module_t {
    &raw const ngx_http_hpkp_module
}

/// A server whose `ssl_certificate` has variables.
const CHOSEN_LATER: Certificates = Certificates::NotKnown {
    why: "the certificate is chosen during the handshake (a variable in ssl_certificate)",
    remedy: "name the file",
};

/// All server blocks and what each address says of them.
struct Servers {
    all: Vec<Server>,
}

struct Server {
    conf: *mut ServerConf,
    names: Vec<String>,
    /// The names by which nginx finds it, that of requests without a host (empty) included.
    claims: Vec<String>,
    addresses: Vec<String>,
    label: String,
    tls: bool,
    check: Check,
    /// Its own context, if it has certificates.
    own: Option<OwnContext>,
    /// The servers (by position) whose contexts its clients may see: itself, or the default
    /// servers of its addresses where it has no certificate.
    presents: Vec<usize>,
}

#[derive(Clone, Copy)]
struct OwnContext {
    context: *mut SslCtx,
    /// Whether the certificates have variables in their names.
    variables: bool,
    /// Whether the server refuses all handshakes, so that the certificates are never sent.
    rejects: bool,
}

impl Servers {
    /// # Safety
    /// `cycle` is the cycle whose configuration has just been read.
    unsafe fn of(cycle: *mut ngx_cycle_t) -> Option<Self> {
        // SAFETY: by the caller's promise; an array of servers holds pointers to them.
        unsafe {
            let core = &raw const ngx_http_core_module;
            let http: *mut ngx_http_core_main_conf_t = ngx::http_main_conf(cycle, core);
            let http = http.as_ref()?;
            let blocks: &[*mut ngx_http_core_srv_conf_t] = ngx::elements(&raw const http.servers);
            let positions: HashMap<*mut ngx_http_core_srv_conf_t, usize> =
                blocks.iter().enumerate().map(|(position, block)| (*block, position)).collect();
            let mut servers = Self { all: blocks.iter().map(|b| Server::of(*b)).collect() };
            for port in ngx::elements::<ngx_http_conf_port_t>(http.ports) {
                for address in ngx::elements(&raw const port.addrs) {
                    servers.add_address(address, &positions);
                }
            }
            Some(servers)
        }
    }

    /// # Safety
    /// `address` is one of the configuration just read.
    unsafe fn add_address(
        &mut self,
        address: &ngx_http_conf_addr_t,
        positions: &HashMap<*mut ngx_http_core_srv_conf_t, usize>,
    ) {
        let Some(&default) = positions.get(&address.default_server) else { return };
        // SAFETY: by the caller's promise; the array holds pointers to server blocks.
        let blocks: &[*mut ngx_http_core_srv_conf_t] =
            unsafe { ngx::elements(&raw const address.servers) };
        // SAFETY: the default server is one of the blocks.
        let tls = unsafe { is_tls(address) };
        let mut claimed = HashSet::new();
        for position in blocks.iter().filter_map(|block| positions.get(block)).copied() {
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

    fn any_policy(&self) -> bool {
        self.all.iter().any(|server| server.uses_policy())
    }
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
    unsafe fn of(block: *mut ngx_http_core_srv_conf_t) -> Self {
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
            });
            let claims = names(ngx::elements(&raw const (*block).server_names));
            let names: Vec<String> =
                claims.iter().filter(|name| !name.is_empty()).cloned().collect();
            Self {
                conf,
                label: names.first().cloned().unwrap_or_default(),
                names,
                claims,
                addresses: Vec::new(),
                tls: false,
                check: (*conf).check.unwrap_or_default(),
                own,
                presents: Vec::new(),
            }
        }
    }

    fn conf(&self) -> &ServerConf {
        // SAFETY: `of` took it from nginx, and nothing changes it while servers are looked at.
        unsafe { &*self.conf }
    }

    fn key(&self) -> ServerKey {
        ServerKey { names: self.names.clone(), addresses: self.addresses.clone() }
    }

    fn policies(&self) -> [Option<&PolicyUse>; 2] {
        let conf = self.conf();
        [conf.enforced.policy(), conf.report_only.policy()]
    }

    fn uses_policy(&self) -> bool {
        self.policies().iter().any(Option::is_some)
    }
}

fn names(names: &[ngx_http_server_name_t]) -> Vec<String> {
    names
        .iter()
        .map(|name| {
            let is_regex = !name.regex.is_null();
            format!("{}{}", if is_regex { "~" } else { "" }, ngx::text(&name.name))
        })
        .collect()
}

/// What the configuration says and has loaded, the addresses of its contexts, and the core's answer.
///
/// # Safety
/// `servers` are those of the cycle whose configuration has just been read, and `main` is its own.
unsafe fn checked(
    main: &MainConf,
    servers: &Servers,
    openssl: Result<&OpenSsl, &OpenSslError>,
) -> (Deployment, Vec<ContextAddress>, Verdict) {
    let mut loader = Loader::new(openssl);
    let mut deployment = Deployment::default();
    let mut addresses = Vec::new();
    let mut context_of = HashMap::new();
    for (position, server) in servers.all.iter().enumerate() {
        let Some(own) = server.own.filter(|own| server.tls && !own.rejects) else { continue };
        context_of.insert(position, deployment.contexts.len());
        addresses.push(ContextAddress::from(own.context.cast_const()));
        let certificates = match own.variables {
            true => CHOSEN_LATER,
            // SAFETY: the context belongs to the configuration, and one thread reads it.
            false => unsafe { loader.loaded(own.context) },
        };
        let trust = loader.trust(server.conf().trusted.as_ref());
        deployment.contexts.push(Context { certificates, trust });
    }
    deployment.policies = loader::resolve(&main.policies);
    deployment.hosts = servers
        .all
        .iter()
        .map(|server| {
            let [enforced, report_only] = server.policies().map(Option::<&_>::cloned);
            Host {
                label: server.label.clone(),
                names: server.names.clone(),
                tls: server.tls,
                contexts: server
                    .presents
                    .iter()
                    .filter_map(|p| context_of.get(p))
                    .copied()
                    .collect(),
                check: server.check,
                enforced,
                report_only,
                accepted: Vec::new(),
                serving: Vec::new(),
            }
        })
        .collect();
    for (position, server) in servers.all.iter().enumerate().filter(|(_, s)| s.uses_policy()) {
        let Some(before) = served_before(&server.key()) else { continue };
        let now = presented(&deployment.hosts[position], &deployment);
        let host = &mut deployment.hosts[position];
        if now.is_like(before) {
            host.accepted.clone_from(&before.alarms);
        }
        if now.leaves != before.leaves {
            host.serving.clone_from(&before.leaves);
        }
    }
    let verdict = loader.check(&deployment);
    (deployment, addresses, verdict)
}

/// What `host` presents.
fn presented(host: &Host, deployment: &Deployment) -> Served {
    let contexts = host.contexts.iter().map(|context| &deployment.contexts[*context]);
    let chains: Vec<&Chain> = contexts
        .filter_map(|context| match &context.certificates {
            Certificates::Loaded(chains) => Some(chains),
            _ => None,
        })
        .flatten()
        .collect();
    let leaf = |chain: &&Chain| {
        let leaf = chain.leaf();
        Some(Serving { pin: leaf.pin()?, not_after: leaf.not_after_text().to_owned() })
    };
    let uses = [&host.enforced, &host.report_only].into_iter().flatten();
    let policies = uses.filter_map(|policy_use| {
        deployment.policies.iter().find(|policy| policy.name() == policy_use.policy)
    });
    let is_loaded = |context: &usize| {
        matches!(deployment.contexts[*context].certificates, Certificates::Loaded(_))
    };
    Served {
        is_known: host.contexts.iter().all(is_loaded),
        leaves: chains.iter().filter_map(leaf).collect(),
        chains: chains
            .iter()
            .map(|chain| chain.certificates().iter().map(|c| c.pin()).collect())
            .collect(),
        pins: policies.flat_map(Policy::distinct_pins).collect(),
        alarms: Vec::new(),
    }
}

/// What the running configuration presents for a server.
fn served_before(key: &ServerKey) -> Option<&'static Served> {
    // SAFETY: nginx's own current cycle lives until the one being read has taken its place. A
    // configuration of ours is in it only where this very module, at this very address, was loaded
    // in it: after an update of the file, its objects may have another form.
    unsafe {
        if !ngx::is_loaded_in(ngx_cycle, own_module()) {
            return None;
        }
        let main: *mut MainConf = ngx::http_main_conf(ngx_cycle.cast_const(), own_module());
        main.as_ref()?.served.get(key)
    }
}
