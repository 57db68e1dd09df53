//! Records what the server publishes and presents when a configuration takes effect, and when the server ends.

use std::collections::HashMap;
use std::rc::Rc;

use hpkp_core::finding::{Code, Finding, Location};
use hpkp_core::pin::Pin;
use hpkp_server::chosen::ChosenCertificates;
use hpkp_server::failure::{self, LogLine};
use hpkp_server::guard::{GuardedHost, Sight, Text};
use hpkp_server::openssl::OpenSsl;
use hpkp_server::presented::{Origin, Presented};
use hpkp_server::published;
use hpkp_server::sending::{self, ContextAddress};
use hpkp_server::session::Watch;
use nginx_sys::{NGX_LOG_WARN, ngx_cycle_t, ngx_int_t};

use crate::conf::{Guarded, MainConf, Pending};
use crate::guard::{self, Worker};
use crate::ngx::{self, OK, own_module};
use crate::response::{Replaceable, Response};
use crate::withheld::Withheld;
use crate::{active, boundary, log, phase};

/// `init_module`, at which the error log has been opened. At a start, earlier messages went only to the terminal.
pub(crate) unsafe extern "C" fn init_module(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    active::activate();
    // An error here would make the master of a running server exit.
    boundary::catch_request_hook("init_module", OK, || {
        // SAFETY: `ngx_init_modules` calls this hook with the new cycle, which has this module and which nothing can
        // reject any more, in the only thread.
        let main = unsafe { ngx::http_main_conf::<MainConf>(cycle, own_module()).as_mut() };
        let Some(main) = main else { return OK };
        // SAFETY: the cycle is live and has a log. `file` is a file of the cycle, or null if the log is not a file
        // (syslog, for example).
        let to_terminal = unsafe {
            let file = (*(*cycle).log).file;
            file.as_ref().is_some_and(|file| file.fd == libc::STDERR_FILENO)
        };
        for line in std::mem::take(&mut main.alarms).iter().filter(|_| !to_terminal) {
            // SAFETY: the log of a live cycle.
            unsafe { log::write_line((*cycle).log, line) };
        }
        if let Some(pending) = main.pending.take() {
            // SAFETY: `main` is the configuration of this cycle.
            for line in unsafe { pending.take_effect(cycle, main) } {
                // SAFETY: the log of a live cycle.
                unsafe { log::write_line((*cycle).log, &line) };
            }
        }
        OK
    })
}

/// `init_process`: a worker begins, and closes its copy of the master's claim to the records. nginx calls this only in
/// the build of the module that the configuration names.
pub(crate) unsafe extern "C" fn init_process(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    boundary::catch_request_hook("init_process", OK, || {
        if phase::has_master() {
            published::leave_to_parent_for_all_builds();
        }
        if phase::has_master() || phase::is_single() {
            // SAFETY: `ngx_worker_process_init`, or `ngx_single_process_cycle`, calls this hook with the cycle in
            // effect, which has this module.
            let main = unsafe { ngx::http_main_conf::<MainConf>(cycle, own_module()).as_ref() };
            main.and_then(|main| main.worker.as_ref()).into_iter().for_each(Worker::begin);
        }
        OK
    })
}

/// `exit_master`: the master ends, and with it the pins that its configuration publishes.
pub(crate) unsafe extern "C" fn exit_master(cycle: *mut ngx_cycle_t) {
    boundary::catch_request_hook("exit_master", (), || {
        // SAFETY: `ngx_master_process_exit` calls this hook with the cycle in effect, which has this module, before it
        // destroys the cycle's pool.
        let main = unsafe { ngx::http_main_conf::<MainConf>(cycle, own_module()).as_ref() };
        let Some(journal) = main.and_then(|main| main.journal.as_ref()) else { return };
        // If the new master of an upgrade ends first, the old one goes on with the pins.
        if phase::is_successor() {
            return;
        }
        if let Err(text) = journal.stop() {
            // SAFETY: the log of a live cycle.
            unsafe { log::write((*cycle).log, NGX_LOG_WARN, &text, None) };
        }
    });
}

/// The position of each context, and the session data for its certificates.
type Loaded = HashMap<ContextAddress, (usize, Vec<Presented>)>;

impl Pending {
    /// Records what the configuration publishes, and then makes the servers send it. Returns log lines about it.
    ///
    /// # Safety
    /// nginx calls `init_module` for `cycle`, of which `main` is this module's main configuration.
    unsafe fn take_effect(
        mut self,
        cycle: *const ngx_cycle_t,
        main: &mut MainConf,
    ) -> Vec<LogLine> {
        let journal = main.journal.as_ref();
        let finding = journal.and_then(|journal| {
            journal.record(&self.deployment, &mut self.verdict, phase::predecessor())
        });
        let mut findings: Vec<Finding> = finding.into_iter().collect();
        let guarded = guard::of_deployment(&self.deployment, |host| self.guard_of(host));
        let before = guard::kept_before(&guarded, &main.global);
        if let (Some(keep), Some(openssl), true) =
            (self.keeping.take(), &self.openssl, journal.is_some() && findings.is_empty())
        {
            findings.extend(keep.keep(&self.deployment, &self.verdict, openssl));
        }
        let mut lines: Vec<LogLine> =
            findings.iter().flat_map(|finding| failure::lines_after(finding, self.phase)).collect();
        if let Some(openssl) = self.openssl {
            self.send(openssl);
            // SAFETY: by the caller's promise.
            lines.extend(unsafe { self.guard(cycle, main, openssl, (guarded, &before)) });
        }
        lines
    }

