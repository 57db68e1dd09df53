//! Chooses the certificate that is presented at a handshake.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::rc::Rc;

use hpkp_core::check::Alarm;
use hpkp_core::finding::Check;
use hpkp_core::published::Fingerprint;

use super::given::{Given, Pair};
use super::judge::{Judge, Judged};
use super::notice::Notice;
use super::store::{Kept, Store};
use super::words;
use crate::kept::pair;

/// The most hosts for which a worker remembers that the store has the current certificate.
const MAX_NOTED: usize = 256;

/// A handshake that needs a certificate.
#[derive(Debug)]
pub struct Question<'a> {
    /// The server that answers, by its position.
    pub host: usize,
    /// The host that the client names, in lower case; empty if it names none.
    pub name: &'a str,
    /// The values of the variables, or why they cannot be read.
    pub given: Result<Given<'a>, String>,
    /// Seconds since 1970 UTC.
    pub now: i64,
}

/// The certificate for a handshake, and what the worker has to do.
#[derive(Debug, Default)]
pub struct Chosen {
    /// The certificate to present; none if nginx uses the values of the variables itself.
    pub pair: Option<Rc<Pair>>,
    /// Notices for the log, each of which is repeated only after its interval.
    pub notices: Vec<Notice>,
    /// Whether the store has changed, so that its files must be written.
    pub is_changed: bool,
}

/// Chooses the certificate that is presented.
#[derive(Debug)]
pub struct Guard {
    judge: Judge,
    /// The certificate that the store had for a host, and the generation of the store at that time.
    noted: HashMap<(usize, Box<str>), (Fingerprint, u64)>,
}

/// Why the given certificate is not presented.
enum Fault {
    /// No client can use it.
    Unusable(String),
    /// Clients would refuse it.
    LocksOut(Rc<Judged>),
}

impl Guard {
    /// A guard that compares certificates by `judge`.
    #[must_use]
    pub fn new(judge: Judge) -> Self {
        Self { judge, noted: HashMap::new() }
    }

    /// The notice that files cannot be read or written.
    #[must_use]
    pub fn not_written(&self, why: &str) -> Option<Notice> {
        words::not_written(&self.judge, why)
    }

    /// Chooses the certificate to present.
    pub fn choose(&mut self, question: Question<'_>, store: &dyn Store) -> Chosen {
        let Question { host, name, given, now } = question;
        let mut chosen = Chosen::default();
        self.refresh(host, now, false, &mut chosen);
        let (pair, unread) = match given {
            Ok(given) => (Some(self.judge.given(&given)), None),
            Err(why) => (None, Some(why)),
        };
        let asked = self.judge.asked(host, name, pair.as_deref());
        let fault = match unread.or_else(|| unusable(pair.as_deref()?, now)) {
            Some(why) => Some(Fault::Unusable(why)),
            None => self
                .locks_out((host, &asked), pair.as_deref(), (now, store), &mut chosen)
                .map(Fault::LocksOut),
        };
        let Some(fault) = fault else {
            if let Some(pair) = &pair {
                self.accept((host, &asked), pair, now, store, &mut chosen);
            }
            chosen.pair = pair;
            return chosen;
        };
        // A certificate that cannot be loaded is left to nginx, which reports why.
        let loads = pair.as_ref().is_some_and(|pair| pair.chain.is_ok());
        chosen.pair = pair.filter(|_| loads);
        let given = chosen.pair.clone();
        let reasons = if self.judge.hosts[host].check == Check::Warn {
            vec!["hpkp_check warn".to_owned()]
        } else {
            let before = store.generation();
            let found = self.last_good(host, name, (given.as_deref(), &fault), now, store);
            // `last_good` removes certificates from the store that must not be presented any more.
            chosen.is_changed |= store.generation() != before;
            match found {
                Ok(kept) => {
                    let (why, details) = fault.words();
                    let text = words::Served { given: given.as_deref(), kept: &kept, why, details };
                    chosen.notices.push(words::served(&self.judge, (host, &asked), &text, now));
                    chosen.pair = Some(kept);
                    return chosen;
                }
                Err(reasons) => reasons,
            }
        };
        let (why, details) = fault.words();
        let text = words::NotUsed { given: given.as_deref(), why, details, reasons: &reasons };
        chosen.notices.push(words::not_used(&self.judge, (host, &asked), &text));
        chosen
    }

    /// Reads the records again if they have changed. They are examined at intervals, or if `must_look`.
    fn refresh(&mut self, host: usize, now: i64, must_look: bool, chosen: &mut Chosen) {
        if let Err(why) = self.judge.refresh(now, must_look) {
            chosen.notices.push(words::records_unread(&self.judge, host, &why));
        }
    }

    /// The findings about the given certificate, if clients would refuse it.
    fn locks_out(
        &mut self,
        (host, asked): (usize, &str),
        pair: Option<&Pair>,
        (now, store): (i64, &dyn Store),
        chosen: &mut Chosen,
    ) -> Option<Rc<Judged>> {
        let pair = pair?;
        let mut judged = self.judge.judge(host, asked, pair, now);
        let is_noted =
            self.noted.get(&(host, Box::from(asked))) == Some(&(pair.id, store.generation()));
        // The certificate is about to become the last good one, so the newest records must be read first. If the store
        // has changed, another worker may have accepted another certificate meanwhile.
        if judged.alarms.is_empty() && !is_noted {
            self.refresh(host, now, true, chosen);
            judged = self.judge.judge(host, asked, pair, now);
        }
        (!judged.alarms.is_empty()).then_some(judged)
    }

