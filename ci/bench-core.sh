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
# What criterion says of each, without its comparisons with runs of before.
(cd "$root" && cargo bench --quiet --package hpkp-core --features ua --bench core 2>/dev/null) |
    grep -E 'time: |thrpt: '
