# Clean roots of Debian, for the scripts here that source this (ci/package, ci/matrix and others). They need
# root and mmdebstrap.
#
#   clean_root RELEASE [PACKAGE...]   makes a root with these packages; its path is in $clean_root
#   root_archive RELEASE [PACKAGE...] the root as a tar file; its path is in $root_archive
#   in_clean_root COMMAND             runs a shell command in it, without a network. Processes and mounts
#                                     are its own, so whatever it starts ends with it
#   on_line_in_clean_root COMMAND     the same with the network of this machine: for apt
#   boot_clean_root                   starts systemd in it, as on a machine of its own without a network
#   in_booted_root COMMAND            runs a shell command there
#   cut_power                         ends everything there at once, as a power cut does
#   remove_clean_root
#
# DEBIAN_MIRROR names another mirror. HPKP_ROOTS is a directory to keep roots in.
# shellcheck shell=bash

roots=${HPKP_ROOTS:-$PWD/target/roots}
clean_root=
# For a booted root: the process id of its init on this machine, and the process that holds its namespaces.
booted= holder=

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

# debian_sources RELEASE: the apt sources of such a root, including security updates.
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
    # For tests, an outdated mirror of Debian unstable is good enough.
    [ "$release" != sid ] || options+=('--aptopt=Acquire::Check-Valid-Until "false"')
    # A root is kept for later runs, and created again after a week.
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
# With $lend_rust the root can use Rust and the crates of this machine.
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
        # libfaketime names its shared memory by process ids, which begin again in this root.
        mount -t tmpfs -o mode=1777 tmpfs "$CLEAN/dev/shm"
        # The shell stays the first process, since it must reap orphaned processes of servers: scripts wait for an
        # ended process until it is reaped.
        env -i HOME=/root LANG=C.UTF-8 PATH=/opt/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin \
            CARGO_HOME=/opt/cargo CARGO_NET_OFFLINE=true DEBIAN_FRONTEND=noninteractive \
            chroot "$CLEAN" bash -ec "$COMMAND" || exit "$?"' </dev/null
}

# boot_clean_root: mounts the file systems that systemd expects in a container. The root has its own cgroup, since
# systemd would otherwise use the cgroups of this machine.
boot_clean_root() {
    local groups
    groups=$(findmnt -n -o TARGET -t cgroup2 | head -n 1)/hpkp-root-$$
    CLEAN=$clean_root GROUP=$groups bash -ec '
        mkdir -p "$GROUP"
        echo "$BASHPID" >"$GROUP/cgroup.procs"
        exec unshare --mount --pid --net --uts --ipc --cgroup --fork --kill-child -- bash -ec "
            mount --bind \"\$CLEAN\" \"\$CLEAN\"
            cd \"\$CLEAN\"
            ip link set lo up
            mkdir -p .old
            mount -t proc proc proc
            # Kernel settings belong to this machine, so they are read-only.
            mount --bind proc/sys proc/sys
            mount -o remount,bind,ro proc/sys
            mount -t sysfs -o ro sysfs sys
            mount -t cgroup2 cgroup2 sys/fs/cgroup
            mount -t tmpfs -o mode=755 tmpfs run
            mount -t tmpfs -o mode=755 tmpfs dev
            mkdir dev/pts dev/shm
            mount -t tmpfs -o mode=1777 tmpfs dev/shm
            mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts dev/pts
            ln -s pts/ptmx dev/ptmx
            ln -s /proc/self/fd dev/fd
            for device in null zero full random urandom tty; do
                touch dev/\$device
                mount --bind /dev/\$device dev/\$device
            done
            pivot_root . .old
            umount -l .old
            rmdir .old
            # systemd mounts the credentials of a unit in another namespace, so mounts must be shared.
            mount --make-rshared /
            exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --log-target=journal"
    ' >"$clean_root.console" 2>&1 </dev/null &
    holder=$!
    for _ in $(seq 1500); do
        booted=$(tr -d ' ' <"/proc/$holder/task/$holder/children") || break
        # The process is bash at first. A unit that fails without hardware makes the state "degraded".
        if [ -n "$booted" ] && [ "$(cat "/proc/$booted/comm" 2>/dev/null)" = systemd ] &&
            in_booted_root 'systemctl is-system-running' 2>/dev/null | grep -q 'running\|degraded'; then
            return
        fi
        sleep 0.2
    done
    cat "$clean_root.console" >&2
    echo "systemd does not start in $clean_root" >&2
    return 1
}

in_booted_root() {
    nsenter --target "$booted" --mount --uts --ipc --net --pid --cgroup --root --wd -- env -i HOME=/root LANG=C.UTF-8 \
        PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive bash -ec "$1" </dev/null
}

cut_power() {
    local group
    kill -KILL "$booted" "$holder" 2>/dev/null || true
    wait "$holder" 2>/dev/null || true
    booted= holder=
    group=$(findmnt -n -o TARGET -t cgroup2 | head -n 1)/hpkp-root-$$
    for _ in $(seq 50); do
        find "$group" -depth -type d -exec rmdir {} + 2>/dev/null && break
        sleep 0.1
    done
}

remove_clean_root() {
    [ -z "$booted" ] || cut_power
    rm -f "$clean_root.console"
    [ -z "$clean_root" ] || rm -rf --one-file-system "$clean_root"
    clean_root=
}
