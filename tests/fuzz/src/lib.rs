//! The functions that the fuzz targets run on their inputs. A panic is a finding.
//!
//! From the root of the repository, with nightly Rust and `cargo-fuzz`:
//!
//! ```sh
//! mkdir -p tests/fuzz/corpus/header_parser
//! cargo +nightly fuzz run --fuzz-dir tests/fuzz header_parser \
//!     tests/fuzz/corpus/header_parser tests/fuzz/seeds/header_parser
//! ```
//!
//! The fuzzer starts from the second directory and writes new inputs to the first. The seeds also
//! run as a test of the core, without a fuzzer (`hpkp-core/tests/fuzz_seeds.rs`); an input that
//! once caused a fault becomes a seed.
//!
//! The targets `import_*` and `header_text` fuzz the command's readers (`imports.rs`); `ci/fuzz-imports`
//! builds and runs them, also without `cargo-fuzz`.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod chain_paths;
mod der;
pub mod header_parser;
pub mod pem_der_to_pin;
pub mod report_reader;
