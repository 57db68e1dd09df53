# Sourced by ci/bench: what the module costs Apache httpd.
# shellcheck shell=bash

# --- Each response -------------------------------------------------------------------------------

httpd_variants='none off header on'
declare -A httpd_instructions

describe_httpd() {
    case $1 in
    none) echo 'without the module' ;;
    off) echo 'module loaded and off' ;;
    header) echo 'header by Header always set' ;;
    on) echo 'header by the module' ;;
    esac
}

# one_vhost VARIANT: a configuration in which both ways to send the header send the same bytes.
one_vhost() {
    local load="LoadModule hpkp_module $httpd_module" policy='' header=''
    case $1 in
    none) load='' ;;
    off) ;;
    header)
        load=''
        header="Header always set Public-Key-Pins \"pin-sha256=\\\"$pin\\\"; pin-sha256=\\\"$backup\\\"; max-age=86400\""
        ;;
    on)
        policy="<HPKPPolicy site>
HPKPPin sha256/$pin
HPKPPin sha256/$backup
HPKPMaxAge 1d
</HPKPPolicy>"
        header='HPKPUse site'
        ;;
    esac
    # mod_headers is loaded in each variant, so that only the way to send the header differs.
    cat >httpd.conf <<END
LoadModule mpm_prefork_module $httpd_modules/mod_mpm_prefork.so
LoadModule headers_module $httpd_modules/mod_headers.so
$httpd_main
$load
MaxKeepAliveRequests 0
Listen 127.0.0.1:$port
$policy
<VirtualHost 127.0.0.1:$port>
    ServerName localhost
    SSLEngine on
    SSLCertificateFile site.pem
    SSLCertificateKeyFile site.key
    $header
</VirtualHost>
END
}

# httpd_total COUNT: the instructions that httpd needs to start, to answer COUNT requests on one
# connection and to end.
httpd_total() {
    local apache2
    apache2=$(command -v apache2)
    # httpd writes the file when it ends, and is not root then.
    : >callgrind.out
    chmod 666 callgrind.out
    # -X: one process with one thread, so that one file has all counts. httpd kills its process group when it
    # ends, so it gets a process group of its own.
    setsid valgrind -q --tool=callgrind --callgrind-out-file=callgrind.out \
        "$apache2" -d "$home" -f httpd.conf -X >valgrind.log 2>&1 &
    wait_until is_open "$port" || die "httpd does not start: $(cat valgrind.log error.log)"
    ask "$1" --h1
    end_server $!
    awk '/^totals:/ { print $2 }' callgrind.out | grep . || die "nothing counted: $(cat valgrind.log)"
}

# least_total COUNT: the least of three measurements. Sometimes httpd serves one more connection, the one
# that makes it handle the signal. That only adds instructions. It may happen in all three measurements, so
# httpd gets more requests than nginx, over which the addition is spread.
many_of_httpd=1100
least_total() {
    local run
    for run in 1 2 3; do
        httpd_total "$1" || die "run $run of $1 requests"
    done | sort -n | head -n 1
}

for variant in $httpd_variants; do
    one_vhost "$variant"
    first=$(least_total "$few")
    second=$(least_total "$many_of_httpd")
    httpd_instructions[$variant]=$(((second - first) / (many_of_httpd - few)))
done

printf '\nhttpd: instructions for each request:\n\n'
printf '%-42s%10s\n' '' HTTP/1.1
for variant in $httpd_variants; do
    printf '%-42s%10d\n' "$(describe_httpd "$variant")" "${httpd_instructions[$variant]}"
done
printf '\n%-42s%10s\n' 'limit: on, at most Header always set' \
    "$(verdict "${httpd_instructions[on]} <= ${httpd_instructions[header]}")"
printf '%-42s%10s\n' 'limit: off, at most 0.2 % above without' \
    "$(verdict "1000 * ${httpd_instructions[off]} <= 1002 * ${httpd_instructions[none]}")"

unused httpd one_vhost "$(command -v apache2)" -d "$home" -f httpd.conf -t

# --- The test of a configuration, and a start ----------------------------------------------------

one_vhost_of_many() {
    cat <<END
<HPKPPolicy h$1>
HPKPPin sha256/$3
HPKPPin sha256/$4
HPKPMaxAge 1d
</HPKPPolicy>
<VirtualHost 127.0.0.1:$port>
ServerName h$1.example.com
SSLEngine on
SSLCertificateFile $certificates/$2.pem
SSLCertificateKeyFile $certificates/$2.key
HPKPUse h$1
</VirtualHost>
END
}

# The module's directives are on separate lines here too.
many_vhosts() {
    cat <<END
LoadModule mpm_event_module $httpd_modules/mod_mpm_event.so
$httpd_main
LoadModule hpkp_module $httpd_module
StartServers 1
Listen 127.0.0.1:$port
HPKPTrustedCertificate $certificates/ca.pem
HPKPPublishedPins $home/empty writer=web-1
END
    each_host one_vhost_of_many
}
many_vhosts >httpd-with.conf
sed -E '/^LoadModule hpkp_module /d; /^<?\/?HPKP/d' httpd-with.conf >httpd-without.conf
is_without_module httpd-without.conf SSLCertificateKeyFile

# httpd_test_time NAME: of `apachectl -t`.
httpd_test_time() {
    cp "httpd-$1.conf" httpd.conf
    cpu_time apachectl -t
}
in_pairs httpd_test_time

printf '\napachectl -t with %d TLS vhosts, each with a certificate and a policy of its own (medians of %d):\n\n' \
    "$hosts" "$runs"
more=$(median differences)
print_times 'more for each vhost' \
    "$(awk -v more="$more" -v hosts="$hosts" 'BEGIN { printf "%.3f ms", more / hosts }')"
printf '\n%-42s%10s\n' 'limit: at most 0.2 ms more for each' \
    "$(verdict "10 * $more <= 2 * $hosts")"

# is_serving: whether httpd has logged that it serves.
is_serving() { grep -q 'resuming normal operations' error.log; }

# httpd_start_time NAME: how long a start keeps a processor busy until it serves, in milliseconds.
httpd_start_time() {
    local pid
    cp "httpd-$1.conf" httpd.conf
    : >error.log
    setsid apache2 -d "$home" -f httpd.conf -D FOREGROUND >said.log 2>&1 &
    pid=$!
    wait_until is_serving || die "httpd does not start: $(cat said.log error.log)"
    nothing_found said.log
    nothing_found error.log
    # Fields 14 and 15 are the time in the program and in the kernel, in ticks. The name of the
    # program, the second field, has no blanks.
    awk -v tick="$(getconf CLK_TCK)" '{ print int(1000 * ($14 + $15) / tick) }' "/proc/$pid/stat"
    end_server "$pid"
}
in_pairs httpd_start_time

printf '\nThe start of httpd with the same (medians of %d):\n\n' "$runs"
print_times ratio "$(median ratios)"
print_limit_of_ratio 1.25
