# Sourced by ci/bench: what the module costs nginx.
# shellcheck shell=bash

# --- Each response -------------------------------------------------------------------------------

variants='none off add_header on'
protocols='http1 http2'
declare -A instructions

# The name of each row.
describe() {
    case $1 in
    none) echo 'without the module' ;;
    off) echo 'module loaded and off' ;;
    add_header) echo 'header by add_header, without the module' ;;
    on) echo 'header by the module' ;;
    esac
}

# one_server VARIANT: a configuration in which both ways to send the header send the same bytes.
one_server() {
    local load='load_module '$nginx_module';' policy='' header=''
    case $1 in
    none) load='' ;;
    off) ;;
    add_header)
        load=''
        header="add_header Public-Key-Pins 'pin-sha256=\"$pin\"; pin-sha256=\"$backup\"; max-age=86400' always;"
        ;;
    on)
        policy="hpkp_policy site { pin sha256/$pin; pin sha256/$backup; max_age 1d; }"
        header='hpkp site;'
        ;;
    esac
    cat >nginx.conf <<END
$load
$nginx_main
http {
    $nginx_http
    $policy
    server {
        listen 127.0.0.1:$port ssl http2;
        server_name localhost;
        ssl_certificate site.pem;
        ssl_certificate_key site.key;
        $header
        return 200 "hello\n";
    }
}
END
}

# total PROTOCOL COUNT: the instructions inside ngx_http_send_header for COUNT requests on one
# connection. Instructions of the allocator are excluded: how far it searches depends on all earlier
# allocations. One more server block without requests can make a difference of 80 instructions.
total() {
    local protocol=() nginx
    [ "$1" = http2 ] || protocol=(--h1)
    # A single process, so that one file has all counts.
    nginx=$(command -v /usr/sbin/nginx)
    valgrind -q --tool=callgrind --toggle-collect=ngx_http_send_header \
        --callgrind-out-file=callgrind.out "$nginx" -p "$home" -e error.log -c nginx.conf \
        -g 'daemon off; master_process off;' >valgrind.log 2>&1 &
    wait_until is_open "$port" || die "nginx does not start: $(cat valgrind.log error.log)"
    ask "$2" "${protocol[@]}"
    end_server $!
    # A line `fl=(4) malloc/malloc.c` names the file of the following costs. Only the first occurrence has
    # the name, and may be in the line of a call, `cfi=`. The line after `calls=` has the cost of the called
    # function, which also has its own lines.
    awk '
        /^c?f[ile]=/ {
            split($1, id, "=")
            if (NF > 1) file[id[2]] = $2
            if (!/^c/) allocator = file[id[2]] ~ /\/malloc\//
        }
        /^calls=/ { getline; next }
        /^[-+*0-9]/ && !allocator { sum += $2 }
        END { print sum }
    ' callgrind.out
}

for variant in $variants; do
    one_server "$variant"
    for protocol in $protocols; do
        first=$(total "$protocol" "$few")
        second=$(total "$protocol" "$many")
        instructions[$variant,$protocol]=$(((second - first) / (many - few)))
    done
done

printf '\nnginx: instructions in ngx_http_send_header for each response, without the allocator:\n\n'
printf '%-42s%10s%10s\n' '' HTTP/1.1 HTTP/2
for variant in $variants; do
    printf '%-42s%10d%10d\n' "$(describe "$variant")" \
        "${instructions[$variant,http1]}" "${instructions[$variant,http2]}"
done

# limit TEXT VARIANT BASE MORE: whether VARIANT needs at most what BASE needs, and MORE.
limit() {
    local protocol row=()
    for protocol in $protocols; do
        row+=("$(verdict "${instructions[$2,$protocol]} <= ${instructions[$3,$protocol]} + $4")")
    done
    printf '%-42s%10s%10s\n' "$1" "${row[@]}"
}
echo
# Reading the presented certificate from the session costs at most 40 instructions.
limit 'limit: on, at most 40 above add_header' on add_header 40
limit 'limit: off, at most 40 above without' off none 40

unused nginx one_server "$(command -v /usr/sbin/nginx)" -p "$home" -e error.log -c nginx.conf -t

# --- Each handshake ------------------------------------------------------------------------------

# one_handshake loaded|guarded: a certificate that nginx has loaded, or a variable one that goes through the guard.
one_handshake() {
    local guard='' names='ssl_certificate site.pem; ssl_certificate_key site.key;'
    if [ "$1" = guarded ]; then
        guard='hpkp_guard $site.pem $site.key;'
        names='ssl_certificate $hpkp_certificate; ssl_certificate_key $hpkp_certificate_key;'
    fi
    cat >nginx.conf <<END
load_module $nginx_module;
$nginx_main
http {
    $nginx_http
    map \$ssl_server_name \$site { default $home/site; }
    hpkp_policy site { pin sha256/$pin; pin sha256/$backup; max_age 1d; }
    server {
        listen 127.0.0.1:$port ssl;
        server_name localhost;
        $guard
        $names
        hpkp site;
        return 200 "hello\n";
    }
}
END
}

