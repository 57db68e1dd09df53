//! Bad input: the cases for both servers, and httpd's own.

use hpkp_tests::httpd::Httpd;

hpkp_tests::refusals!(Httpd);
hpkp_tests::policies!(Httpd);
hpkp_tests::published_pins!(Httpd);
hpkp_tests::reached!(Httpd);