    /// The server whose certificates a host presents.
    fn owner(&self, host: usize) -> Option<usize> {
        let context = self.deployment.hosts.get(host)?.contexts.first()?;
        let address = self.addresses.get(*context)?;
        self.servers.iter().position(|(_, own)| {
            own.is_some_and(|own| ContextAddress::from(own.cast_const()) == *address)
        })
    }

    /// The place of the directive that guards a host, and whether accepted certificates are kept in files.
    fn guard_of(&self, host: usize) -> Option<(Location, bool)> {
        self.guards.get(self.owner(host)?)?.clone()
    }

    /// Makes workers guard the certificates that variables name for these hosts. `before` are the certificates that
    /// were kept so far. Returns log lines about it.
    ///
    /// # Safety
    /// As for [`Pending::take_effect`].
    unsafe fn guard(
        self,
        cycle: *const ngx_cycle_t,
        main: &mut MainConf,
        openssl: OpenSsl,
        (guarded, before): (Vec<(usize, GuardedHost)>, &[Text]),
    ) -> Vec<LogLine> {
        let mut hosts = Vec::new();
        for (position, host) in guarded {
            // SAFETY: by the caller's promise the cycle, which has the objects in `servers`, is live. Only this thread
            // uses them, and no reference to any of them is in use.
            unsafe {
                let Some(values) = self.owner(position).and_then(|at| (*self.servers[at].0).given)
                else {
                    continue;
                };
                let (conf, _) = self.servers[position];
                (*conf).guarded = Some(Guarded { host: hosts.len(), values });
            }
            hosts.push(host);
        }
        if hosts.is_empty() {
            return guard::give_up(&main.global);
        }
        let sight = main.sight.take().unwrap_or_else(|| Sight::new(&main.global.published));
        // SAFETY: by the caller's promise; `zone` is null or the zone that `guard::add_zone` got for this cycle.
        let (worker, lines) = unsafe {
            let checked = (self.deployment, sight, before);
            Worker::new(cycle, (main.zone, &main.global), openssl, hosts, checked)
        };
        main.worker = worker;
        lines
    }

    /// Makes each server send its fields.
    fn send(&mut self, openssl: OpenSsl) {
        self.replaceable.sort_unstable_by_key(|of| of.context);
        let replaceable: Rc<[Replaceable]> = std::mem::take(&mut self.replaceable).into();
        let loaded = self.loaded();
        let fields = sending::fields(&self.deployment, &self.verdict, &self.addresses);
        let hosts = fields.into_iter().zip(&self.verdict.hosts);
        let mut sends = false;
        for (position, ((conf, own), (fields, host))) in self.servers.iter().zip(hosts).enumerate()
        {
            let own = own.map(|own| ContextAddress::from(own.cast_const()));
            let presents = own.and_then(|own| loaded.get(&own));
            let presents = presents.map_or(&[][..], |(_, presents)| presents.as_slice());
            let names = host.header_names.clone();
            let own = (own, presents);
            let (replaceable, withheld) = (replaceable.clone(), self.withheld(position));
            let response = Response::new(openssl, fields, own, names, replaceable, withheld);
            sends |= response.is_some();
            // SAFETY: `take_effect` calls this in `init_module`: the cycle that has the object is live, only this
            // thread uses it, and no reference to the object is in use.
            unsafe { (**conf).response = response };
        }
        if sends {
            self.watch(&openssl, &loaded);
        }
    }

    /// The counter of withheld headers for a host whose certificate is chosen during the handshake.
    fn withheld(&self, host: usize) -> Option<Withheld> {
        let is_guarded = self.deployment.guarded.contains(&host);
        let is_counted = is_guarded || self.deployment.unguarded.contains(&host);
        let code = match is_guarded {
            true => Code::CertificateCheckedAtHandshake,
            false => Code::CertificateNotGuarded,
        };
        let host = self.deployment.hosts.get(host).filter(|_| is_counted)?;
        Some(Withheld::new(code, &host.label, &host.enforced.as_ref()?.policy))
    }

    /// The position of each context, and the session data for its certificates. Empty if these are not known.
    fn loaded(&self) -> Loaded {
        let of = |pins: &Vec<Pin>| Presented::new(Origin::Loaded, pins);
        let paths = self.verdict.paths.iter().map(|paths| paths.iter().map(of).collect());
        self.addresses.iter().copied().zip(paths.enumerate()).collect()
    }

    /// Has what connections present written into their sessions.
    fn watch(&self, openssl: &OpenSsl, loaded: &Loaded) {
        for own in self.servers.iter().filter_map(|(_, own)| *own) {
            let address = ContextAddress::from(own.cast_const());
            let Some((position, presents)) = loaded.get(&address) else { continue };
            let trust = &self.deployment.contexts[*position].trust;
            let is_asked =
                !(self.deployment.unguarded.is_empty() && self.deployment.guarded.is_empty());
            let chosen = is_asked.then(|| ChosenCertificates::new(trust.clone()));
            // SAFETY: `take_effect` calls this in `init_module`: the context is live, and no connection uses it yet.
            // The file of this module stays loaded as long as the process (see build.rs).
            unsafe {
                let certificates = openssl.certificates_of(own);
                let is_whole = certificates.len() == presents.len();
                let loaded = certificates.into_iter().zip(presents.iter().cloned());
                let loaded = loaded.filter(|_| is_whole).collect();
                openssl.watch(own, Watch::new(loaded, chosen, boundary::report_alert));
            }
        }
    }
}
