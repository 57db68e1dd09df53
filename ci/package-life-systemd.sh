# Tests the packages under systemd, in the booted clean root of ci/package-life. The root has no network.
#
#   package-life-systemd.sh nginx|apache2 STAGE
#
# The stages follow each other: server, sync, reports; a power cut and a boot; booted; end.
# shellcheck shell=bash
set -euo pipefail
server=$1
# shellcheck source=ci/package-life-common.sh
. /packages/package-life-common.sh
case $server in
    nginx) module=libnginx-mod-http-hpkp configuration=/etc/nginx/conf.d/hpkp.conf ;;
    apache2) module=libapache2-mod-hpkp configuration=/etc/apache2/conf-enabled/hpkp.conf ;;
esac
pins=/root/pins

# journal UNIT: the log of the unit.
journal() { journalctl --no-pager -q -o cat -u "$1"; }
is_active() { systemctl is-active -q "$1"; }
enabled() { systemctl is-enabled "$1" 2>/dev/null || true; }
value() { systemctl show -P "$2" "$1"; }
# fail TEXT: also prints timers and logs, since the root is removed afterwards.
fail() {
    printf 'FAILED: %s\n' "$*" >&2
    systemctl list-timers --all --no-pager >&2
    journalctl --no-pager -q -n 60 -u $server -u 'hpkp-*' >&2
    exit 1
}

# --- The server -----------------------------------------------------------------------------------

server() {
    step "the first policy; the unit starts the server, and reloads it"
    mkdir -p /etc/ssl/example
    for name in first backup renewal; do new_certificate $name; done
    put first
    first=$(pin first) backup=$(pin backup) renewal=$(pin renewal)
    echo "first=$first backup=$backup renewal=$renewal" >$pins
    block start/header.md "file: $configuration" >$configuration
    grep -qF "$backup" $configuration || fail "the page has other pins: $(cat $configuration)"
    [ $server = nginx ] || a2enmod -q ssl
    succeeds systemctl restart $server
    wait_until serves "$first"
    wait_until has_header
    succeeds systemctl reload $server

    step "a renewal with a new key: systemctl reload is refused, and the old certificate is served"
    put renewal
    refused '' systemctl reload $server
    [[ "$(journal $server)" == *no-pin-in-chain* ]] || fail "the journal does not say why: $(journal $server)"
    serves "$first" || fail "another certificate is served"
    has_header || fail "no header"

    step "systemctl restart after it: the site is up, without the header"
    succeeds systemctl restart $server
    wait_until serves "$renewal"
    has_no_header || fail "a header is sent"
}

# --- hpkp-sync ------------------------------------------------------------------------------------

sync() {
    step "hpkp-sync: no unit is enabled, and without a store the unit does nothing"
    for unit in hpkp-sync.timer hpkp-reports.service hpkp-metrics.timer; do
        [ "$(enabled $unit)" = disabled ] || fail "$unit is $(enabled $unit)"
        ! is_active $unit || fail "$unit is active"
    done
    systemctl start hpkp-sync.service
    [ "$(value hpkp-sync.service ConditionResult)" = no ] || fail "it ran without a store"

    step "hpkp-sync: a store file with a password that others may read is refused; the password is not in the journal"
    echo 'postgres://hpkp:hunter2@127.0.0.1:1/hpkp' >/etc/hpkp/store
    chmod 644 /etc/hpkp/store
    refused '' systemctl start hpkp-sync.service
    [[ "$(journal hpkp-sync)" == *'chmod 600 /etc/hpkp/store'* ]] || fail "$(journal hpkp-sync)"
    chmod 600 /etc/hpkp/store
    refused '' systemctl start hpkp-sync.service
    [[ "$(journal hpkp-sync)" == *store-unavailable* ]] || fail "$(journal hpkp-sync)"
    [[ "$(journal hpkp-sync)" != *hunter2* ]] || fail "the journal has the password"

    step "hpkp-sync: the timer carries records to the store and back"
    mkdir -p /srv/fleet /etc/systemd/system/hpkp-sync.service.d
    printf '[Service]\nReadWritePaths=/srv/fleet\n' >/etc/systemd/system/hpkp-sync.service.d/store.conf
    systemctl daemon-reload
    succeeds hpkp sync --init file:///srv/fleet
    # Another machine, web-2.
    hpkp published init /root/web-2 >/dev/null
    unshare --uts sh -c "hostname web-2
        hpkp published -d /root/web-2 add app.example.com --origin 'app 1' --pin file:/root/first.pem &&
        hpkp sync -d /root/web-2 file:///srv/fleet" >/dev/null
    echo file:///srv/fleet >/etc/hpkp/store
    succeeds systemctl enable --now hpkp-sync.timer
    # The timer runs a minute after the boot, with a random delay of up to 30 seconds. systemd may add up to a minute.
    patience=180 wait_until [ -s /var/lib/hpkp/peers/web-2.command.jsonl ]
    wait_until eval '! is_active hpkp-sync.service'
    [ "$(value hpkp-sync.service Result)" = success ] || fail "$(journal hpkp-sync)"
    succeeds hpkp published list
    says app.example.com
    grep -rql $host /srv/fleet || fail "the store lacks the records of this machine"
}

