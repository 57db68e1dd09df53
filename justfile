# Recipes for those who have just (https://just.systems); each is a command of ci/ or of cargo.

# What there is.
default:
    @just --list

# Installs what building and testing need (Debian 12 or 13, with Rust); of one part: nginx, apache or command.
setup *part:
    ci/prerequisites {{ part }}

# Both modules and the command, in target/release; each by itself, so that none gets features of another.
build: build-nginx build-apache build-command

# The module for nginx.
build-nginx:
    cargo build --release --locked --package ngx-hpkp

# The module for Apache httpd.
build-apache:
    cargo build --release --locked --package apache-hpkp

# The command.
build-command:
    cargo build --release --locked --package hpkp-cli

# The program behind hpkp sync.
build-sync:
    cargo build --release --locked --package hpkp-sync

# The collector of violation reports.
build-reports:
    cargo build --release --locked --package hpkp-reports

# Puts the module for nginx that was built into place: just install-nginx DESTDIR=/tmp/package NGINX_MODULES=...
install-nginx *assignment:
    ci/install nginx {{ assignment }}

# The module for Apache httpd: just install-apache DESTDIR=/tmp/package HTTPD_MODULES=...
install-apache *assignment:
    ci/install apache {{ assignment }}

# The command, its man pages and completions: just install-command DESTDIR=/tmp/package PREFIX=/usr
install-command *assignment:
    ci/install command {{ assignment }}

# The program behind hpkp sync, and its timer: just install-sync DESTDIR=/tmp/package PREFIX=/usr
install-sync *assignment:
    ci/install sync {{ assignment }}

# The collector of violation reports, and its unit: just install-reports DESTDIR=/tmp/package PREFIX=/usr
install-reports *assignment:
    ci/install reports {{ assignment }}

# The hooks for ACME clients and the units: just install-hooks DESTDIR=/tmp/package UNITS=/usr/lib/systemd/system
install-hooks *assignment:
    ci/install hooks {{ assignment }}

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

# hpkp analyze against servers that are not ours, compared with testssl.sh and wget2.
outside:
    cargo build --locked --release -p hpkp-cli
    ci/outside

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

# The servers' own test suites, without the module and with it: just strangers nginx|httpd DIRECTORY
strangers server directory *test:
    ci/strangers {{ server }} {{ directory }} {{ test }}

# Brings mended faults back and sees whether a test notices.
mutations *name:
    ci/mutations {{ name }}

# The image of the Containerfile: built, and run against a lost volume and a wrong certificate.
image:
    ci/container-image

# Every server, OpenSSL and Rust of docs/reference/tested.md that can be had here; prints the table.
matrix *cell:
    ci/matrix {{ cell }}
