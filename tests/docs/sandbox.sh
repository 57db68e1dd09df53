#!/bin/bash
# A machine that is thrown away: this one's files below an overlay in memory, no network but loopback,
# processes and a host name of its own. Then a shell that takes commands from standard input, each ended
# by the byte 0x1e, and answers each with what it printed, 0x1e, its exit status, 0x1e.
#
# sandbox.sh SCRATCH REPOSITORY TARGET HPKP, behind `unshare --mount --net --pid --uts --fork`
set -euo pipefail
scratch=$1 repository=$2 target=$3 hpkp=$4

mount --make-rprivate /
mount -t tmpfs -o mode=755 none "$scratch"
mkdir "$scratch/upper" "$scratch/work" "$scratch/root"
root=$scratch/root
mount -t overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" overlay "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
# dev/shm too: faketime names its files there by process numbers, and other machines have the same numbers.
for directory in tmp run dev/shm; do
    mount -t tmpfs -o mode=1777 none "$root/$directory"
done
chmod 755 "$root/run"
mkdir -p "$root/run/lock" "$root/run/apache2" "$root/run/docs"
ip link set lo up

# A clone of the repository after a build, in the directory that the documents name.
clone=$root/root/hpkp
mkdir -p "$clone/target/release"
cp -r "$repository/packaging" "$repository/ci" "$clone"
cp "$target/modules/shipped/ngx_http_hpkp_module.so" "$clone/target/release/libngx_http_hpkp_module.so"
cp "$target/modules/shipped/mod_hpkp.so" "$clone/target/release/libmod_hpkp.so"
cp "$hpkp" "$clone/target/release/hpkp"
# The program that `hpkp sync` executes, in the directory where the package installs it.
[ ! -e "${hpkp%/*}/hpkp-sync" ] || install -D "${hpkp%/*}/hpkp-sync" "$root/usr/libexec/hpkp/hpkp-sync"
cp "$repository/tests/docs/machines.sh" "$root/run/docs"

# shellcheck disable=SC2016
exec chroot "$root" bash -c '
    . /run/docs/machines.sh
    exec 2>&1
    status=0
    again() { return "$status"; }
    while IFS= read -r -d $'"'\\x1e'"' command; do
        again
        eval "$command" </dev/null
        status=$?
        printf "\x1e%d\x1e" "$status"
    done'
