# Sourced by the scripts here (bash): makes a temporary directory with a certificate authority, for Debian's
# nginx and Apache httpd on loopback. The directory is removed with the end of the script, and is its working
# directory.
# shellcheck shell=bash

# The directory of builds, and the modules of a release build.
# shellcheck disable=SC2034
target=${CARGO_TARGET_DIR:-$PWD/target}
# shellcheck disable=SC2034
nginx_module=$target/release/libngx_http_hpkp_module.so
# shellcheck disable=SC2034
httpd_module=$target/release/libmod_hpkp.so

# The PATH of an ordinary user does not have the servers.
PATH=$PATH:/usr/sbin

home=$(mktemp -d)
cd "$home" || exit
trap 'stop || :; rm -rf "$home"' EXIT
trap 'exit 130' INT TERM

# --- nginx ---------------------------------------------------------------------------------------

# All paths are set, since an ordinary user may not write to Debian's default paths.
# shellcheck disable=SC2034
nginx_main='pid nginx.pid;
worker_processes 1;
error_log error.log notice;
events {}'
# shellcheck disable=SC2034
nginx_http='access_log off;
    client_body_temp_path tmp;
    proxy_temp_path tmp;
    fastcgi_temp_path tmp;
    uwsgi_temp_path tmp;
    scgi_temp_path tmp;'

nginx() {
    command nginx -p "$home" -e error.log -c nginx.conf "$@"
}

# --- Apache httpd --------------------------------------------------------------------------------

# If root starts httpd, it serves as another user.
chmod 755 "$home"
mkdir html run
echo hello >html/index.html

# Relative paths begin at the directory that httpd is told on its command line.
httpd_modules=/usr/lib/apache2/modules
# shellcheck disable=SC2034
httpd_main="LoadModule authz_core_module $httpd_modules/mod_authz_core.so
LoadModule dir_module $httpd_modules/mod_dir.so
LoadModule socache_shmcb_module $httpd_modules/mod_socache_shmcb.so
LoadModule ssl_module $httpd_modules/mod_ssl.so
ServerName localhost
User www-data
Group www-data
DefaultRuntimeDir run
PidFile httpd.pid
ErrorLog error.log
LogLevel notice
SSLSessionCache shmcb:run/sessions(512000)
DocumentRoot html"

httpd() {
    command apache2 -d "$home" -f httpd.conf "$@"
}

# Debian's apachectl with the options above. The variable tells the script that systemd started it; otherwise
# it would start the server of the system.
apachectl() {
    APACHE_ENVVARS=none APACHE_ARGUMENTS="-d $home -f httpd.conf" APACHE_STARTED_BY_SYSTEMD=yes \
        APACHE_RUN_DIR=run APACHE_LOCK_DIR=run APACHE_RUN_USER=$(id -un) command apachectl "$@"
}

# --- What both need ------------------------------------------------------------------------------

# Stops the running servers by their pid files. After a config test nginx's file is empty; httpd may leave its
# file behind.
stop() {
    local file pid
    for file in "$home/nginx.pid" "$home/httpd.pid"; do
        pid=$(cat "$file" 2>/dev/null) && [ -n "$pid" ] || continue
        kill -TERM "$pid" 2>/dev/null || continue
        wait_until [ ! -e "$file" ] || kill -KILL "$pid"
    done
}

# Repeats a command until it succeeds; fails when that takes more than `patience` seconds. (A bare `return`
# would fail here when called from a trap: it takes the status from before the trap.)
patience=10
wait_until() {
    local tries
    for ((tries = 0; tries < 20 * patience; tries++)); do
        "$@" && return 0
        sleep 0.05
    done
    return 1
}

is_open() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# A free port below the ephemeral ports of the system.
free_port() {
    local port
    while port=$((20000 + RANDOM % 10000)) && is_open "$port"; do :; done
    echo "$port"
}

# A key, ca.key, and the certificate of an authority, ca.pem.
make_authority() {
    cat >openssl.cnf <<'END'
[req]
distinguished_name = dn
[dn]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = CA:FALSE
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:${ENV::HOST}
END
    HOST=none openssl req -config openssl.cnf -extensions authority -x509 -days 30 \
        -subj '/CN=Throwaway CA' -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
        -keyout ca.key -out ca.pem 2>/dev/null
}

# make_request NAME HOST: a new key, NAME.key, and a request to have it signed, NAME.csr.
make_request() {
    HOST=$2 openssl req -config openssl.cnf -subj "/CN=$2" \
        -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.csr" 2>/dev/null
}

# sign NAME HOST: the authority's certificate for NAME.csr, NAME.pem.
sign() {
    HOST=$2 openssl x509 -req -in "$1.csr" -extfile openssl.cnf -extensions server -days 10 \
        -CA ca.pem -CAkey ca.key -CAcreateserial -out "$1.pem" 2>/dev/null
}

# pin <CERTIFICATE: the pin of the key, computed with OpenSSL, not with our code.
pin() {
    openssl x509 -pubkey -noout | openssl pkey -pubin -outform der |
        openssl dgst -sha256 -binary | base64
}
