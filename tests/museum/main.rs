//! The ways in which pins and certificate have parted, each with the smallest change that is safe
//! in the same place, on both servers.

// Clippy takes the helpers of a test for something else.
#![allow(clippy::expect_used, clippy::panic, unreachable_pub)]

mod advice;
mod answering;
mod apps;
mod chains;
mod client;
mod directory;
mod faults;
mod fleet;
mod history;
mod keys;
mod keywords;
mod life;
mod names;
mod records;
mod stage;
mod stand;
mod starts;
mod time;
mod trust;

/// Makes a test of each exhibit for each server.
macro_rules! exhibits {
    ($($exhibit:ident)*) => {
        mod nginx {
            $(
                #[test]
                fn $exhibit() {
                    super::$exhibit::<hpkp_tests::nginx::Nginx>();
                }
            )*
        }

        mod httpd {
            $(
                #[test]
                fn $exhibit() {
                    super::$exhibit::<hpkp_tests::httpd::Httpd>();
                }
            )*
        }
    };
}

use exhibits;
