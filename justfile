# Recipes for those who have just (https://just.systems); each is a command of ci/ or of cargo.

# What there is.
default:
    @just --list

# Installs what building and testing need (Debian 12, with Rust).
setup:
    ci/prerequisites

# Both modules and the command, in target/release.
build:
    cargo build --release --locked --package ngx-hpkp --package apache-hpkp --package hpkp-cli

# Everything: format, lints, documentation, unit and end-to-end tests.
test:
    ci/test

# The end-to-end tests of a server (nginx, httpd) or of the scenarios on both (scenarios).
e2e suite='nginx' *filter:
    ci/modules
    cargo test --locked --package {{ if suite == 'scenarios' { 'hpkp-cli' } else { 'hpkp-tests' } }} --test {{ suite }} {{ filter }}

# Runs the commands of the documents.
docs *filter:
    ci/modules
    cargo test --locked --package hpkp-cli --test docs {{ filter }}

# Writes what the commands print now into the documents.
docs-update:
    ci/modules
    -HPKP_DOCS=update cargo test --locked --package hpkp-cli --test docs
    -HPKP_DOCS=update cargo test --locked --package hpkp-cli --test docs
    cargo test --locked --package hpkp-cli --test docs

# The hooks of packaging/acme, each with its ACME client and a real ACME server.
acme *filter:
    ci/acme {{ filter }}

# A lock-out refused, on both servers.
demo:
    ci/demo

# What the modules cost, against limits.
bench *part:
    ci/bench {{ part }}

# Both modules with AddressSanitizer.
sanitize *server:
    ci/sanitize {{ server }}

# Each importer for a while; needs nightly Rust.
fuzz seconds='60' *target:
    ci/fuzz-imports {{ seconds }} {{ target }}

# Brings mended faults back and sees whether a test notices.
mutations *name:
    ci/mutations {{ name }}
