//! The object with which a worker guards certificates. The master makes it when a configuration takes effect, and each
//! worker inherits a copy.

use std::cell::RefCell;
use std::collections::BTreeSet;

use hpkp_core::check::{Certificates, Deployment};
use hpkp_core::finding::{self, Code, Finding};
use hpkp_server::failure::{self, LogLine};
use hpkp_server::guard::{
    self, Chosen, Files, Guard, GuardedHost, Judge, Notice, Question, Sight, Text,
};
use hpkp_server::journal;
use hpkp_server::kept::index::HostPort;
use hpkp_server::openssl::OpenSsl;
use hpkp_server::setting::GlobalSettings;
use nginx_sys::{
    NGX_LOG_WARN, ngx_cached_time, ngx_core_conf_t, ngx_core_module, ngx_cycle, ngx_cycle_t,
    ngx_log_t, ngx_shm_zone_t,
};

use super::zone::Zone;
use crate::log;

/// Guards certificates in one worker.
pub(crate) struct Worker {
    pub(super) openssl: OpenSsl,
    guard: RefCell<Guard>,
    zone: Zone,
    files: Option<Files>,
}

/// The guarded hosts of a deployment, by their positions.
pub(crate) fn of_deployment(
    deployment: &Deployment,
    settings: impl Fn(usize) -> Option<(hpkp_core::finding::Location, bool)>,
) -> Vec<(usize, GuardedHost)> {
    let policies = deployment.policies_by_name();
    let host = |position: usize| {
        let host = deployment.hosts.get(position)?;
        let context = deployment.contexts.get(*host.contexts.first()?)?;
        debug_assert!(matches!(context.certificates, Certificates::NotKnown { .. }));
        let (at, is_kept) = settings(position)?;
        let listeners = deployment.listeners.iter();
        let listeners = listeners.filter(|listener| listener.hosts.contains(&position));
        let policy =
            host.enforced.as_ref().and_then(|policy_use| policies.get(policy_use.policy.as_str()));
        // Keywords have no pins here, because no certificate is loaded.
        let is_compared = policy.is_some_and(|policy| !policy.has_keywords());
        Some(GuardedHost {
            label: host.label.clone(),
            names: host.names.iter().map(|name| name.to_ascii_lowercase()).collect(),
            ports: listeners.map(|listener| listener.port).collect(),
            trust: context.trust.clone(),
            check: host.check,
            enforced: host.enforced.clone().filter(|_| is_compared),
            is_kept,
            at,
        })
    };
    deployment.guarded.iter().filter_map(|position| Some((*position, host(*position)?))).collect()
}

impl Worker {
    /// The guard for workers of `cycle`, and log lines about it.
    ///
    /// # Safety
    /// nginx calls `init_module` for `cycle`, and `zone` is null or the zone of that cycle.
    pub(crate) unsafe fn new(
        cycle: *const ngx_cycle_t,
        (zone, global): (*mut ngx_shm_zone_t, &GlobalSettings),
        openssl: OpenSsl,
        hosts: Vec<GuardedHost>,
        (deployment, sight, before): (Deployment, Sight, &[Text]),
    ) -> (Option<Self>, Vec<LogLine>) {
        // SAFETY: by the caller's promise.
        let Some(zone) = (unsafe { Zone::new(zone) }) else { return (None, Vec::new()) };
        let is_kept = hosts.iter().any(|host| host.is_kept);
        // SAFETY: by the caller's promise the cycle is live.
        let owner = unsafe { owner(cycle) };
        let files = is_kept.then(|| prepare(global, owner, before)).flatten();
        let (files, lines) = match files {
            Some(Ok(files)) => (Some(files), Vec::new()),
            Some(Err(finding)) => (None, failure::lines_of_alarm(&finding).collect()),
            None => (None, Vec::new()),
        };
        let guard = RefCell::new(Guard::new(Judge::new(openssl, hosts, deployment, sight)));
        (Some(Self { openssl, guard, zone, files }), lines)
    }

    /// Chooses the certificate of a handshake.
    pub(super) fn choose(&self, question: Question<'_>) -> Chosen {
        let now = question.now;
        let chosen = self.guard.borrow_mut().choose(question, &self.zone);
        for notice in &chosen.notices {
            self.log_if_due(notice, now);
        }
        if chosen.is_changed {
            self.write();
        }
        chosen
    }

