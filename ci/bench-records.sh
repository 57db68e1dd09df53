# Sourced by ci/bench-nginx.sh, whose configuration it takes: what 100,000 records of pins add
# to `nginx -t`.
# shellcheck shell=bash disable=SC2154

lines=100000

mkdir -p records/peers
echo 1 >records/hpkp-records
(cd "$root" && cargo run --release --quiet --package hpkp-core --example history -- \
    "$certificates" "$hosts" "$lines") >records/web-1.jsonl
[ "$(wc -l <records/web-1.jsonl)" = "$lines" ] || die "the records are not $lines lines"
sed "s|^http {|&\nhpkp_published_pins $home/records writer=web-1;|" with.conf >recorded.conf

# In pairs, as above.
test_time recorded >/dev/null
for ((run = 0; run < runs; run++)); do
    unrecorded=$(test_time with)
    recorded=$(test_time recorded)
    echo "$recorded" >>recorded.times
    echo $((recorded - unrecorded)) >>record-differences
done
difference=$(median record-differences)

printf '\nThe same with %d records of them, %d octets:\n\n' "$lines" "$(wc -c <records/web-1.jsonl)"
printf '%-42s%7d ms\n' 'with the module and the records' "$(median recorded.times)" \
    'the records alone' "$difference"
printf '\n%-42s%10s\n' 'limit: records at most 1000 ms' \
    "$( ((difference <= 1000)) && echo holds || echo EXCEEDED)"
