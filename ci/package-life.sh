# Tests the packages with one server, nginx or apache2, in the clean root of ci/package-life. The root has
# no network and no systemd: `service` runs the init scripts, and `boot` runs the commands of the unit as
# systemd does (ci/package-life-systemd.sh uses systemd itself). Each step prints what it does, and fails if
# the result differs.
# shellcheck shell=bash
set -euo pipefail
server=$1
# shellcheck source=ci/package-life-common.sh
. /packages/package-life-common.sh

# --- systemd --------------------------------------------------------------------------------------

# run_unit LINE: the commands of a line of the server's unit (ExecStart), as systemd runs them: after the
# drop-ins, each in the environment of the unit alone.
run_unit() {
    local line files=() lines command variables
    files=(/lib/systemd/system/$server.service /usr/lib/systemd/system/$server.service.d/*.conf
        /etc/systemd/system/$server.service.d/*.conf)
    # An empty value clears the earlier commands.
    lines=$(cat "${files[@]}" 2>/dev/null |
        awk -v wanted="^$1=|^Environment=" '$0 ~ wanted {
            name = substr($0, 1, index($0, "=") - 1); value = substr($0, index($0, "=") + 1)
            if (value == "") delete values[name]; else values[name] = values[name] name "=" value "\n"
        } END { for (name in values) printf "%s", values[name] }')
    variables=$(sed -n 's/^Environment=//p' <<<"$lines")
    while read -r command; do
        [ -n "$command" ] || continue
        # shellcheck disable=SC2086
        env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin LANG=C.UTF-8 $variables \
            sh -c "${command#[-+@!]}" || { [ "${command:0:1}" = - ] || return 1; }
    done < <(sed -n "s/^$1=//p" <<<"$lines")
}
boot() { run_unit ExecStartPre && run_unit ExecStart; }

# --- The server -----------------------------------------------------------------------------------

case $server in
    nginx)
        module=libnginx-mod-http-hpkp
        file=/usr/lib/nginx/modules/ngx_http_hpkp_module.so
        test=(nginx -t)
        reload=(nginx -s reload)
        configuration=/etc/nginx/conf.d/hpkp.conf
        unknown='unknown directive "hpkp'
        pid() { cat /run/nginx.pid 2>/dev/null; }
        disable() { rm /etc/nginx/modules-enabled/60-mod-http-hpkp.conf; }
        is_disabled() { [ ! -e /etc/nginx/modules-enabled/60-mod-http-hpkp.conf ]; }
        enable() { ln -s /usr/share/nginx/modules-available/mod-http-hpkp.conf /etc/nginx/modules-enabled/60-mod-http-hpkp.conf; }
        ;;
    apache2)
        module=libapache2-mod-hpkp
        file=/usr/lib/apache2/modules/mod_hpkp.so
        test=(apachectl -t)
        reload=(apachectl graceful)
        configuration=/etc/apache2/conf-enabled/hpkp.conf
        unknown="Invalid command 'HPKP"
        pid() { cat /run/apache2/apache2.pid 2>/dev/null; }
        disable() { a2dismod -q hpkp; }
        is_disabled() { [ ! -e /etc/apache2/mods-enabled/hpkp.load ]; }
        enable() { a2enmod -q hpkp; }
        ;;
esac

is_running() { kill -0 "$(pid)" 2>/dev/null; }
crash() {
    local old
    old=$(pid)
    kill -KILL "$old" $(pgrep -P "$old")
    wait_until eval '[ -z "$(ss -Hltn sport = :443)" ]'
}
# Whether the running server has loaded the currently installed module.
runs_installed_module() {
    grep -q " $(stat -c %i "$file") .*$file\$" "/proc/$(pid)/maps"
}
# Sends requests while a command runs, and counts refused connections and errors.
under_requests() {
    local client lost
    while :; do answers || echo lost; sleep 0.02; done >/packages/lost &
    client=$!
    succeeds "$@"
    sleep 0.5
    kill $client
    wait $client 2>/dev/null || true
    lost=$(wc -l </packages/lost)
    echo "   requests lost meanwhile: $lost"
}

# --- Files -----------------------------------------------------------------------------------------

# kept: whether the directory of the package has a private key that only root can read.
kept() { [ -n "$(find /var/lib/hpkp-kept -type f -perm 600 -exec grep -l 'PRIVATE KEY' {} +)" ]; }
kept_files() { find /var/lib/hpkp-kept -type f -exec sha256sum {} + | sort | sha256sum; }
operators_files() {
    local directory
    for directory in /etc/nginx /etc/apache2 /etc/ssl/example /etc/default /etc/hpkp; do
        [ ! -d $directory ] || find $directory -type f -exec sha256sum {} + -o -type l -printf '%p %l\n'
    done | sort | sha256sum
}

# Removes the module's directives from the configuration, with a copy in /root/with-directives.
take_directives_out() {
    cp $configuration /root/with-directives
    sed -i '/hpkp_published_pins/d; /HPKPPublishedPins/d; /hpkp_policy/,/^}/d; /<HPKPPolicy/,/<.HPKPPolicy/d
        /^ *\(hpkp\|HPKPUse\) site/d' $configuration
}

# ==================================================================================================

step "installed: the command, its pages, the directory of records, the module"
hpkp --version
for page in /usr/share/man/man1/hpkp.1.gz /usr/share/bash-completion/completions/hpkp \
    /usr/share/zsh/vendor-completions/_hpkp $documents/start/header.md /usr/share/doc/$module/examples/hpkp.conf; do
    [ -s "$page" ] || fail "$page is missing"
done
for hook in certbot-deploy dehydrated-hook deploy lego-hook mod_md-message; do
    [ -x /usr/share/hpkp/acme/$hook ] || fail "the hook $hook is missing"
done
for unit in hpkp-recover@.service hpkp-metrics.service hpkp-metrics.timer; do
    [ -e /lib/systemd/system/$unit ] || fail "the unit $unit is missing"
    [ -z "$(find /etc/systemd -name "${unit%.*}*")" ] || fail "the unit $unit is enabled"
done
dpkg-query -W -f '${Conffiles}' hpkp | grep -q '^ /etc/hpkp/acme.conf ' || fail "/etc/hpkp/acme.conf is no conffile"
[ "$(stat -c '%U %a' /var/lib/hpkp)" = 'root 755' ] || fail "/var/lib/hpkp: $(stat -c '%U %a' /var/lib/hpkp)"
[ -e /var/lib/hpkp/hpkp-records ] || fail "no marker"
[ "$(stat -c '%U %G %a' /var/lib/hpkp-kept)" = 'root root 700' ] ||
    fail "/var/lib/hpkp-kept: $(stat -c '%U %G %a' /var/lib/hpkp-kept)"
succeeds hpkp published list
succeeds "${test[@]}"

step "apt refuses the module for another version of the server"
for foreign in /packages/foreign/${module}_*.deb; do
    [ -e "$foreign" ] || continue
    # httpd's ABI is the same in both releases; the C library's is not.
    [ $server = apache2 ] || refused nginx-abi apt-get install --dry-run "$foreign" /packages/foreign/hpkp_*.deb
done
if [ $server = nginx ]; then
    # An archive has a newer nginx with another ABI: an upgrade must keep the installed nginx.
    rebuilt nginx-abi-1 nginx-abi-9 /packages/server/nginx_*.deb
    dpkg-deb -R /packages/rebuilt/nginx_*.deb /packages/rebuilt/tree
    sed -i 's/^Version: .*/&.9/' /packages/rebuilt/tree/DEBIAN/control
    dpkg-deb -b -Znone /packages/rebuilt/tree /packages/rebuilt/other-abi.deb >/dev/null
    (
        cd /packages/rebuilt
        dpkg-deb -f other-abi.deb
        printf 'Filename: ./other-abi.deb\nSize: %s\nSHA256: %s\n' "$(stat -c %s other-abi.deb)" \
            "$(sha256sum other-abi.deb | cut -d ' ' -f 1)"
    ) >/packages/rebuilt/Packages
    echo 'deb [trusted=yes] file:/packages/rebuilt ./' >/etc/apt/sources.list.d/other.list
    succeeds apt-get update -qq -o Dir::Etc::sourcelist=/etc/apt/sources.list.d/other.list -o Dir::Etc::sourceparts=-
    succeeds apt-get upgrade --dry-run
    says 'kept back'
    [[ $output != *'Inst nginx '* ]] || fail "nginx would be upgraded"
    rm /etc/apt/sources.list.d/other.list
fi

if [ $server = nginx ] && openssl list -public-key-algorithms | grep -q ML-DSA-65; then
    step "a certificate of ML-DSA beside one of ECDSA, with this release's OpenSSL"
    succeeds /packages/ci/try-ml-dsa /usr/sbin/nginx $file
    echo "   $output"
fi

step "the first policy, as the page First header has it"
mkdir -p /etc/ssl/example
for name in first backup renewal; do new_certificate $name; done
put first
first=$(pin first) backup=$(pin backup) renewal=$(pin renewal)
if [ $server = nginx ]; then
    block start/header.md "file: /etc/nginx/conf.d/hpkp.conf" >$configuration
else
    block start/header.md "file: /etc/apache2/conf-enabled/hpkp.conf" >$configuration
    a2enmod -q ssl
fi
grep -qF "$backup" $configuration || fail "the page has other pins: $(cat $configuration)"
succeeds "${test[@]}"
# The first boot of a machine.
boot || fail "the server does not start"
wait_until serves "$first"
has_header || fail "no header: $(cat /packages/headers)"
succeeds hpkp published list
says $host

step "a renewal with a new key is refused, and the old certificate is served"
put renewal
refused no-pin-in-chain "${test[@]}"
refused '' "${reload[@]}"
refused '' service $server reload
if [ $server = nginx ]; then
    kill -HUP "$(pid)"
    # The init script tests before it stops the server.
    refused '' service nginx restart
    sleep 1
fi
serves "$first" || fail "another certificate is served"
has_header || fail "no header"

step "a boot after it, after a stop without a clean end: the site is up, without the header"
crash
if [ $server = nginx ]; then
    refused no-pin-in-chain nginx -t -q -g 'daemon on; master_process on;'
fi
boot >/packages/boot.log 2>&1 || fail "the server does not start: $(cat /packages/boot.log)"
wait_until serves "$renewal"
has_no_header || fail "a header is sent"

step "the init script boots it too"
crash
rm -f /run/nginx.pid /run/apache2/apache2.pid
succeeds service $server start
wait_until serves "$renewal"

step "the certificate of the backup key is accepted, and the header is back"
put backup
succeeds "${reload[@]}"
wait_until serves "$backup"
wait_until has_header

step "with the last good certificates in the directory of the package, a boot presents the one of the backup key"
cp $configuration /root/without-kept
sed -i "s|^\\(hpkp_published_pins\\) .*|&\\nhpkp_keep_certificates /var/lib/hpkp-kept;|
    s|^HPKPPublishedPins .*|&\\nHPKPKeepCertificates /var/lib/hpkp-kept|" $configuration
grep -q hpkp-kept $configuration || fail "no directive: $(cat $configuration)"
succeeds "${test[@]}"
succeeds "${reload[@]}"
wait_until kept
put renewal
refused no-pin-in-chain "${test[@]}"
crash
boot >/packages/boot.log 2>&1 || fail "the server does not start: $(cat /packages/boot.log)"
wait_until serves "$backup"
has_header || fail "no header"
put backup
cp /root/without-kept $configuration
succeeds "${test[@]}"
succeeds "${reload[@]}"
wait_until has_header

step "the hook of an ACME client: refuses the renewal, installs the certificate of the backup key"
sed -i "s|^to=.*|to=/etc/ssl|; s|^test=.*|test='${test[*]}'|; s|^reload=.*|reload='${reload[*]}'|" /etc/hpkp/acme.conf
mkdir -p /root/live
cp /root/renewal.pem /root/live/fullchain.pem
cp /root/renewal.key /root/live/privkey.pem
refused '"lockout"' /usr/share/hpkp/acme/deploy /root/live example --json
serves "$backup" || fail "another certificate is served"
cmp -s /root/backup.pem /etc/ssl/example/fullchain.pem || fail "a refused certificate is on the disk"
openssl req -x509 -key /root/backup.key -days 40 -subj /CN=$host -addext subjectAltName=DNS:$host \
    -out /root/live/fullchain.pem 2>/dev/null
cp /root/backup.key /root/live/privkey.pem
succeeds /usr/share/hpkp/acme/deploy /root/live example
cmp -s /root/live/fullchain.pem /etc/ssl/example/fullchain.pem || fail "the new certificate is not installed"
serves "$backup" && has_header || fail "the server does not go on"
# The command of the unit for the boot, when no install was interrupted.
succeeds hpkp install --recover --to /etc/ssl/example

step "upgrade of the module and the command under the running server"
before=$(operators_files)
old=$(version_of hpkp)
rebuilt "$old" "$old.1" /packages/hpkp_*.deb /packages/${module}_*.deb
under_requests apt install /packages/rebuilt/*.deb
[ "$(version_of $module)" = "$old.1" ] || fail "the old version is installed"
[ "$(operators_files)" = "$before" ] || fail "files of the operator have changed"
# nginx reloads, and httpd restarts. nginx's binary upgrade is below.
if [ $server = nginx ]; then
    ! runs_installed_module || fail "the running server has the new module"
    succeeds "${reload[@]}"
    sleep 1
    ! runs_installed_module || fail "after a reload it has the new module"
    succeeds service $server restart
    wait_until has_header
fi
runs_installed_module || fail "it has the old module"
serves "$backup" && has_header || fail "the server does not go on"
if [ $server = nginx ]; then
    rebuilt "$old" "$old.2" /packages/hpkp_*.deb /packages/${module}_*.deb
    under_requests apt install /packages/rebuilt/*.deb
    under_requests service nginx upgrade
    runs_installed_module || fail "after a binary upgrade it has the old module"
    has_header || fail "no header"
fi

step "a second installation changes nothing that the operator wrote, and no record"
before=$(operators_files)
records=$(hpkp published list)
succeeds apt install --reinstall --allow-downgrades /packages/hpkp_*.deb /packages/${module}_*.deb
[ "$(operators_files)" = "$before" ] || fail "files of the operator have changed"
[ "$(hpkp published list)" = "$records" ] || fail "the records have changed"
serves "$backup" && has_header || fail "the server does not go on"

step "upgrade of $server under the running server"
old=$(version_of $server) started=$(pid)
rebuilt "$old" "$old.0hpkp1" /packages/server/*.deb
under_requests apt install /packages/rebuilt/*.deb
[ "$(version_of $server)" = "$old.0hpkp1" ] || fail "the old version is installed"
wait_until has_header
serves "$backup" || fail "another certificate is served"
[ "$(pid)" != "$started" ] || fail "the old server runs"

step "upgrade of $server while a refused certificate is on the disk: the site stays up"
put renewal
rebuilt "$old" "$old.0hpkp2" /packages/server/*.deb
# With nginx, the binary upgrade and the init script refuse and keep the old server. httpd starts.
if apt install /packages/rebuilt/*.deb >/packages/apt.log 2>&1; then
    [ $server = apache2 ] || fail "nginx was upgraded: $(cat /packages/apt.log)"
    wait_until serves "$renewal"
    has_no_header || fail "a header is sent"
else
    [ $server = nginx ] || fail "httpd was not upgraded: $(cat /packages/apt.log)"
    serves "$backup" && has_header || fail "the server does not go on"
fi
put backup
succeeds dpkg --configure -a
succeeds "${reload[@]}"
wait_until serves "$backup"
wait_until has_header

step "disable: refused while directives are there, and an upgrade does not enable it again"
disable
refused "$unknown" "${test[@]}"
serves "$backup" || fail "the running server does not go on"
take_directives_out
succeeds "${test[@]}"
succeeds "${reload[@]}"
wait_until has_no_header
serves "$backup" || fail "the server does not go on"
old=$(version_of hpkp)
rebuilt "$old" "$old.3" /packages/hpkp_*.deb /packages/${module}_*.deb
succeeds apt install /packages/rebuilt/*.deb
is_disabled || fail "the upgrade enabled the module"
enable
cp /root/with-directives $configuration
succeeds "${test[@]}"
succeeds service $server restart
wait_until has_header

step "remove with directives still there: a warning, and the server goes on"
succeeds apt remove $module
says "WARNING: the configuration of"
says "$configuration:1:"
says "apt install $module"
sleep 1
is_running || fail "the server ended"
serves "$backup" && has_header || fail "the server does not go on"
refused "$unknown" "${test[@]}"
refused '' service $server reload
serves "$backup" || fail "the server does not go on after a reload"
# Does what the warning says.
take_directives_out
succeeds "${test[@]}"
succeeds service $server reload
wait_until has_no_header
hpkp published list >/dev/null || fail "the records are gone"

step "installed again, it has its records"
succeeds apt install /packages/rebuilt/${module}_*.deb
cp /root/with-directives $configuration
succeeds "${test[@]}"
succeeds service $server reload
wait_until has_header
put renewal
refused no-pin-in-chain "${test[@]}"
put backup

step "purge keeps the records and says where they are"
take_directives_out
succeeds service $server reload
records=$(cat /var/lib/hpkp/*.jsonl | sha256sum)
kept || fail "the last good certificates are gone"
keys=$(kept_files)
succeeds apt purge hpkp $module
says "rm -r /var/lib/hpkp
"
says "rm -r /var/lib/hpkp-kept"
[ "$(kept_files)" = "$keys" ] || fail "the last good certificates have changed"
[ "$(cat /var/lib/hpkp/*.jsonl | sha256sum)" = "$records" ] || fail "the records have changed"
wait_until answers
[ -z "$(find /etc /usr/lib /usr/share -name '*hpkp*' ! -path $configuration ! -path '/etc/ssl/*')" ] ||
    fail "left behind: $(find /etc /usr/lib /usr/share -name '*hpkp*' ! -path $configuration)"
succeeds apt install /packages/hpkp_*.deb
[ "$(cat /var/lib/hpkp/*.jsonl | sha256sum)" = "$records" ] || fail "the records have changed"
echo "-- all steps came out as they should"
