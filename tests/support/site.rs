//! Files and servers with which most end-to-end tests begin.

use crate::instance::Module;
use crate::nginx::Nginx;
use crate::pki::{P256, Pki};

/// Pins of keys that no server in the tests has.
pub const A: &str = "d6qzRu9zOECb90Uez27xWltNsj0e1Md7GkYYkVoZWmM=";
pub const B: &str = "E9CZ9INDbd+2eRQozYqqbQ2yXLVKB9+xcprMF+44U1g=";

/// Makes a CA `ca`, a certificate `live` for localhost and a request `backup`.
pub fn furnish(pki: &Pki) {
    pki.ca("ca");
    pki.leaf("live", "localhost", "ca");
    pki.key("backup", P256);
    pki.request("backup", "/CN=backup");
}

/// An nginx with the files of [`furnish`].
pub fn prepared() -> Nginx {
    prepared_with(Module::Shipped)
}

pub fn prepared_with(module: Module) -> Nginx {
    let nginx = Nginx::with_module(module);
    furnish(&nginx.pki());
    nginx
}
