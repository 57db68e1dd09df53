//! Bad input: the cases for both servers, run on httpd.

use hpkp_tests::httpd::Httpd;

hpkp_tests::refusals!(Httpd);
hpkp_tests::policies!(Httpd);
hpkp_tests::published_pins!(Httpd);
hpkp_tests::reached!(Httpd);
