# Clean roots of Debian, for the scripts here that source this (ci/package, ci/matrix and others). They need
# root and mmdebstrap.
#
#   clean_root RELEASE [PACKAGE...]   makes a root with these packages; its path is in $clean_root
#   root_archive RELEASE [PACKAGE...] the root as a tar file; its path is in $root_archive
#   in_clean_root COMMAND             runs a shell command in it, without a network. Processes and mounts
#                                     are its own, so whatever it starts ends with it
#   on_line_in_clean_root COMMAND     the same with the network of this machine: for apt
#   remove_clean_root
#
# DEBIAN_MIRROR names another mirror. HPKP_ROOTS is a directory to keep roots in.
# shellcheck shell=bash

roots=${HPKP_ROOTS:-$PWD/target/roots}
clean_root=

needs_root() {
    [ "$(id -u)" = 0 ] || {
        echo "$0 needs root: it makes clean roots of Debian" >&2
        exit 2
    }
    command -v mmdebstrap >/dev/null || {
        echo "mmdebstrap is missing: apt-get install mmdebstrap" >&2
        exit 2
    }
}

# debian_sources RELEASE: what apt of such a root installs from, security updates included.
debian_sources() {
    local mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
    echo "deb $mirror $1 main"
    # Debian unstable has no security updates of its own.
    [ -n "${DEBIAN_MIRROR:-}" ] || [ "$1" = sid ] ||
        echo "deb http://deb.debian.org/debian-security $1-security main"
}

# root_archive RELEASE [PACKAGE...]: the root as a tar file, in $root_archive.
root_archive() {
    local release=$1 options=()
    shift
    # A mirror of Debian unstable that lags behind is good enough for tests.
    [ "$release" != sid ] || options+=('--aptopt=Acquire::Check-Valid-Until "false"')
    # A root is kept for another run, and made again when it is a week old.
    root_archive=$roots/$release-$(printf '%s' "$*" | sha256sum | cut -c 1-12).tar
    mkdir -p "$roots"
    if [ -z "$(find "$root_archive" -mtime -7 2>/dev/null)" ]; then
        debian_sources "$release" |
            mmdebstrap --quiet --variant=minbase --dpkgopt=force-unsafe-io "${options[@]}" ${1:+--include="$*"} "$release" "$roots/new-$$.tar" -
        mv "$roots/new-$$.tar" "$root_archive"
    fi
}

clean_root() {
    root_archive "$@"
    clean_root=$(mktemp -d "$roots/$1.XXXXXX")
    trap remove_clean_root EXIT
    chmod 755 "$clean_root"
    tar -x --numeric-owner -C "$clean_root" -f "$root_archive"
}

in_clean_root() { enter_clean_root --net "$1"; }
on_line_in_clean_root() { enter_clean_root --ipc "$1"; }

# enter_clean_root NAMESPACE COMMAND
# Rust and the sources that cargo has fetched are lent to the root where $lend_rust is set.
enter_clean_root() {
    local rust='' cargo=${CARGO_HOME:-$HOME/.cargo}
    if [ -n "${lend_rust:-}" ]; then
        rust=$(rustc --print sysroot)
        mkdir -p "$clean_root/opt/rust" "$clean_root/opt/cargo/registry"
    fi
    cp --remove-destination /etc/resolv.conf "$clean_root/etc/resolv.conf"
    CLEAN=$clean_root RUST=$rust REGISTRY=$cargo/registry NAMESPACE=$1 COMMAND=$2 \
        unshare --mount --pid --fork --kill-child "$1" -- bash -ec '
        mount --bind "$CLEAN" "$CLEAN"
        if [ -n "$RUST" ]; then
            mount --bind -o ro "$RUST" "$CLEAN/opt/rust"
            mount --bind "$REGISTRY" "$CLEAN/opt/cargo/registry"
        fi
        if [ "$NAMESPACE" = --net ]; then ip link set lo up; fi
        mount -t proc proc "$CLEAN/proc"
        mount -t tmpfs -o mode=755 tmpfs "$CLEAN/run"
        mkdir "$CLEAN/run/lock"
        mount --rbind /dev "$CLEAN/dev"
        # libfaketime names its memory by process numbers, which this root counts anew.
        mount -t tmpfs -o mode=1777 tmpfs "$CLEAN/dev/shm"
        # The shell stays the first process: it buries what a server leaves behind. Scripts wait for a process that
        # has ended for as long as nobody has done so.
        env -i HOME=/root LANG=C.UTF-8 PATH=/opt/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin \
            CARGO_HOME=/opt/cargo CARGO_NET_OFFLINE=true DEBIAN_FRONTEND=noninteractive \
            chroot "$CLEAN" bash -ec "$COMMAND" || exit "$?"' </dev/null
}

remove_clean_root() {
    [ -z "$clean_root" ] || rm -rf --one-file-system "$clean_root"
    clean_root=
}
