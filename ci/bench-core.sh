# Sourced by ci/bench: how fast the core is.
# shellcheck shell=bash

# The usual pipeline, for comparison: three processes for each pin.
number=200
TIMEFORMAT='%R'
seconds=$({ time for ((i = 1; i <= number; i++)); do
    pin <"$certificates/$i.pem"
done >/dev/null; } 2>&1)
printf '\nThe core (limits: pins of 100,000 certificates a second, 10,000 hosts in a second):\n\n'
awk -v number="$number" -v seconds="$seconds" 'BEGIN {
    printf "pins by a loop of the openssl pipeline%14.0f a second\n\n", number / seconds }'
# One line with the time of each benchmark. In its default format criterion would compare with an earlier run.
(cd "$root" && cargo bench --quiet --package hpkp-core --features ua --bench core -- --output-format bencher) \
    2>bench.err >bench.out || die "the benches of the core fail: $(cat bench.err)"
# "test NAME ... bench:  1,234 ns/iter (+/- 5)" becomes the name, a tab and the nanoseconds.
sed -nE 's/^test (.*) \.\.\. bench: *([0-9,]+) ns\/iter.*/\1\t\2/p' bench.out | tr -d , >core.times
[ -s core.times ] || die "the benches of the core say nothing: $(cat bench.out)"
# Not %d: some versions of awk have no integers above 2^31.
awk -F '\t' '{ printf "%-42s%12.0f ns\n", $1, $2 }' core.times

# core_ratio NAME OF: the time of one row for that of another, against its limit.
core_ratio() {
    local ratio
    ratio=$(awk -F '\t' -v name="$1" -v of="$2" '{ time[$1] = $2 }
        END { if (time[of] > 0 && time[name] > 0) printf "%.2f", time[name] / time[of] }' core.times)
    [ -n "$ratio" ] || die "no time of $1 or $2"
    printf '%-42s%10s  %s\n' "$1" "$ratio" \
        "$(awk -v ratio="$ratio" 'BEGIN { print (ratio <= 3) ? "holds" : "EXCEEDED" }')"
}
awk -F '\t' '$1 == "check/10000 hosts" { printf "\n10,000 hosts in a second: %s\n", ($2 <= 1e9) ? "holds" : "EXCEEDED" }' core.times
printf '\nRatios (limit: at most 3 times what every way to a pin has to do):\n\n'
for kind in ECDSA RSA; do
    core_ratio "a pin/$kind from DER" "a pin/$kind hash alone"
    core_ratio "a pin/$kind from PEM" "a pin/$kind base64 and hash alone"
done

# The command, against the pipeline: one file, and all of them.
(cd "$root" && cargo build --release --quiet --package hpkp-cli)
hpkp=$root/target/release/hpkp
one=$certificates/1.pem
# per_run COUNT COMMAND...: the seconds per run, over COUNT runs.
per_run() {
    local count=$1 i seconds
    shift
    seconds=$({ time for ((i = 0; i < count; i++)); do "$@"; done >/dev/null; } 2>&1)
    awk -v seconds="$seconds" -v count="$count" 'BEGIN { printf "%.6f", seconds / count }'
}
by_pipeline() { pin <"$one"; }
by_command() { "$hpkp" pin "$one"; }
many_files() {
    local round
    for ((round = 0; round < 5; round++)); do printf '%s\0' "$certificates"/*.pem; done |
        xargs -0 -n 20000 "$hpkp" pin
}
pipeline=$(per_run 50 by_pipeline)
command=$(per_run 50 by_command)
files=$(many_files | wc -l)
each=$(per_run 3 many_files | awk -v files="$files" '{ print $1 / files }')
printf '\nhpkp pin, compared with the openssl pipeline:\n\n'
# times_faster NAME SECONDS LEAST
times_faster() {
    awk -v name="$1" -v pipeline="$pipeline" -v seconds="$2" -v least="$3" 'BEGIN {
        ratio = pipeline / seconds
        printf "%-42s%10.1f times faster (limit: %d)  %s\n", name, ratio, least,
            (ratio >= least) ? "holds" : "MISSED" }'
}
times_faster 'one file' "$command" 3
times_faster "each of $files files" "$each" 1000