# --- hpkp-reports ---------------------------------------------------------------------------------

# report PIN: reports as a client whose pins do not match the renewed certificate.
report() {
    awk -v pin="$1" -v now="$(date -u +%FT%TZ)" -v host=$host '
        { chain = chain $0 "\\n" }
        END { printf "{\"date-time\":\"%s\",\"hostname\":\"%s\",\"port\":443,\"effective-expiration-date\":\"%s\"," \
            "\"include-subdomains\":false,\"noted-hostname\":\"%s\",\"served-certificate-chain\":[\"%s\"]," \
            "\"validated-certificate-chain\":[\"%s\"],\"known-pins\":[\"pin-sha256=\\\"%s\\\"\"]}\n",
            now, host, now, host, chain, chain, pin }' /root/renewal.pem |
        curl -s -o /dev/null -w '%{http_code}' -H 'content-type: application/json' --data-binary @- \
            http://127.0.0.1:8470/r/www
}
# pages PATH OPTION...: requests a page with the token.
pages() { curl -s -H "Authorization: Bearer $(cat /etc/hpkp/reports-token)" "http://127.0.0.1:8471$1" "${@:2}"; }
is_reported() { [ "$(report "$first")" = 204 ]; }
exported() { hpkp-reports export; }

reports() {
    step "hpkp-reports: without a configuration the unit does nothing; the example is valid"
    systemctl start hpkp-reports
    [ "$(value hpkp-reports ConditionResult)" = no ] || fail "it ran without a configuration"
    succeeds hpkp-reports check --config /usr/share/doc/hpkp-reports/examples/reports.toml

    step "hpkp-reports: a key that it does not know keeps the unit from starting, and the journal says which"
    block how-to/reports.md "Write \`/etc/hpkp/reports.toml\`" >/root/reports.toml
    grep -q token_file /root/reports.toml || fail "the page has another configuration: $(cat /root/reports.toml)"
    (umask 077 && openssl rand -hex 32 >/etc/hpkp/reports-token)
    echo 'nonsense = 1' | cat - /root/reports.toml >/etc/hpkp/reports.toml
    refused '' systemctl start hpkp-reports
    [[ "$(journal hpkp-reports)" == *nonsense* ]] || fail "$(journal hpkp-reports)"
    systemctl reset-failed hpkp-reports

    step "hpkp-reports: as the page says, it starts; a report is stored by a user of its own, in its own file"
    cp /root/reports.toml /etc/hpkp/reports.toml
    block how-to/reports.md "Check it, and start it." >/root/start
    grep -q LoadCredential /root/start || fail "the page has other commands: $(cat /root/start)"
    succeeds bash -e /root/start
    wait_until is_reported
    [ "$(ps -o user= -p "$(value hpkp-reports MainPID)")" != root ] || fail "it runs as root"
    database=/var/lib/hpkp-reports/reports.sqlite
    [ "$(stat -L -c %a $database)" = 600 ] || fail "$database: $(stat -L -c '%U %a' $database)"
    exported | grep -q $host || fail "no group: $(exported)"
    [ "$(pages /metrics -o /dev/null -w '%{http_code}')" = 200 ] || fail "$(pages /metrics; journal hpkp-reports)"
    pages /metrics | grep -q '^hpkp_reports_problems 0' || fail "$(pages /metrics; journal hpkp-reports)"
    [ "$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8471/metrics)" = 401 ] ||
        fail "the pages are shown without the token"
    succeeds systemctl reload hpkp-reports
    is_active hpkp-reports || fail "the reload ended it"

    step "hpkp-reports: killed, it starts again and has the report"
    before=$(exported | wc -l)
    kill -KILL "$(value hpkp-reports MainPID)"
    wait_until is_reported
    [ "$(exported | wc -l)" = "$before" ] || fail "groups: $before, then $(exported | wc -l)"

    step "upgrade of sync and reports: the collector is the new one and has its reports, the timer goes on"
    old=$(version_of hpkp) main=$(value hpkp-reports MainPID)
    rebuilt "$old" "$old.1" /packages/hpkp_*.deb /packages/hpkp-{sync,reports}_*.deb /packages/${module}_*.deb
    store=$(cat /etc/hpkp/store)
    succeeds apt install /packages/rebuilt/*.deb
    [ "$(version_of hpkp-reports)" = "$old.1" ] || fail "the old version is installed"
    wait_until is_reported
    [ "$(value hpkp-reports MainPID)" != "$main" ] || fail "the old collector runs"
    [ "$(exported | wc -l)" = "$before" ] || fail "groups: $before, then $(exported | wc -l)"
    is_active hpkp-sync.timer || fail "the timer ended"
    [ "$(stat -c %a /etc/hpkp/store) $(cat /etc/hpkp/store)" = "600 $store" ] || fail "/etc/hpkp/store has changed"
}

# --- After the boot -------------------------------------------------------------------------------

booted() {
    step "a boot after a power cut, with the refused certificate on the disk: the site is up, without the header"
    wait_until is_active $server
    wait_until serves "$renewal"
    has_no_header || fail "a header is sent"
    put backup
    succeeds systemctl reload $server
    wait_until serves "$backup"
    wait_until has_header
    step "the timer of hpkp-sync and the collector are there after the boot, with the reports"
    is_active hpkp-sync.timer || fail "the timer is not active"
    wait_until is_reported
    exported | grep -q $host || fail "no group: $(exported)"
}

end() {
    step "remove of sync and reports: both end; the store, the copies and the reports stay"
    succeeds apt remove hpkp-sync hpkp-reports
    ! is_active hpkp-sync.timer || fail "the timer is active"
    ! is_active hpkp-reports || fail "the collector runs"
    [ -s /etc/hpkp/store ] || fail "/etc/hpkp/store is gone"
    [ -s /var/lib/hpkp/peers/web-2.command.jsonl ] || fail "the copies are gone"
    [ -s /var/lib/private/hpkp-reports/reports.sqlite ] || fail "the reports are gone"
    refused 'apt install hpkp-sync' hpkp sync --store-file /etc/hpkp/store
    is_active $server || fail "the server ended"
    has_header || fail "no header"

    step "installed again, they go on with what they had"
    succeeds apt install /packages/rebuilt/hpkp-sync_*.deb /packages/rebuilt/hpkp-reports_*.deb
    succeeds systemctl enable --now hpkp-sync.timer hpkp-reports
    wait_until is_reported
    exported | grep -q $host || fail "no group: $(exported)"
    succeeds systemctl start hpkp-sync

    step "purge prints what stays, and keeps it"
    succeeds apt purge hpkp-sync hpkp-reports
    says "/etc/hpkp/store stays"
    says "rm -r /var/lib/private/hpkp-reports /var/lib/hpkp-reports"
    [ -s /etc/hpkp/store ] || fail "/etc/hpkp/store is gone"
    [ -s /var/lib/private/hpkp-reports/reports.sqlite ] || fail "the reports are gone"
    [ ! -e /var/cache/hpkp ] || fail "the cache is left"
    ! is_active hpkp-sync.timer || fail "the timer is active"
    rm -r /var/lib/private/hpkp-reports /var/lib/hpkp-reports
    # The man page of hpkp sync and the examples belong to the package hpkp, the drop-ins to the operator.
    left=$(find /usr /etc/systemd -name 'hpkp-sync*' -o -name 'hpkp-reports*' |
        grep -v '/doc/hpkp/\|man1/hpkp-sync\|service\.d' || true)
    [ -z "$left" ] || fail "left behind: $left"
    has_header || fail "the server does not go on"
}

# shellcheck disable=SC1090
[ ! -e $pins ] || . $pins
"$2"
