# Common functions of the scripts of ci/package-life, in a clean root: checked steps, packages of another version, the
# answers to a client, the configuration from the documents. $server is nginx or apache2.
# shellcheck shell=bash
host=www.example.com
documents=/usr/share/doc/hpkp/docs

step() { printf -- '-- %s\n' "$*"; }
fail() {
    echo "FAILED: $*" >&2
    exit 1
}
# succeeds COMMAND...: must succeed. refused TEXT COMMAND...: must fail with TEXT. The output is in $output.
succeeds() {
    output=$("$@" 2>&1) || fail "$*: $output"
}
refused() {
    local text=$1
    shift
    if output=$("$@" 2>&1); then fail "$* passed: $output"; fi
    [[ $output == *"$text"* ]] || fail "$* failed for another reason: $output"
}
says() { [[ $output == *"$1"* ]] || fail "it does not say \"$1\": $output"; }
# wait_until COMMAND...: waits at most a minute, or $patience seconds, since machines for tests are busy.
wait_until() {
    for _ in $(seq $((${patience:-60} * 10))); do
        if "$@"; then return; fi
        sleep 0.1
    done
    fail "never came true: $*"
}

# --- What a client gets ---------------------------------------------------------------------------

# The pin of the certificate that a client gets.
served() {
    openssl s_client -connect 127.0.0.1:443 -servername $host </dev/null 2>/dev/null |
        openssl x509 -pubkey -noout 2>/dev/null | openssl pkey -pubin -outform der 2>/dev/null |
        openssl dgst -sha256 -binary | base64
}
serves() { [ "$(served)" = "$1" ]; }
answers() { curl -sk -o /dev/null -D /packages/headers --resolve $host:443:127.0.0.1 https://$host/; }
has_header() { answers && grep -qi '^public-key-pins: ' /packages/headers; }
has_no_header() { answers && ! grep -qi '^public-key-pins: ' /packages/headers; }

# --- Packages -------------------------------------------------------------------------------------

apt() { apt-get -y -qq -o Dpkg::Use-Pty=0 "$@"; }
# rebuilt FROM TO FILE...: the same packages with TO in place of the version FROM, in /packages/rebuilt.
rebuilt() {
    local from=$1 to=$2 package
    shift 2
    rm -rf /packages/rebuilt
    mkdir /packages/rebuilt
    for package; do
        dpkg-deb -R "$package" /packages/rebuilt/tree
        sed -i "s/${from//./\\.}/$to/g" /packages/rebuilt/tree/DEBIAN/control
        dpkg-deb -b -Znone /packages/rebuilt/tree "/packages/rebuilt/$(basename "$package")" >/dev/null
        rm -r /packages/rebuilt/tree
    done
}
version_of() { dpkg-query -W -f '${Version}' "$1"; }

# --- The documents --------------------------------------------------------------------------------

# block PAGE MARKER: the block of the page that follows the line with MARKER, with our pins.
block() {
    awk -v marker="$2" '
        index($0, marker) { found = 1; next }
        found && /^ *```/ { if (inside) exit; inside = 1; indent = index($0, "`"); next }
        found && inside { print substr($0, indent) }' "$documents/$1" |
        sed "s|LwazrOtttXkZQnTZZPJ00LE9J8btxhdU5P0qOvEdkfE=|$first|; s|B7hdHskETNfhkYPwTr7CyKieQLMOH5AkF+SzT7CS8OQ=|$backup|"
}
new_certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=$host \
        -addext subjectAltName=DNS:$host -keyout "/root/$1.key" -out "/root/$1.pem" 2>/dev/null
}
put() {
    cp "/root/$1.pem" /etc/ssl/example/fullchain.pem
    cp "/root/$1.key" /etc/ssl/example/privkey.pem
}
pin() { hpkp pin "/root/$1.pem" | sed -n '1s|sha256/\([^ ]*\) .*|\1|p'; }
