//! Servers with TLS from another module than mod_ssl, whose certificates cannot be read.

use hpkp_core::check::{Deployment, Noticed};
use hpkp_core::finding::{Code, Location, Text};
use hpkp_core::text::Excerpt;

/// The directives that configure TLS of another module for a server, each with the module's name.
const DIRECTIVES: [(&str, &str); 3] =
    [("GnuTLSEnable", "mod_gnutls"), ("NSSEngine", "mod_nss"), ("TLSEngine", "mod_tls")];

/// The servers of other modules, as far as the directives tell.
#[derive(Debug, Default)]
pub struct OtherTls(Vec<(&'static str, String, Location)>);

impl OtherTls {
    /// Reads a directive, if it is one of these; `arguments` returns its words and its place.
    pub fn read(&mut self, name: &str, arguments: impl FnOnce() -> (Vec<String>, Location)) {
        let is_it = |(directive, _): &&(&str, &str)| directive.eq_ignore_ascii_case(name);
        let Some((directive, module)) = DIRECTIVES.iter().find(is_it) else { return };
        let (words, at) = arguments();
        if !words.first().is_some_and(|word| word.eq_ignore_ascii_case("off")) {
            self.0.push((module, format!("{directive} {}", words.join(" ")), at));
        }
    }

    /// Adds findings about the servers that cannot be checked.
    pub(super) fn report(&self, deployment: &mut Deployment) {
        let noticed = self.0.iter().map(|(module, directive, at)| Noticed {
            code: Code::TlsServerNotChecked,
            label: (*module).to_owned(),
            text: Text::new(format!(
                "this module has a server's certificates ({}), so none of them is compared with the pins \
                 that clients hold, and the server sends no Public-Key-Pins header",
                Excerpt::new(directive)
            ))
            .fix("use mod_ssl for servers that clients hold pins for (SSLEngine on)"),
            at: at.clone(),
        });
        deployment.noticed.extend(noticed);
    }
}
