//! The module's configuration: one object for `http`, one for each server.

use std::collections::HashMap;
use std::ffi::{c_char, c_void};
use std::ptr;
use std::sync::Arc;

use hpkp_core::check::{Alarm, NameSet, NotServedHere, Serving};
use hpkp_core::finding::{Check, Location};
use hpkp_core::header::Kind;
use hpkp_core::pin::Pin;
use hpkp_core::policy::PolicySpec;
use hpkp_core::published::CertificateIdentity;
use hpkp_server::failure::{LogLine, OnStart};
use hpkp_server::journal::Journal;
use hpkp_server::openssl::OpenSsl;
use hpkp_server::public_port::PublicPorts;
use hpkp_server::sending::{ContextAddress, Field};
use hpkp_server::setting::{RecordsSetting, UseSetting};
use nginx_sys::ngx_conf_t;

use crate::boundary::{self, Aftermath};
use crate::effect::Pending;
use crate::filter::{self, Prepared};
use crate::ngx::{self, CONF_ERROR, CONF_OK};

/// What stands in `http`, once.
#[derive(Default)]
pub(crate) struct MainConf {
    /// In the order in which they are defined.
    pub(crate) policies: Vec<PolicySpec>,
    pub(crate) on_start: Option<OnStart>,
    /// The directories with records of published pins.
    pub(crate) published: Vec<RecordsSetting>,
    /// By which ports clients reach this server, where these are not its own.
    pub(crate) public_ports: PublicPorts,
    /// The hosts that clients do not reach here.
    pub(crate) not_served_here: Vec<NotServedHere>,
    /// Whether the check waits until all blocks have been read, see `late`.
    pub(crate) is_deferred: bool,
    /// How many of these blocks had not been met when `http` ended.
    pub(crate) blocks_to_come: usize,
    /// Where this configuration's own records are.
    pub(crate) journal: Option<Journal>,
    /// What is to be done once nothing can refuse the configuration any more.
    pub(crate) pending: Option<Pending>,
    /// What was said at a start, to be repeated once the error log is open.
    pub(crate) alarms: Vec<LogLine>,
    /// What this configuration presents, by server, for the reload after it.
    pub(crate) served: HashMap<ServerKey, Served>,
}

/// What a server is known by from one configuration to the next: its names and its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ServerKey {
    pub(crate) names: Vec<String>,
    pub(crate) addresses: Vec<String>,
}

/// What a server presents.
pub(crate) struct Served {
    /// Whether all that it presents could be read.
    pub(crate) is_known: bool,
    pub(crate) leaves: Vec<Serving>,
    /// What tells the certificates that it sends from others: the key of each leaf, and what is above.
    pub(crate) chains: Vec<(Option<Pin>, CertificateIdentity)>,
    /// The pins of its policies.
    pub(crate) pins: Vec<Pin>,
    /// What the check found and the configuration goes on with.
    pub(crate) alarms: Vec<Alarm>,
}

impl Served {
    /// Whether clients see the same certificates and are told the same pins.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.is_known && other.is_known && self.chains == other.chains && self.pins == other.pins
    }
}

/// What stands in a server, or in `http` for the servers that do not say otherwise.
#[derive(Default)]
pub(crate) struct ServerConf {
    pub(crate) enforced: UseSetting,
    pub(crate) report_only: UseSetting,
    pub(crate) check: Option<Check>,
    /// The file of `hpkp_trusted_certificate` and where the directive stands.
    pub(crate) trusted: Option<(String, Location)>,
    /// What is sent; filled in once the configuration has been accepted.
    pub(crate) response: Option<Response>,
}

/// What a server's responses need.
pub(crate) struct Response {
    pub(crate) openssl: OpenSsl,
    pub(crate) enforced: Option<Prepared>,
    pub(crate) report_only: Option<Prepared>,
    /// The hosts for which the enforced policy may be sent, where others come here too.
    pub(crate) names: Option<Arc<NameSet>>,
}

impl Response {
    /// None where no field is ever to be sent or withheld. `own` is the server's own context, `names`
    /// the hosts for which the enforced policy may be sent.
    pub(crate) fn new(
        openssl: OpenSsl,
        fields: Vec<Field>,
        own: Option<ContextAddress>,
        names: Option<Arc<NameSet>>,
    ) -> Option<Self> {
        let mut response = Self { openssl, enforced: None, report_only: None, names };
        for field in fields {
            let place = match field.kind() {
                Kind::Enforced => &mut response.enforced,
                Kind::ReportOnly => &mut response.report_only,
            };
            *place = Some(Prepared::new(field, own));
        }
        (response.enforced.is_some() || response.report_only.is_some()).then_some(response)
    }
}

pub(crate) unsafe extern "C" fn create_main(cf: *mut ngx_conf_t) -> *mut c_void {
    boundary::reset();
    filter::prepare();
    // SAFETY: nginx hands every hook a live `cf`.
    unsafe { create::<MainConf>("create_main_conf", cf) }
}

pub(crate) unsafe extern "C" fn create_server(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: nginx hands every hook a live `cf`.
    unsafe { create::<ServerConf>("create_srv_conf", cf) }
}

/// # Safety
/// `cf` is live.
unsafe fn create<T: Default>(hook: &str, cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: by the caller's promise; the pool lives as long as the configuration.
    let make = || unsafe { ngx::keep((*cf).pool, T::default()) };
    let after = |aftermath| match aftermath {
        Aftermath::Refuse => ptr::null_mut(),
        Aftermath::GoOn => make(),
    };
    boundary::configuring(hook, after, make).cast()
}

pub(crate) unsafe extern "C" fn merge_server(
    _cf: *mut ngx_conf_t,
    outer: *mut c_void,
    inner: *mut c_void,
) -> *mut c_char {
    let after = |aftermath| match aftermath {
        Aftermath::Refuse => CONF_ERROR,
        Aftermath::GoOn => CONF_OK,
    };
    boundary::configuring("merge_srv_conf", after, || {
        // SAFETY: nginx hands over what `create_server` made, two different objects.
        let (outer, inner) =
            unsafe { (&*outer.cast::<ServerConf>(), &mut *inner.cast::<ServerConf>()) };
        inner.enforced.inherit(&outer.enforced);
        inner.report_only.inherit(&outer.report_only);
        inner.check = inner.check.or(outer.check);
        if inner.trusted.is_none() {
            inner.trusted.clone_from(&outer.trusted);
        }
        CONF_OK
    })
}
