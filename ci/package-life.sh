# One life of the packages with one server, in the clean root of ci/package-life: SERVER is nginx or
# apache2. Each step says what it does and fails where something else comes out.
set -euo pipefail
server=$1
cd /packages

step() { echo "-- $*"; }
fail() {
    echo "FAILED: $*" >&2
    exit 1
}
# expect_refusal COMMAND...: it must fail, and say that clients would be locked out.
expect_refusal() {
    local output
    if output=$("$@" 2>&1); then fail "$* passed"; fi
    grep -q 'published-pins-unmet\|no-pin-in-chain' <<< "$output" || fail "$* failed for another reason: $output"
}
# The pin of the certificate that is served.
served() {
    openssl s_client -connect 127.0.0.1:443 -servername www.example.com < /dev/null 2> /dev/null |
        openssl x509 -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64
}
expect_served() {
    local pin
    for _ in $(seq 50); do
        pin=$(served) || true
        [ "$pin" != "$1" ] || return 0
        sleep 0.1
    done
    fail "served is $pin and not $1"
}
new_certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=www.example.com \
        -addext subjectAltName=DNS:www.example.com -keyout "$1.key" -out "$1.pem" 2> /dev/null
}

# What systemd does with the unit of the server, in its words, with the drop-ins.
unit() {
    local file=/lib/systemd/system/$server.service dropins=/usr/lib/systemd/system/$server.service.d
    [ -e "$file" ] || file=/usr/lib/systemd/system/$server.service
    local environment command
    environment=$(sed -n 's/^Environment=//p' "$file" $(ls $dropins/*.conf 2> /dev/null))
    sed -n "s/^$1=-\?//p" "$file" | while read -r command; do
        [ -n "$command" ] || continue
        command=${command//\$MAINPID/$(cat /run/nginx.pid 2> /dev/null || true)}
        # shellcheck disable=SC2086
        env $environment sh -c "$command" || exit 1
    done
}
boot() {
    unit ExecStartPre && unit ExecStart
}
case $server in
    nginx)
        test_of=(nginx -t) reload=(nginx -s reload) module=libnginx-mod-http-hpkp
        pid() { cat /run/nginx.pid; }
        ;;
    apache2)
        test_of=(apachectl -t) reload=(apachectl graceful) module=libapache2-mod-hpkp
        pid() { cat /run/apache2/apache2.pid; }
        ;;
esac
crash() {
    local old
    old=$(pid)
    kill -KILL "$old"
    # The workers follow their master, and the sockets are free.
    for _ in $(seq 100); do
        [ -n "$(ss -Hltn 'sport = :443')" ] || return 0
        for worker in $(ps -o pid= -C "$server" || true); do kill -KILL "$worker" 2> /dev/null || true; done
        sleep 0.1
    done
    fail "the port is still taken"
}

step "the other server's package is refused or its dependency named"
other=$([ $server = nginx ] && echo libapache2-mod-hpkp || echo libnginx-mod-http-hpkp)
if dpkg -i --dry-run ./"$other"_*.deb > /dev/null 2>&1; then :; fi

step install
before=$(dpkg-query -f '.\n' -W | wc -l)
apt-get install -y -qq --no-download ./hpkp_*.deb ./"$module"_*.deb > install.log 2>&1 || fail "$(cat install.log)"
echo "   $(($(dpkg-query -f '.\n' -W | wc -l) - before)) packages"
hpkp --version
[ -e /var/lib/hpkp/hpkp-records ] || fail "there is no directory for records"
"${test_of[@]}" 2> test.log || fail "$(cat test.log)"

step "first policy"
mkdir -p /etc/ssl/example
cd /etc/ssl/example
new_certificate first
new_certificate backup
new_certificate renewal
cp first.pem fullchain.pem
cp first.key privkey.pem
first=$(hpkp pin first.pem | cut -c 8-51)
backup=$(hpkp pin backup.pem | cut -c 8-51)
case $server in
    nginx)
        cat > /etc/nginx/conf.d/hpkp.conf << CONF
hpkp_published_pins /var/lib/hpkp writer=www-1;
hpkp_policy site {
    pin     sha256/$first;
    pin     sha256/$backup;
    max_age 1d;
}
server {
    listen 443 ssl;
    server_name www.example.com;
    ssl_certificate     /etc/ssl/example/fullchain.pem;
    ssl_certificate_key /etc/ssl/example/privkey.pem;
    hpkp site;
}
CONF
        ;;
    apache2)
        cat > /etc/apache2/sites-available/example.conf << CONF
ServerName www.example.com
HPKPPublishedPins /var/lib/hpkp writer=www-1
<HPKPPolicy site>
    HPKPPin    sha256/$first
    HPKPPin    sha256/$backup
    HPKPMaxAge 1d
</HPKPPolicy>
<VirtualHost *:443>
    ServerName www.example.com
    SSLEngine on
    SSLCertificateFile    /etc/ssl/example/fullchain.pem
    SSLCertificateKeyFile /etc/ssl/example/privkey.pem
    HPKPUse site
</VirtualHost>
CONF
        a2enmod -q ssl
        a2ensite -q example
        ;;
esac
boot || fail "the server does not start"
expect_served "$first"
curl -sk -o /dev/null -D headers --resolve www.example.com:443:127.0.0.1 https://www.example.com/
grep -qi '^public-key-pins:' headers || fail "no header: $(cat headers)"

step "a renewal with a new key is refused, and the old certificate is served"
cp renewal.pem fullchain.pem
cp renewal.key privkey.pem
expect_refusal "${test_of[@]}"
"${reload[@]}" > /dev/null 2>&1 && fail "the reload passed"
expect_served "$first"

step "a boot after it, after a crash: the site is up"
crash
boot > boot.log 2>&1 || fail "the server does not start: $(cat boot.log)"
expect_served "$(hpkp pin renewal.pem | cut -c 8-51)"
step "the right certificate is put back"
cp backup.pem fullchain.pem
cp backup.key privkey.pem
"${reload[@]}" > /dev/null 2>&1 || fail "$("${test_of[@]}" 2>&1)"
expect_served "$backup"

step "a second installation changes nothing that the operator wrote"
echo '# mine' >> "$([ $server = nginx ] && echo /etc/nginx/conf.d/hpkp.conf || echo /etc/apache2/mods-available/hpkp.conf)"
records=$(cat /var/lib/hpkp/*.jsonl | sha256sum)
apt-get install -y -qq --no-download --reinstall ./../../../packages/hpkp_*.deb ./../../../packages/"$module"_*.deb \
    > /packages/again.log 2>&1 || fail "$(cat /packages/again.log)"
grep -q '# mine' /etc/nginx/conf.d/hpkp.conf /etc/apache2/mods-available/hpkp.conf 2> /dev/null || fail "the line is gone"
expect_served "$backup"

step "removal with directives still there: a warning, and the server goes on"
apt-get remove -y -qq "$module" > /packages/remove.log 2>&1 || fail "$(cat /packages/remove.log)"
grep -q '^WARNING: the configuration' /packages/remove.log || fail "no warning: $(cat /packages/remove.log)"
grep -q 'fullchain\|hpkp_published_pins\|HPKPPublishedPins' /packages/remove.log || fail "no line: $(cat /packages/remove.log)"
expect_served "$backup"

step "purge keeps the records and says where they are"
apt-get purge -y -qq hpkp "$module" > /packages/purge.log 2>&1 || fail "$(cat /packages/purge.log)"
grep -q 'rm -r /var/lib/hpkp' /packages/purge.log || fail "$(cat /packages/purge.log)"
[ -n "$(ls /var/lib/hpkp/*.jsonl)" ] || fail "the records are gone"
echo "-- all steps passed"
