# Sourced by ci/bench-nginx.sh, whose configuration it takes: what records of pins add to `nginx -t`.
# shellcheck shell=bash disable=SC2154

# records DIRECTORY: an empty one.
records() {
    rm -rf "$1"
    mkdir -p "$1/peers"
    echo 1 >"$1/hpkp-records"
}
history() {
    (cd "$root" && cargo run --release --quiet --package hpkp-core --example history -- "$@")
}
# recorded: the configuration with the records in `records`.
recorded() {
    sed "s|hpkp_published_pins .*|hpkp_published_pins $home/records writer=web-1;|" with.conf >recorded.conf
}

lines=100000
for count in "$hosts" 1; do
    records records
    history "$certificates" "$count" "$lines" >records/web-1.jsonl
    [ "$(wc -l <records/web-1.jsonl)" = "$lines" ] || die "the records are not $lines lines"
    recorded

    # In pairs, as above.
    rm -f recorded.times record-differences
    test_time recorded >/dev/null
    for ((run = 0; run < runs; run++)); do
        unrecorded=$(test_time with)
        recorded=$(test_time recorded)
        echo "$recorded" >>recorded.times
        echo $((recorded - unrecorded)) >>record-differences
    done
    difference=$(median record-differences)

    printf '\nThe same with %d records of %d hosts, %d bytes:\n\n' "$lines" "$count" \
        "$(wc -c <records/web-1.jsonl)"
    printf '%-42s%7d ms\n' 'with the module and the records' "$(median recorded.times)" \
        'the records alone' "$difference"
    printf '\n%-42s%10s\n' 'limit: records at most 500 ms' "$(verdict "$difference <= 500")"
done

# As many lines as a server reads at most; of a kind that is short, since bytes have a limit too.
lines=1000000
records records
for part in 1 2 3 4; do
    history short "app-$part" $((lines / 4)) >"records/peers/app-$part.jsonl"
done
recorded
cp recorded.conf nginx.conf
took=$(cpu_time nginx -t)
printf '\nThe same with %d records in four files, %d bytes:\n\n' "$lines" \
    "$(cat records/peers/*.jsonl | wc -c)"
printf '%-42s%7d ms\n' 'with the module and the records' "$took"
most=$(python3 -c '
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
' "$(command -v /usr/sbin/nginx)" -p "$home" -e error.log -c nginx.conf -t)
printf '%-42s%7d MB\n' 'memory at most' "$most"
printf '\n%-42s%10s\n' 'limit: at most 10 s' "$(verdict "$took <= 10000")" \
    'limit: at most 1 GB' "$(verdict "$most <= 1024")"