# handshakes FUNCTION COUNT: the instructions of the module's function and the functions that it calls, for
# COUNT full handshakes. nginx's own callback, which the function calls, is excluded.
handshakes() {
    valgrind -q --tool=callgrind --toggle-collect="$1" --callgrind-out-file=callgrind.out \
        "$(command -v /usr/sbin/nginx)" -p "$home" -e error.log -c nginx.conf \
        -g 'daemon off; master_process off;' >valgrind.log 2>&1 &
    wait_until is_open "$port" || die "nginx does not start: $(cat valgrind.log error.log)"
    h2load --h1 -n "$2" -c "$2" -m 1 "https://localhost:$port/" >h2load.log 2>&1 || :
    grep -q " $2 2xx," h2load.log || die "not $2 good answers: $(cat h2load.log)"
    end_server $!
    # As above: only the first occurrence has the name, and the line after `calls=` has the cost of the called
    # function.
    awk '
        /^(c?fn|c?ob)=/ {
            split($1, id, "=")
            kind = id[1] ~ /fn/ ? "f" : "o"
            if (NF > 1) name[kind id[2]] = $2
            if (id[1] == "fn") { in_step = name["f" id[2]] ~ /session::step/; called = "" }
            if (id[1] == "cob") called = name["o" id[2]]
        }
        /^calls=/ { getline; if (in_step && called ~ /nginx$/) before += $2; called = "" }
        /^summary:/ { all = $2 }
        END { print all - before }
    ' callgrind.out
}

# each_handshake FUNCTION: the instructions for one handshake.
each_handshake() {
    local first second
    first=$(handshakes "$1" 10)
    second=$(handshakes "$1" 30)
    echo $(((second - first) / 20))
}

one_handshake loaded
loaded=$(each_handshake '*session*step*')
one_handshake guarded
guarded=$(each_handshake '*guard*variables*value*')
printf '\nnginx: instructions of the module for each full handshake:\n\n'
printf '%-42s%10d\n' 'certificate loaded' "$loaded" 'certificate guarded, both variables' "$guarded"
echo
printf '%-42s%10s\n' 'limit: loaded, at most 2000' "$(verdict "$loaded <= 2000")"
# nginx reads the key again for each handshake: 9.2 million instructions in total.
printf '%-42s%10s\n' 'limit: guarded, at most 100000' "$(verdict "$guarded <= 100000")"

# --- The test of a configuration -----------------------------------------------------------------

one_with() {
    cat <<END
    hpkp_policy h$1 { pin sha256/$3; pin sha256/$4; max_age 1d; }
END
    one_of_many "$1" "$2" "hpkp h$1;"
}
one_without() {
    one_of_many "$1" "$2" ''
}

# one_of_many NUMBER CERTIFICATE DIRECTIVES
one_of_many() {
    cat <<END
    server {
        listen 127.0.0.1:$port ssl;
        server_name h$1.example.com;
        ssl_certificate $certificates/$2.pem;
        ssl_certificate_key $certificates/$2.key;
        $3
    }
END
}

# many_servers with|without COUNT: a configuration of COUNT servers, with or without the module.
many_servers() {
    local load='' directives=''
    if [ "$1" = with ]; then
        load="load_module $nginx_module;"
        directives="hpkp_trusted_certificate $certificates/ca.pem;
    hpkp_published_pins $home/empty writer=web-1;"
    fi
    cat <<END
$load
$nginx_main
http {
    $nginx_http
    server_names_hash_max_size 65536;
    server_names_hash_bucket_size 128;
    $directives
END
    each_host "one_$1" "$2"
    echo '}'
}

# test_time NAME: of `nginx -t`.
test_time() {
    cp "$1.conf" nginx.conf
    cpu_time nginx -t
}

# has_worker: whether nginx has a worker: then the whole configuration is in memory.
has_worker() { [ -s nginx.pid ] && grep -q . "/proc/$(cat nginx.pid)/task/$(cat nginx.pid)/children"; }

# memory NAME: of the master, in kB.
memory() {
    cp "$1.conf" nginx.conf
    nginx || die "nginx does not start"
    wait_until has_worker || die "nginx has no worker"
    awk '/^VmRSS:/ { print $2 }' "/proc/$(cat nginx.pid)/status"
    kill -TERM "$(cat nginx.pid)"
    wait_until is_gone || die "nginx does not end"
}
is_gone() { [ ! -e nginx.pid ]; }

for count in "$hosts" 10000; do
    many_servers with "$count" >with.conf
    many_servers without "$count" >without.conf
    in_pairs test_time
    printf '\nnginx -t with %d TLS servers, each with a policy of its own and %s (medians of %d):\n\n' \
        "$count" "$( ((count > hosts)) && echo "$hosts certificates" || echo 'a certificate')" "$runs"
    print_times ratio "$(median ratios)"
    print_limit_of_ratio 1.10
    more=$(($(memory with) - $(memory without)))
    # Removes the records that the start above has written.
    rm -f empty/*.jsonl empty/hpkp-reserve
    printf '%-42s%10s\n' 'memory of the master, more for each host' \
        "$(awk -v more="$more" -v hosts="$count" 'BEGIN { printf "%.2f kB", more / hosts }')"
done

# Of as many as there are certificates again.
many_servers with "$hosts" >with.conf
. "$root/ci/bench-records.sh"
