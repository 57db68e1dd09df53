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

# one_server VARIANT: a configuration in which both ways to send the header send the same octets.
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
# connection. Those of the allocator itself are left out: how far it searches depends on all that
# was allocated before. One more server block, which nobody asks, can be worth 80 instructions.
total() {
    local protocol=() nginx
    [ "$1" = http2 ] || protocol=(--h1)
    # One process, or the counts would be spread over several.
    nginx=$(command -v /usr/sbin/nginx)
    valgrind -q --tool=callgrind --toggle-collect=ngx_http_send_header \
        --callgrind-out-file=callgrind.out "$nginx" -p "$home" -e error.log -c nginx.conf \
        -g 'daemon off; master_process off;' >valgrind.log 2>&1 &
    wait_until is_open "$port" || die "nginx does not start: $(cat valgrind.log error.log)"
    ask "$2" "${protocol[@]}"
    end_server $!
    # A line `fl=(4) malloc/malloc.c` names the file of the costs that follow; the name stands there
    # only the first time, perhaps in the line of a call, `cfi=`. The cost in the line after `calls=`
    # is that of the function called, which has lines of its own.
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
limit 'limit: on, at most add_header' on add_header 0
limit 'limit: off, at most 40 above without' off none 40

# --- The test of a configuration -----------------------------------------------------------------

one_of_many() {
    cat <<END
    hpkp_policy h$1 { pin sha256/$2; pin sha256/$3; max_age 1d; }
    server {
        listen 127.0.0.1:$port ssl;
        server_name h$1.example.com;
        ssl_certificate $certificates/$1.pem;
        ssl_certificate_key $certificates/$1.key;
        hpkp h$1;
    }
END
}

# The configuration; what the module adds to it stands in lines of its own.
many_servers() {
    cat <<END
load_module $nginx_module;
$nginx_main
http {
    $nginx_http
    server_names_hash_max_size 16384;
    server_names_hash_bucket_size 128;
    hpkp_trusted_certificate $certificates/ca.pem;
END
    each_host one_of_many
    echo '}'
}
many_servers >with.conf
# By the names of directives alone: the directory's own name may be hpkp.
sed -E '/^ *(load_module|hpkp[a-z_]*) /d' with.conf >without.conf
is_without_module without.conf ssl_certificate_key

# test_time NAME: of `nginx -t`.
test_time() {
    cp "$1.conf" nginx.conf
    cpu_time nginx -t
}
in_pairs test_time

printf '\nnginx -t with %d TLS servers, each with a certificate and a policy of its own (medians of %d):\n\n' \
    "$hosts" "$runs"
print_times ratio "$(median ratios)"
print_limit_of_ratio 1.25

. "$root/ci/bench-records.sh"
