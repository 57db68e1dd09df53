//! What a server's responses need, made once when its configuration takes effect.

use std::rc::Rc;
use std::sync::Arc;

use hpkp_core::check::NameSet;
use hpkp_core::header::Kind;
use hpkp_server::openssl::{CertificateAddress, OpenSsl};
use hpkp_server::sending::{ContextAddress, Field};
use nginx_sys::ngx_table_elt_t;

use crate::ngx::string;

/// What a server's responses need.
pub(crate) struct Response {
    pub(crate) openssl: OpenSsl,
    pub(crate) enforced: Option<Prepared>,
    pub(crate) report_only: Option<Prepared>,
    /// The hosts for which the enforced policy may be sent, where others come here too.
    pub(crate) names: Option<Arc<NameSet>>,
    /// Sorted by their contexts.
    pub(crate) replaceable: Rc<[Replaceable]>,
}

impl Response {
    /// None where no field is ever to be sent or withheld. `own` is the server's own context, `names`
    /// the hosts for which the enforced policy may be sent.
    pub(crate) fn new(
        openssl: OpenSsl,
        fields: Vec<Field>,
        own: Option<ContextAddress>,
        names: Option<Arc<NameSet>>,
        replaceable: Rc<[Replaceable]>,
    ) -> Option<Self> {
        let is_fixed =
            |own: &ContextAddress| replaceable.binary_search_by_key(own, |of| of.context).is_err();
        let own = own.filter(is_fixed);
        let mut response = Self { openssl, enforced: None, report_only: None, names, replaceable };
        for field in fields {
            let (place, usual) = match field.kind() {
                // Where others come here too, the context is not all that decides.
                Kind::Enforced => {
                    (&mut response.enforced, own.filter(|_| response.names.is_none()))
                }
                Kind::ReportOnly => (&mut response.report_only, own),
            };
            *place = Some(Prepared::new(field, usual));
        }
        (response.enforced.is_some() || response.report_only.is_some()).then_some(response)
    }
}

/// A field and what puts it into a response, made once.
pub(crate) struct Prepared {
    pub(crate) field: Field,
    /// The context on whose connections it is sent most: looked at before the table. None where that
    /// is not all that decides.
    pub(crate) usual: Option<ContextAddress>,
    /// Its strings are static, or in the header that `field` holds.
    pub(crate) element: ngx_table_elt_t,
}

impl Prepared {
    /// `own` is the server's own context, if it has one whose certificates cannot be replaced.
    pub(crate) fn new(field: Field, own: Option<ContextAddress>) -> Self {
        let lower_case = match field.kind() {
            Kind::Enforced => "public-key-pins",
            Kind::ReportOnly => "public-key-pins-report-only",
        };
        let element = ngx_table_elt_t {
            hash: 1,
            key: string(field.kind().field_name()),
            // A field that is withheld is never put in.
            value: string(field.value().unwrap_or_default()),
            lowcase_key: lower_case.as_ptr().cast_mut(),
            #[cfg(ngx_table_elt_next)]
            next: std::ptr::null_mut(),
        };
        let usual = own.filter(|context| field.is_sent_on(*context));
        Self { field, usual, element }
    }
}

/// A context whose certificates other code can replace on a connection, and what was loaded for it.
pub(crate) struct Replaceable {
    pub(crate) context: ContextAddress,
    pub(crate) loaded: Vec<CertificateAddress>,
    /// Whether that code does not run when a session is resumed, so that the connection says nothing
    /// of the certificate that its client has seen.
    pub(crate) unseen: bool,
}
