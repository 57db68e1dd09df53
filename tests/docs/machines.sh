# The machines of the documents. Sourced by the shell of sandbox.sh; each function machine_NAME makes
# the state that a document assumes. The other functions are for `<!-- run: ... -->`.
# shellcheck shell=bash

export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
unset SSL_CERT_FILE SSL_CERT_DIR XDG_CONFIG_HOME
cd /root/hpkp || exit

# --- The clock -----------------------------------------------------------------------------------

# date_is DAY [TIME]: the time, UTC, of every process on this machine. It runs on from there.
date_is() {
    local real
    real=$(env -u LD_PRELOAD date +%s)
    printf '%+ds' $(($(env -u LD_PRELOAD date -u -d "$1 ${2:-10:00:00}" +%s) - real)) >/run/docs/clock.new
    mv /run/docs/clock.new /run/docs/clock
}
clock_starts() {
    date_is 2027-03-01
    local library
    library=$(echo /usr/lib/*/faketime/libfaketime.so.1)
    export LD_PRELOAD=$library TZ=UTC FAKETIME_TIMESTAMP_FILE=/run/docs/clock FAKETIME_NO_CACHE=1 \
        FAKETIME_DONT_FAKE_MONOTONIC=1
}

# --- Keys and certificates -----------------------------------------------------------------------

# key NAME FILE: the private key of that name. It is the same in every run, so that the documents can
# show its pin: the private number is a hash of the name.
key() {
    local number
    number=$(printf 'hpkp documents: %s' "$1" | sha256sum | cut -c 1-64)
    printf '30310201010420%sa00a06082a8648ce3d030107' "$number" | sed 's/../\\x&/g' |
        xargs -0 printf '%b' | openssl pkey -inform der -out "$2" 2>/dev/null
    chmod 600 "$2"
}

# A certificate authority that this machine trusts.
make_authority() {
    mkdir -p /root/ca
    key "root" /root/ca/root.key
    key "intermediate" /root/ca/intermediate.key
    cat >/root/ca/openssl.cnf <<'END'
[req]
distinguished_name = dn
[dn]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[server]
basicConstraints = CA:FALSE
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = ${ENV::NAMES}
END
    export NAMES=DNS:www.example.com
    openssl req -new -x509 -config /root/ca/openssl.cnf -extensions ca -days 7300 -key /root/ca/root.key \
        -subj "/CN=Example Root" -out /root/ca/root.pem
    openssl req -new -config /root/ca/openssl.cnf -key /root/ca/intermediate.key -subj "/CN=Example CA" |
        openssl x509 -req -extfile /root/ca/openssl.cnf -extensions ca -days 3650 -CA /root/ca/root.pem \
            -CAkey /root/ca/root.key -set_serial 2 -out /root/ca/intermediate.pem 2>/dev/null
    cp /root/ca/root.pem /usr/local/share/ca-certificates/example-root.crt
    cat /root/ca/root.pem >>/etc/ssl/certs/ca-certificates.crt
    ln -sf /usr/local/share/ca-certificates/example-root.crt \
        "/etc/ssl/certs/$(openssl x509 -in /root/ca/root.pem -noout -hash).0"
}

# certify KEY HOST FILE [DAYS]: a certificate for a key file, with its chain behind it.
serial=100
certify() {
    serial=$((serial + 1))
    export NAMES=DNS:$2
    openssl req -new -config /root/ca/openssl.cnf -key "$1" -subj "/CN=$2" |
        openssl x509 -req -extfile /root/ca/openssl.cnf -extensions server -days "${4:-90}" \
            -CA /root/ca/intermediate.pem -CAkey /root/ca/intermediate.key -set_serial $serial 2>/dev/null |
        cat - /root/ca/intermediate.pem >"$3"
}

# certify_request CSR HOST FILE: the same for a certificate signing request, as a CA does it.
certify_request() {
    serial=$((serial + 1))
    export NAMES=DNS:$2
    openssl x509 -req -in "$1" -extfile /root/ca/openssl.cnf -extensions server -days 90 \
        -CA /root/ca/intermediate.pem -CAkey /root/ca/intermediate.key -set_serial $serial 2>/dev/null |
        cat - /root/ca/intermediate.pem >"$3"
}

# A renewal that makes a new key, as most ACME clients do unless told otherwise.
renew_with_a_new_key() {
    key renewed /etc/ssl/example/privkey.pem
    certify /etc/ssl/example/privkey.pem "${1:-www.example.com}" /etc/ssl/example/fullchain.pem
}

# --- Servers -------------------------------------------------------------------------------------

hosts() {
    local name
    for name; do
        echo "127.0.0.1 $name" >>/etc/hosts
    done
}

# Workers lose their environment, and the clock with it, unless nginx is told to keep it.
nginx_site() {
    sed -i '1i env FAKETIME_TIMESTAMP_FILE; env FAKETIME_NO_CACHE; env FAKETIME_DONT_FAKE_MONOTONIC;' \
        /etc/nginx/nginx.conf
    rm -f /etc/nginx/sites-enabled/* /etc/nginx/conf.d/* /etc/nginx/modules-enabled/*
}

install_command() {
    install -m 755 target/release/hpkp /usr/local/bin/hpkp
}
install_nginx_module() {
    install -D -m 644 target/release/libngx_http_hpkp_module.so \
        /usr/lib/nginx/modules/ngx_http_hpkp_module.so
    echo 'load_module modules/ngx_http_hpkp_module.so;' >/etc/nginx/modules-available/60-hpkp.conf
    ln -sf ../modules-available/60-hpkp.conf /etc/nginx/modules-enabled/60-hpkp.conf
}

# serves CERTIFICATE [PORT [NAME]]: waits until the certificate with this key is served.
serves() {
    within_ten_seconds presents "$@" || {
        echo "the certificate of $1 is not served"
        return 1
    }
}
presents() {
    openssl s_client -connect "127.0.0.1:${2:-443}" -servername "${3:-www.example.com}" </dev/null 2>/dev/null |
        openssl x509 -pubkey -noout 2>/dev/null | cmp -s - <(openssl x509 -in "$1" -pubkey -noout)
}
settle() { sleep 0.3; }

# within_ten_seconds COMMAND...: repeats it until it succeeds.
within_ten_seconds() {
    local tries
    for ((tries = 0; tries < 200; tries++)); do
        "$@" && return 0
        sleep 0.05
    done
    return 1
}

# The machine of an operator: a clock, a CA, www.example.com with a certificate for the key "current".
machine_plain() {
    hostname web-1
    clock_starts
    make_authority
    nginx_site
    rm -f /etc/apache2/sites-enabled/*
    mkdir -p /etc/ssl/example
    key current /etc/ssl/example/privkey.pem
    certify /etc/ssl/example/privkey.pem www.example.com /etc/ssl/example/fullchain.pem
    hosts www.example.com api.example.com
}

# The same with the command and the nginx module installed.
machine_module() {
    machine_plain
    install_command
    install_nginx_module
    # httpd has a port of its own, because some documents use both servers.
    printf 'Listen 127.0.0.1:8080\n<IfModule ssl_module>\nListen 443\n</IfModule>\n' >/etc/apache2/ports.conf
}

# A machine with HAProxy's configuration, in front of clients that pin the key.
machine_other_servers() {
    machine_plain
    install_command
    mkdir -p /etc/haproxy
    cat /etc/ssl/example/fullchain.pem /etc/ssl/example/privkey.pem >/etc/haproxy/site.pem
    cat >/etc/haproxy/haproxy.cfg <<'END'
defaults
    mode http
frontend site
    bind :443 ssl crt /etc/haproxy/site.pem
END
    key backup /root/backup.key
    openssl pkey -in /root/backup.key -pubout -out /root/backup.pub
    hpkp published init >/dev/null
    hpkp published add www.example.com --origin "app 4.2" --pin file:/etc/ssl/example/fullchain.pem \
        --pin file:/root/backup.pub >/dev/null
}

# The back end of an app, api.example.com.
machine_app() {
    machine_module
    certify /etc/ssl/example/privkey.pem api.example.com /etc/ssl/example/fullchain.pem
    cat >/etc/nginx/conf.d/site.conf <<'END'
server {
    listen 443 ssl;
    server_name api.example.com;
    ssl_certificate     /etc/ssl/example/fullchain.pem;
    ssl_certificate_key /etc/ssl/example/privkey.pem;
    return 200 "hello\n";
}
END
    nginx
}

# The source of an app that pins the key in use and a backup.
okhttp() {
    cat <<'END'
val pinner = CertificatePinner.Builder()
    .add("api.example.com", "sha256/LwazrOtttXkZQnTZZPJ00LE9J8btxhdU5P0qOvEdkfE=", "sha256/B7hdHskETNfhkYPwTr7CyKieQLMOH5AkF+SzT7CS8OQ=")
    .build()
END
}

# The state that documents of a running site assume: a policy with the pins of "current" and "backup",
# max-age 30 days, records, nginx that serves.
machine_site() {
    machine_module
    machine_site_of_today
}
machine_site_of_today() {
    key backup /root/backup.key
    hpkp published init >/dev/null
    policy "$(pin_of current)" "$(pin_of backup)"
    nginx
    serves /etc/ssl/example/fullchain.pem
}

# policy PIN...: /etc/nginx/conf.d/hpkp.conf with these pins.
policy() {
    policy_text web-1 '' "$@" >/etc/nginx/conf.d/hpkp.conf
}

# policy_text WRITER ROOT PIN...: the same, of a server with its files below ROOT.
policy_text() {
    local writer=$1 below=$2 pin
    shift 2
    echo "hpkp_published_pins $below/var/lib/hpkp writer=$writer;"
    echo
    echo 'hpkp_policy site {'
    for pin; do
        echo "    pin     $pin;"
    done
    echo "    max_age ${max_age:-30d};"
    echo '}'
    echo
    cat <<END
server {
    listen 443 ssl;
    server_name www.example.com;
    ssl_certificate     $below/etc/ssl/example/fullchain.pem;
    ssl_certificate_key $below/etc/ssl/example/privkey.pem;
    hpkp site;
}
END
}

# pin_of NAME: the pin of the key of that name.
pin_of() {
    key "$1" "/run/docs/$1.key"
    openssl pkey -in "/run/docs/$1.key" -pubout | hpkp pin - | cut -d ' ' -f 1
}

# The site, which runs since 1 February; today is 1 March.
machine_rotation() {
    machine_module
    date_is 2027-02-01
    make_certificates_of_february
    machine_site_of_today
    date_is 2027-03-01
}
make_certificates_of_february() {
    certify /etc/ssl/example/privkey.pem www.example.com /etc/ssl/example/fullchain.pem 365
}

# new_policy FILE: the policy of the site is that of the file from now on.
new_policy() {
    sed -i '/^hpkp_policy/,/^}/d' /etc/nginx/conf.d/hpkp.conf
    cat "$1" >>/etc/nginx/conf.d/hpkp.conf
}

okhttp_next() {
    okhttp | sed "s#\")\$#\", \"$(pin_of next)\")#"
}

# Two servers, web-1 (this one) and web-2, in a network of its own below /web-2. The documents copy
# records with rsync over ssh; here the other machine is a directory.
machine_fleet() {
    machine_rotation
    mkdir -p /web-2/etc/ssl /web-2/var/lib
    cp -a /etc/ssl/example /web-2/etc/ssl/example
    date_is 2027-02-01
    hpkp published init /web-2/var/lib/hpkp >/dev/null
    web_2_policy "$(pin_of current)" "$(pin_of backup)"
    unshare --net bash -c 'ip link set lo up; nginx -c /web-2/nginx.conf'
    within_ten_seconds grep -q published /web-2/var/lib/hpkp/web-2.jsonl
    date_is 2027-03-01
}
web_2_policy() {
    local pin
    {
        cat <<'END'
user www-data;
pid /web-2/nginx.pid;
error_log /web-2/error.log;
env FAKETIME_TIMESTAMP_FILE; env FAKETIME_NO_CACHE; env FAKETIME_DONT_FAKE_MONOTONIC;
load_module modules/ngx_http_hpkp_module.so;
events {}
http {
    access_log off;
END
        policy_text web-2 /web-2 "$@"
        echo '}'
    } >/web-2/nginx.conf
}
# The reload of web-2 is complete when its records have changed.
web_2_reload() {
    local records=/web-2/var/lib/hpkp/web-2.jsonl before
    before=$(cat $records)
    kill -HUP "$(cat /web-2/nginx.pid)"
    within_ten_seconds eval "[ \"\$(cat $records)\" != '$before' ]"
}
rsync() {
    local args=() arg
    for arg; do
        case $arg in
        -*) ;;
        web-2:*) args+=("/web-2${arg#web-2:}") ;;
        *) args+=("$arg") ;;
        esac
    done
    # shellcheck disable=SC2086
    cp -p ${args[*]}
}

# Waits until a reload or a stop is complete, because the next commands of a document rely on that: the
# old workers are gone, or the whole server.
nginx() {
    local pid_file pid old
    pid_file=/run/nginx.pid
    [ ! -e nginx.pid ] || pid_file=nginx.pid
    pid=$(cat "$pid_file" 2>/dev/null)
    old=$(cat "/proc/$pid/task/$pid/children" 2>/dev/null)
    command nginx "$@" || return
    case " $* " in
    *' -s reload '*) within_ten_seconds are_gone $old ;;
    *' -s stop '*) within_ten_seconds are_gone "$pid" ;;
    esac
}
are_gone() {
    local process
    for process; do
        [ ! -e "/proc/$process" ] || return 1
    done
}

# The site, with its certificate from certbot: version 6 in the archive.
machine_incident() {
    machine_module
    mkdir -p /etc/letsencrypt/archive/www.example.com /etc/letsencrypt/live/www.example.com
    version_of_certbot 6 current
    machine_site_of_certbot
    policy "$(pin_of current)" "$(pin_of backup)"
    sed -i 's#/etc/ssl/example#/etc/letsencrypt/live/www.example.com#' /etc/nginx/conf.d/hpkp.conf
    nginx
    serves /etc/letsencrypt/live/www.example.com/fullchain.pem
}
machine_site_of_certbot() {
    key backup /root/backup.key
    hpkp published init >/dev/null
}
# version_of_certbot NUMBER KEY: a version in certbot's archive, with the links in live/.
version_of_certbot() {
    local archive=/etc/letsencrypt/archive/www.example.com name
    key "$2" "$archive/privkey$1.pem"
    certify "$archive/privkey$1.pem" www.example.com "$archive/fullchain$1.pem"
    openssl x509 -in "$archive/fullchain$1.pem" -out "$archive/cert$1.pem"
    cp /root/ca/intermediate.pem "$archive/chain$1.pem"
    for name in cert chain fullchain privkey; do
        ln -sfn "../../archive/www.example.com/$name$1.pem" "/etc/letsencrypt/live/www.example.com/$name.pem"
    done
}
renewal_of_certbot() {
    version_of_certbot 7 renewed
}
put_certificate_back() {
    rm -f /etc/letsencrypt/archive/www.example.com/*7.pem
    version_of_certbot 6 current
}
install_backup() {
    version_of_certbot 7 backup
    policy "$(pin_of backup)" "$(pin_of backup2)"
    sed -i 's#/etc/ssl/example#/etc/letsencrypt/live/www.example.com#' /etc/nginx/conf.d/hpkp.conf
}

# The files that the examples of the command's reference use.
machine_command() {
    machine_module
    mkdir /root/work && cd /root/work || return
    cp /etc/ssl/example/fullchain.pem /root/ca/root.pem .
    key backup backup.key
    mkdir -p /etc/ssl/private
    key current /etc/ssl/private/www.key
    okhttp | sed 's/api\.example/*.api.example/' >Pins.kt
}
# A site that sets its header by hand.
analyzed_site() {
    cat >/etc/nginx/conf.d/site.conf <<END
server {
    listen 443 ssl;
    server_name www.example.com;
    ssl_certificate     /etc/ssl/example/fullchain.pem;
    ssl_certificate_key /etc/ssl/example/privkey.pem;
    add_header Public-Key-Pins 'pin-sha256="$(pin_of current | cut -c 8-)"; pin-sha256="$(pin_of backup | cut -c 8-)"; max-age=2592000' always;
    return 200 "hello\\n";
}
END
    nginx && serves /etc/ssl/example/fullchain.pem
}
records_of_the_reference() {
    hpkp published add www.example.com --since 2026-06-01 --until now --header \
        "pin-sha256=\"$(pin_of next | cut -c 8-)\"; pin-sha256=\"$(pin_of backup | cut -c 8-)\"; max-age=5184000" &&
        hpkp published import --origin 'app 4.2' Pins.kt
} >/dev/null 2>&1

# Checks that a document's configuration for httpd passes the config test, with the module installed.
httpd_passes() {
    cd /root/hpkp || return
    install -m 644 target/release/libmod_hpkp.so /usr/lib/apache2/modules/mod_hpkp.so &&
        install -m 644 packaging/apache2/hpkp.load packaging/apache2/hpkp.conf /etc/apache2/mods-available/ &&
        a2enmod -q ssl hpkp && apachectl -t
}

# The same, and checks that httpd sends the header; nginx is stopped meanwhile to free its port.
httpd_sends() {
    httpd_passes && nginx -s stop || return
    local field pid
    # Debian's script has systemd start the server, unless told that systemd has started the script.
    APACHE_STARTED_BY_SYSTEMD=yes apachectl start || return
    within_ten_seconds curl -so /dev/null https://www.example.com/
    field=$(curl -sI https://www.example.com/ | tr -d '\r' | grep -i '^public-key-pins:')
    pid=$(cat /run/apache2/apache2.pid)
    kill -TERM "$pid"
    within_ten_seconds are_gone "$pid"
    nginx
    [[ $field == *pin-sha256*max-age=86400* ]]
}
