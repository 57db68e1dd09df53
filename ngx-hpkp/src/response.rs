//! The data that a server's responses need, made once when its configuration takes effect.

use std::rc::Rc;
use std::sync::Arc;

use hpkp_core::check::NameSet;
use hpkp_core::header::Kind;
use hpkp_server::openssl::{CertificateAddress, OpenSsl};
use hpkp_server::presented::{Presented, PresentedId, SessionData};
use hpkp_server::sending::{ContextAddress, Field};
use nginx_sys::ngx_table_elt_t;

use crate::ngx::string;
use crate::withheld::Withheld;

/// What a server's responses need.
pub(crate) struct Response {
    pub(crate) openssl: OpenSsl,
    pub(crate) enforced: Option<Prepared>,
    pub(crate) report_only: Option<Prepared>,
    /// The hosts for which the enforced policy may be sent, if clients also reach the server by other names.
    pub(crate) names: Option<Arc<NameSet>>,
    /// The contexts whose certificates other code can replace, sorted.
    pub(crate) replaceable: Rc<[Replaceable]>,
    /// Counts responses without the enforced policy's header, if they are counted.
    pub(crate) withheld: Option<Withheld>,
}

impl Response {
    /// None if the server never sends or withholds a field. `own` is the server's own context and its session data,
    /// `names` the hosts for which the enforced policy may be sent.
    pub(crate) fn new(
        openssl: OpenSsl,
        fields: Vec<Field>,
        (own, presents): (Option<ContextAddress>, &[Presented]),
        names: Option<Arc<NameSet>>,
        replaceable: Rc<[Replaceable]>,
        withheld: Option<Withheld>,
    ) -> Option<Self> {
        let (enforced, report_only) = (None, None);
        let mut response = Self { openssl, enforced, report_only, names, replaceable, withheld };
        for field in fields {
            match field.kind() {
                Kind::Enforced => {
                    let mut satisfying = presents.iter().map(Presented::session_data);
                    let usual = satisfying.find(|data| field.is_sent_with(*data));
                    // If clients also reach the server by other names, the host decides as well.
                    let usual = usual.filter(|_| response.names.is_none());
                    let usual =
                        usual.and_then(SessionData::id).map_or(Usual::None, Usual::Presented);
                    response.enforced = Some(Prepared::new(field, usual));
                }
                Kind::ReportOnly => {
                    let own = own.filter(|own| field.is_sent_on(*own));
                    let usual = own.map_or(Usual::None, Usual::Context);
                    response.report_only = Some(Prepared::new(field, usual));
                }
            }
        }
        (response.enforced.is_some() || response.report_only.is_some()).then_some(response)
    }
}

/// The connections on which a field is sent most often. They are tested first, before the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usual {
    /// No connections are tested first.
    None,
    /// Connections whose session data have this id.
    Presented(PresentedId),
    /// Connections that use this context.
    Context(ContextAddress),
}

/// A field and its element for nginx's header list, made once.
pub(crate) struct Prepared {
    pub(crate) field: Field,
    pub(crate) usual: Usual,
    /// Its strings are static, or in the header that `field` holds.
    pub(crate) element: ngx_table_elt_t,
}

impl Prepared {
    fn new(field: Field, usual: Usual) -> Self {
        let lower_case = match field.kind() {
            Kind::Enforced => "public-key-pins",
            Kind::ReportOnly => "public-key-pins-report-only",
        };
        let element = ngx_table_elt_t {
            hash: 1,
            key: string(field.kind().field_name()),
            // A withheld field is never added to a response.
            value: string(field.value().unwrap_or_default()),
            lowcase_key: lower_case.as_ptr().cast_mut(),
            #[cfg(ngx_table_elt_next)]
            next: std::ptr::null_mut(),
        };
        Self { field, usual, element }
    }
}

/// A context whose certificates other code can replace on a connection, and the certificates that were loaded for it.
pub(crate) struct Replaceable {
    pub(crate) context: ContextAddress,
    pub(crate) loaded: Vec<CertificateAddress>,
    /// Whether that code does not run when a session is resumed, so that the connection does not tell which
    /// certificate its client got.
    pub(crate) unseen: bool,
}