    /// Notes that clients accept a certificate.
    fn accept(
        &mut self,
        (host, asked): (usize, &str),
        pair: &Pair,
        now: i64,
        store: &dyn Store,
        chosen: &mut Chosen,
    ) {
        let key = (host, Box::from(asked));
        if self.noted.get(&key) == Some(&(pair.id, store.generation())) {
            return;
        }
        chosen.notices.push(words::good(&self.judge, (host, asked)));
        let slot = self.judge.slot(host, asked);
        let is_there = |kept: &Kept| kept.id == pair.id && kept.hosts.contains(&slot);
        if !store.list().iter().any(is_there) {
            let chain = pair.chain.as_ref().map(|chain| chain.certificates()).unwrap_or_default();
            // An expired certificate is useless later, and one with a compromised key must not be presented again.
            if let Some(why) = pair::why_not(chain, self.judge.state(), now) {
                chosen.notices.push(words::not_kept(&self.judge, (host, asked), pair, &why));
            } else if store.keep(&slot, pair, now, !self.judge.hosts[host].is_kept).is_err() {
                let why = "not enough memory";
                chosen.notices.push(words::not_kept(&self.judge, (host, asked), pair, why));
            } else {
                chosen.is_changed = true;
            }
        }
        if self.noted.len() >= MAX_NOTED {
            self.noted.clear();
        }
        self.noted.insert(key, (pair.id, store.generation()));
    }

    /// The last good certificate for clients that name this host.
    fn last_good(
        &mut self,
        host: usize,
        name: &str,
        (given, fault): (Option<&Pair>, &Fault),
        now: i64,
        store: &dyn Store,
    ) -> Result<Rc<Pair>, Vec<String>> {
        let nearest = [name.to_owned(), self.judge.asked(host, name, given), String::new()];
        let slots = nearest.map(|asked| self.judge.slot(host, &asked));
        let rank =
            |kept: &Kept| slots.iter().position(|slot| kept.hosts.contains(slot)).unwrap_or(OTHER);
        let mut all: Vec<(usize, Kept)> =
            store.list().into_iter().map(|kept| (rank(&kept), kept)).collect();
        all.sort_by_key(|(rank, kept)| (*rank, Reverse(kept.accepted)));
        let mut reasons = Vec::new();
        let mut second = None;
        for (rank, kept) in all {
            if given.is_some_and(|given| given.id == kept.id) {
                continue;
            }
            let pair = self.judge.pair(kept.id, || store.text(kept.id));
            let Some(pair) = pair.filter(|pair| pair.chain.is_ok()) else {
                store.forget(kept.id);
                continue;
            };
            let is_for = |leaf: &hpkp_core::certificate::Certificate| match name {
                "" => self.judge.hosts[host].names.iter().any(|name| leaf.is_for(name)),
                name => leaf.is_for(name),
            };
            // A certificate that was kept for another host may be valid for this one as well.
            if rank == OTHER && !pair.leaf().is_some_and(|leaf| is_for(leaf)) {
                continue;
            }
            let chain = pair.chain.as_ref().map(|chain| chain.certificates()).unwrap_or_default();
            if let Some(why) = pair::why_not(chain, self.judge.state(), now) {
                reasons.push(why);
                store.forget(kept.id);
                continue;
            }
            let asked = self.judge.asked(host, name, Some(&pair));
            let judged = self.judge.judge(host, &asked, &pair, now);
            if judged.alarms.is_empty() {
                return Ok(pair);
            }
            if rank != OTHER && second.is_none() && fault.is_as_bad(&judged.alarms) {
                second = Some(pair);
            } else {
                let why = "clients would be locked out by the last good certificate, too";
                reasons.push(why.to_owned());
            }
        }
        if reasons.is_empty() {
            reasons.push("none was kept for this host".to_owned());
        }
        second.ok_or(reasons)
    }
}

/// The rank of certificates that were kept for another host.
const OTHER: usize = 3;

/// Why no client can use a certificate; none if clients can.
fn unusable(pair: &Pair, now: i64) -> Option<String> {
    let chain = match &pair.chain {
        Err(why) => return Some(why.clone()),
        Ok(chain) => chain,
    };
    // Only the leaf's expiry matters: clients find paths without an expired certificate above it.
    let leaf = chain.leaf();
    if leaf.not_after() < now {
        return Some(format!("it has expired ({})", leaf.not_after_text()));
    }
    (now < leaf.not_before()).then(|| "it is not valid yet".to_owned())
}

impl Fault {
    /// Whether the given certificate has all of these alarms as well.
    fn is_as_bad(&self, alarms: &[Alarm]) -> bool {
        match self {
            Self::Unusable(_) => true,
            Self::LocksOut(judged) => alarms.iter().all(|alarm| judged.alarms.contains(alarm)),
        }
    }

    /// Why the given certificate is not presented: a clause, and detail lines.
    fn words(&self) -> (String, &[String]) {
        match self {
            Self::Unusable(why) => (format!("cannot be used ({why})"), &[]),
            Self::LocksOut(judged) => ("would lock clients out".to_owned(), &judged.reasons),
        }
    }
}
