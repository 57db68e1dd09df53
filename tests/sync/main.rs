//! `hpkp sync` with real stores: a directory, git over file and over ssh, PostgreSQL, and (`--ignored`, see
//! `ci/stores`) an S3-compatible server. Each scenario runs over each store.

// clippy.toml allows these only inside test functions, not in their helpers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub, missing_docs)]

mod attacks;
mod azure;
mod engine;
mod fleet;
mod git;
mod hostile;
mod index;
mod machine;
mod postgres;
mod s3;
mod scale;
mod scenarios;
mod signatures;
mod usage;
mod web;

/// A test for each scenario over each store.
macro_rules! over_each_store {
    ($($scenario:ident)*) => {
        over_one_store! { directory, engine::Directory::start(), [$($scenario)*] }
        over_one_store! { git_file, git::File::start(), [$($scenario)*] }
        over_one_store! { git_ssh, git::Ssh::start(), [$($scenario)*] }
        over_one_store! { postgres, postgres::Postgres::start(), [$($scenario)*] }
        mod s3_server {
            $(
                #[test]
                #[ignore = "needs s3s-fs: ci/stores"]
                fn $scenario() {
                    crate::scenarios::$scenario(&mut crate::s3::S3::start());
                }
            )*
        }
        mod azure_server {
            $(
                #[test]
                #[ignore = "needs azurite: ci/stores"]
                fn $scenario() {
                    crate::scenarios::$scenario(&mut crate::azure::Azure::start());
                }
            )*
        }
    };
}

macro_rules! over_one_store {
    ($store:ident, $start:expr, [$($scenario:ident)*]) => {
        mod $store {
            #[allow(unused_imports)]
            use crate::{engine, git, postgres};
            $(
                #[test]
                fn $scenario() {
                    crate::scenarios::$scenario(&mut $start);
                }
            )*
        }
    };
}

mod over {
    over_each_store! {
        records_arrive_and_heartbeats_count
        a_second_server_with_a_taken_name_writes_nothing
        a_machine_restored_from_a_backup_runs_no_command
        a_store_restored_from_a_backup_gets_all_records_again
        damaged_lines_are_reported_and_not_copied
        a_store_that_is_down_runs_no_command
        a_store_that_goes_down_during_a_command_is_reported
        the_lease_of_a_killed_machine_expires
        a_killed_sync_loses_no_record
        concurrent_syncs_lose_no_record
        of_two_concurrent_syncs_one_gets_the_records_of_the_other
        only_one_machine_has_a_lease
        a_lease_expires
        conflicting_changes_are_reported_at_the_next_sync
        a_clock_that_is_behind_is_reported
    }
}

mod fleet_over {
    macro_rules! over_one {
        ($store:ident, $start:expr $(, $ignored:meta)?) => {
            #[test]
            $(#[$ignored])?
            fn $store() {
                crate::fleet::servers_change_at_will(&mut $start);
            }
        };
    }
    over_one! { directory, crate::engine::Directory::start() }
    over_one! { git_file, crate::git::File::start() }
    over_one! { git_ssh, crate::git::Ssh::start() }
    over_one! { postgres, crate::postgres::Postgres::start() }
    over_one! { azure_server, crate::azure::Azure::start(), ignore = "needs azurite: ci/stores" }
    over_one! { s3_server, crate::s3::S3::start(), ignore = "needs s3s-fs: ci/stores" }
}

/// Waits until `is_so`, at most 20 seconds.
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if is_so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("in vain: {what}");
}

/// Runs a command that must succeed.
fn succeed(program: &str, arguments: &[&str]) -> String {
    let out = hpkp_tests::succeed(std::process::Command::new(program).args(arguments));
    String::from_utf8(out).unwrap()
}