    fn log_if_due(&self, notice: &Notice, now: i64) {
        if !self.zone.is_due(&notice.about, notice.tag, notice.interval, now) {
            return;
        }
        // SAFETY: a process that serves clients has a cycle in effect, with a log.
        let log: *mut ngx_log_t = unsafe { (*ngx_cycle).log };
        match &notice.finding {
            Some(finding) => {
                for line in failure::lines_of_alarm(finding) {
                    // SAFETY: the log of a live cycle.
                    unsafe { log::write_line(log, &line) };
                }
            }
            None => {
                let name = notice.about.split('/').next().unwrap_or_default();
                let text = format!(
                    "hpkp: {name}: the certificate that hpkp_guard is given is presented again: clients \
                     accept it"
                );
                // SAFETY: the log of a live cycle.
                unsafe { log::write(log, NGX_LOG_WARN, &text, None) };
            }
        }
    }

    /// Writes the content of the shared memory to the files.
    fn write(&self) {
        let Some(files) = &self.files else { return };
        if let Err(why) = files.write(|| self.zone.texts()) {
            self.report_files(&why);
        }
    }

    fn report_files(&self, why: &str) {
        // SAFETY: `ngx_time_init` points `ngx_cached_time` to a static array before nginx reads a configuration.
        let now = unsafe { (*ngx_cached_time).sec };
        if let Some(notice) = self.guard.borrow().not_written(why) {
            self.log_if_due(&notice, now);
        }
    }

    /// Called when a worker begins: loads the certificates that were kept before the start.
    pub(crate) fn begin(&self) {
        let Some(files) = &self.files else { return };
        match files.read() {
            Ok(texts) => self.zone.load(&texts),
            Err(why) => return self.report_files(&why),
        }
        self.write();
    }
}

/// The directory for workers; none if none is configured, or if this server writes no records.
fn prepare(
    global: &GlobalSettings,
    owner: Option<(u32, u32)>,
    before: &[Text],
) -> Option<Result<Files, Finding>> {
    let setting = global.keep.as_ref()?;
    // The check has reported a directory that cannot be used.
    let writer = journal::writer_of(&global.published)?;
    let prepared = Files::prepare(setting, &writer, owner)
        .and_then(|files| files.adopt(before, owner).map(|()| files));
    Some(prepared.map_err(|why| {
        let text = finding::Text::new(format!(
            "workers cannot keep the last good certificates of hpkp_guard in a file, so a restart forgets \
             them: {why}"
        ));
        let mut finding = Finding::new(Code::CertificateNotKept, setting.at.clone(), text);
        finding.add_host("-");
        finding
    }))
}

/// The certificates that were kept for the guarded hosts while their certificates were loaded with the configuration.
/// They must be read before they are removed: the master does not know any more what these hosts present.
pub(crate) fn kept_before(guarded: &[(usize, GuardedHost)], global: &GlobalSettings) -> Vec<Text> {
    let (Some(setting), Some(writer)) = (&global.keep, journal::writer_of(&global.published))
    else {
        return Vec::new();
    };
    let kept = guarded.iter().map(|(_, host)| host).filter(|host| host.is_kept);
    let hosts: BTreeSet<HostPort> =
        kept.flat_map(|host| host.names.iter().map(|name| host.slot(name))).collect();
    if hosts.is_empty() { Vec::new() } else { guard::kept_before(setting, &writer, &hosts) }
}

/// Removes the kept certificates of workers if no host is guarded any more. Returns log lines about it.
pub(crate) fn give_up(global: &GlobalSettings) -> Vec<LogLine> {
    let (Some(setting), Some(writer)) = (&global.keep, journal::writer_of(&global.published))
    else {
        return Vec::new();
    };
    let Err(why) = Files::remove_all(setting, &writer) else { return Vec::new() };
    let text = finding::Text::new(format!(
        "the last good certificates of an earlier hpkp_guard cannot be removed: {why}"
    ));
    let mut finding = Finding::new(Code::CertificateNotKept, setting.at.clone(), text);
    finding.add_host("-");
    failure::lines_of_alarm(&finding).collect()
}

/// The user and group of workers, if they differ from those of the master.
///
/// # Safety
/// `cycle` is live.
unsafe fn owner(cycle: *const ngx_cycle_t) -> Option<(u32, u32)> {
    // SAFETY: geteuid takes no argument and always succeeds.
    if unsafe { libc::geteuid() } != 0 {
        return None;
    }
    // SAFETY: by the caller's promise; `ngx_core_module` has a `create_conf`, so its slot has an `ngx_core_conf_t`.
    let core: &ngx_core_conf_t =
        unsafe { &*(*(*cycle).conf_ctx.add(ngx_core_module.index)).cast() };
    // Without a master process there is one process, which keeps its user.
    (core.master != 0).then_some((core.user, core.group))
}
