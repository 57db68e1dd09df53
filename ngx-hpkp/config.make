# The rules of the module in nginx's Makefile, see config. Where no source has changed since, cargo is not called:
# "make install" may run as root, who may have no Rust. A running nginx may have the old file mapped, so a new file is
# put in its place.
case "$NGX_OBJS" in
    /*) ngx_hpkp_objs=$NGX_OBJS ;;
    *) ngx_hpkp_objs=$PWD/$NGX_OBJS ;;
esac
case "$NGX_MODULES_PATH" in
    /*) ngx_hpkp_modules=$NGX_MODULES_PATH ;;
    *) ngx_hpkp_modules=$NGX_PREFIX/$NGX_MODULES_PATH ;;
esac
ngx_hpkp_sources=$(
    cd "$ngx_hpkp_dir/.." &&
        find "$PWD/Cargo.toml" "$PWD/Cargo.lock" "$PWD/hpkp-core" "$PWD/hpkp-server" "$ngx_hpkp_dir" -name target -prune -o \
            -type f \( -name '*.rs' -o -name 'Cargo.*' \) -printf '%p \\\n'
)

cat <<END >>"$NGX_MAKEFILE"

modules:	$NGX_OBJS/ngx_http_hpkp_module.so

.PHONY:	hpkp_install

$NGX_OBJS/ngx_http_hpkp_module.so:	$ngx_hpkp_sources
		\$(CORE_DEPS)
	+cd '$ngx_hpkp_dir' && \\
	NGINX_SOURCE_DIR='$PWD' NGINX_BUILD_DIR='$ngx_hpkp_objs' $ngx_hpkp_cargo build \\
		--release --locked --target-dir '$ngx_hpkp_objs/hpkp'
	cp $NGX_OBJS/hpkp/release/libngx_http_hpkp_module.so \$@.new
	mv \$@.new \$@

install:	hpkp_install

hpkp_install:	$NGX_OBJS/ngx_http_hpkp_module.so
	test -d '\$(DESTDIR)$ngx_hpkp_modules' || mkdir -p '\$(DESTDIR)$ngx_hpkp_modules'
	cp $NGX_OBJS/ngx_http_hpkp_module.so '\$(DESTDIR)$ngx_hpkp_modules/ngx_http_hpkp_module.so.new'
	mv '\$(DESTDIR)$ngx_hpkp_modules/ngx_http_hpkp_module.so.new' \\
		'\$(DESTDIR)$ngx_hpkp_modules/ngx_http_hpkp_module.so'

END
