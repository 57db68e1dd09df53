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
mod fixture;
mod fleet;
mod freshness;
mod history;
mod install;
mod keys;
mod keywords;
mod life;
mod names;
mod pinned;
mod records;
mod routing;
mod starts;
mod time;
mod trust;

/// Makes a test of each scenario for each server.
macro_rules! scenarios {
    ($($scenario:ident)*) => {
        mod nginx {
            $(
                #[test]
                fn $scenario() {
                    super::$scenario::<hpkp_tests::nginx::Nginx>();
                }
            )*
        }

        mod httpd {
            $(
                #[test]
                fn $scenario() {
                    super::$scenario::<hpkp_tests::httpd::Httpd>();
                }
            )*
        }
    };
}

use scenarios;
