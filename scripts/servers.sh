# How each server of a comparison is started on the files of a folder, with one process or thread that serves and no log.
# Source it after e2e/lib.sh, or run it: `servers.sh NAME SITE WORK` prints the command for netlab's --server and, in lines
# before that, the options for netlab. SITE holds the files, WORK is a folder for configurations. Both are readable for all.

# Why a server cannot be had here; nothing if it can.
server_missing() {
    local program=$1
    case $1 in
        kernel | kernel-* | tap | tap-* | ring | ring-* | xdp | xdp-* | packet) return ;;
        accelerator*) command -v nginx >/dev/null || echo "nginx, its origin, is not installed"; return ;;
        nginx-*) program=nginx ;;
        apache) program=apache2 ;;
        squid) command -v nginx >/dev/null || { echo "nginx, its origin, is not installed"; return; } ;;
    esac
    command -v "$program" >/dev/null || echo "$program is not installed"
}

# A name with its version.
server_version() {
    case $1 in
        kernel | kernel-* | tap | tap-* | ring | ring-* | xdp | xdp-* | packet) echo "cheetah --net ${1%%-*}" ;;
        nginx*) nginx -v 2>&1 | sed 's,.*: ,,' ;;
        apache) apache2 -v | sed -n 's,.*version: \([^ ]*\).*,\1 prefork,p' ;;
        squid) squid -v | sed -n '1s,.*Version ,squid/,p' ;;
        lighttpd) lighttpd -v | awk 'NR == 1 { print $1 }' ;;
        h2o) h2o --version | sed -n '1s/h2o version /h2o\//p' ;;
        mini_httpd) mini_httpd -V 2>&1 | head -1 ;;
        *) echo "$1" ;;
    esac
}

nginx_conf() { # address sendfile site work
    cat <<END
worker_processes 1; daemon off; pid $4/nginx-$$.pid; error_log $4/nginx.log crit; worker_rlimit_nofile 65536;
events { worker_connections 20000; multi_accept on; }
http {
    access_log off; sendfile $2; tcp_nopush on; tcp_nodelay on; expires 1d;
    keepalive_timeout 3600; keepalive_requests 1000000000;
    open_file_cache max=1000 inactive=3600s; open_file_cache_valid 3600s;
    types { } default_type application/octet-stream;
    server { listen $1 backlog=8192; $(nginx_tls) root $3; }
}
END
}

# With $tls_files, a folder with c.pem and k.pem, servers also speak HTTPS, at port 8443.
nginx_tls() {
    [ -z "${tls_files:-}" ] && return
    echo "listen 10.83.0.1:8443 ssl http2 backlog=8192; ssl_certificate $tls_files/c.pem; ssl_certificate_key $tls_files/k.pem;
        ssl_protocols TLSv1.2 TLSv1.3; ssl_session_tickets on; ${suite:+ssl_conf_command Ciphersuites $suite;}"
}

# What of a name is a switch, as options: tap-held is `--net tap --without frame-sealing`.
serve_https() { # name source
    local name=$1 source=$2 without=''
    shift 2
    case $name in *-plain*) without=offload ;; esac
    case $name in
        *-held) without+=${without:+,}frame-sealing ;;
        *-separate) without+=${without:+,}fused-loops ;;
    esac
    [ -z "$without" ] || set -- "$@" --without "$without"
    case $name in *-uring*) set -- "$@" --sockets io-uring ;; esac
    # As nginx is told to.
    case ${suite:-} in TLS_AES_256*) set -- "$@" --tls-prefer aes256 ;; esac
    serve "$source" "${name%%-*}" --tls-listen 10.83.0.1:8443 --tls-cert "$tls_files/c.pem" --tls-key "$tls_files/k.pem" "$@"
}

# The options of netlab for a server, one a line.
server_lab() { # name offload
    case $1 in
        tap | tap-* | accelerator-tap) printf '%s\n' --link tap --offload "$2" ;;
        ring | ring-*) printf '%s\n' --link veth --stack own --offload "$2" ;;
        # A packet device and AF_XDP cannot tell an unfinished checksum from a wrong one.
        packet | xdp | xdp-*) printf '%s\n' --link veth --stack own --offload off ;;
        *) printf '%s\n' --link veth --offload "$2" ;;
    esac
}

# The command that serves the folder on 10.83.0.1:8080 inside netlab.
server_command() { # name site work
    local at=10.83.0.1:8080 site=$2 work=$3
    if [ -n "${tls_files:-}" ] && [[ $1 =~ ^(kernel|tap|ring|xdp|packet)(-|$) ]]; then
        serve_https "$1" "$site"
        return
    fi
    case $1 in
        kernel | ring | xdp | packet) serve "$site" "$1" ;;
        # What is done with many sockets as one call.
        kernel-uring) serve "$site" kernel --sockets io-uring ;;
        # A stack, or a loop over sockets, a thread.
        kernel-two | tap-two | ring-two | xdp-two) serve "$site" "${1%-*}" --workers 2 ;;
        kernel-copying) serve "$site" kernel --without zero-copy ;;
        tap) serve "$site" tap ;;
        tap-plain) serve "$site" tap --without offload ;;
        # Each payload copied and summed by our loops: in one pass, or in two.
        tap-fused | ring-fused) serve "$site" "${1%-*}" --without offload,stored-sums,cached-sums ;;
        tap-separate | ring-separate) serve "$site" "${1%-*}" --without offload,stored-sums,cached-sums,fused-loops ;;
        xdp-fused) serve "$site" xdp --without stored-sums,cached-sums ;;
        xdp-separate) serve "$site" xdp --without stored-sums,cached-sums,fused-loops ;;
        nginx) nginx_conf $at on "$site" "$work" >"$work/nginx.conf"; echo "nginx -c $work/nginx.conf" ;;
        # As our server on the kernel's sockets does: a connection is accepted with its first request.
        nginx-deferred) nginx_conf "$at deferred" on "$site" "$work" >"$work/$1.conf"; echo "nginx -c $work/$1.conf" ;;
        nginx-nosendfile) nginx_conf $at off "$site" "$work" >"$work/$1.conf"; echo "nginx -c $work/$1.conf" ;;
        # NCSA's heir in code, and its way: a process a connection, from a pool.
        apache)
            local modules=/usr/lib/apache2/modules
            cat >"$work/apache.conf" <<END
ServerRoot $work
ServerName lab
Listen $at
Mutex file:$work
PidFile $work/apache.pid
ErrorLog $work/apache.log
LogLevel crit
LoadModule mpm_prefork_module $modules/mod_mpm_prefork.so
LoadModule authz_core_module $modules/mod_authz_core.so
User www-data
Group www-data
StartServers 32
MinSpareServers 32
MaxSpareServers 64
MaxRequestWorkers 150
MaxConnectionsPerChild 0
KeepAlive On
MaxKeepAliveRequests 0
DocumentRoot $site
<Directory $site>
    AllowOverride None
    Require all granted
</Directory>
END
            # In a session of its own: as it ends it signals its whole process group.
            echo "setsid apache2 -f $work/apache.conf -DFOREGROUND" ;;
        # Harvest's heir, as an accelerator before an origin, everything in its memory.
        squid)
            nginx_conf 127.0.0.1:8081 on "$site" "$work" >"$work/origin.conf"
            cat >"$work/squid.conf" <<END
http_port $at accel defaultsite=lab no-vhost
cache_peer 127.0.0.1 parent 8081 0 no-query originserver no-digest no-netdb-exchange name=origin
http_access allow all
cache_peer_access origin allow all
cache_mem 256 MB
maximum_object_size_in_memory 4 MB
access_log none
cache_log $work/squid.log
pid_filename none
coredump_dir $work
shutdown_lifetime 0 seconds
pinger_enable off
END
            cat >"$work/squid" <<END
nginx -c $work/origin.conf &
exec squid -N -f $work/squid.conf
END
            echo "bash $work/squid" ;;
        # Before the same origin: ours, and nginx's. Under a name with -tap ours is on our own TCP/IP.
        accelerator | accelerator-tap)
            nginx_conf 127.0.0.1:8081 on "$site" "$work" >"$work/origin.conf"
            local net=kernel; [ "$1" = accelerator ] || net=tap
            local words; words=$(serve --origin "$net")
            words=${words/ serve --origin / accelerate http://127.0.0.1:8081 }
            printf 'nginx -c %s &\nexec %s\n' "$work/origin.conf" "$words" >"$work/$1"
            echo "bash $work/$1" ;;
        nginx-cache)
            nginx_conf 127.0.0.1:8081 on "$site" "$work" >"$work/origin.conf"
            mkdir -p "$work/proxy-cache"; chmod a+rwx "$work/proxy-cache"
            cat >"$work/nginx-cache.conf" <<END
worker_processes 1; daemon off; pid $work/nginx-cache.pid; error_log $work/nginx-cache.log crit; worker_rlimit_nofile 65536;
events { worker_connections 20000; multi_accept on; }
http {
    access_log off; sendfile on; tcp_nopush on; tcp_nodelay on;
    keepalive_timeout 3600; keepalive_requests 1000000000;
    open_file_cache max=1000 inactive=3600s; open_file_cache_valid 3600s;
    proxy_cache_path $work/proxy-cache keys_zone=all:10m inactive=1h;
    server { listen $at backlog=8192; location / { proxy_pass http://127.0.0.1:8081; proxy_cache all; } }
}
END
            printf 'nginx -c %s &\nexec nginx -c %s\n' "$work/origin.conf" "$work/nginx-cache.conf" >"$work/nginx-cache"
            echo "bash $work/nginx-cache" ;;
        lighttpd)
            cat >"$work/lighttpd.conf" <<END
server.document-root = "$site"
server.bind = "10.83.0.1"
server.port = 8080
server.max-fds = 20000
server.max-connections = 10000
server.max-keep-alive-requests = 100000000
server.errorlog = "$work/lighttpd.log"
mimetype.assign = ( "" => "application/octet-stream" )
END
            echo "lighttpd -D -f $work/lighttpd.conf" ;;
        h2o)
            cat >"$work/h2o.conf" <<END
listen:
  host: 10.83.0.1
  port: 8080
num-threads: 1
user: www-data
error-log: $work/h2o.log
hosts:
  default:
    paths:
      "/":
        file.dir: $site
END
            echo "h2o -c $work/h2o.conf" ;;
        # By thttpd's author, but a process a connection.
        mini_httpd) echo "mini_httpd -D -p 8080 -h 10.83.0.1 -d $site -l /dev/null -i $work/mini.pid" ;;
        thttpd) echo "thttpd -D -p 8080 -h 10.83.0.1 -d $site -l /dev/null -i $work/thttpd.pid" ;;
        *) fail "no server $1" ;;
    esac
}

# --share: the server gets so much of its processor and no more, in periods of 10 ms, shorter than anything that is measured; by
# cgroups of version 1 or of version 2. First the group, in $group, once; then around each case `limited` and `place`.
share_group() { # percent name work
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
        group=/sys/fs/cgroup/$2-$$
        { echo +cpu >/sys/fs/cgroup/cgroup.subtree_control && mkdir "$group" && echo "$(($1 * 100)) 10000" >"$group/cpu.max"; } || skip "no cgroups"
    else
        group=/sys/fs/cgroup/cpu/$2-$$
        { mkdir "$group" && echo 10000 >"$group/cpu.cfs_period_us" && echo "$(($1 * 100))" >"$group/cpu.cfs_quota_us"; } || skip "no cgroups"
    fi
    # In a network namespace /sys has no groups: the server says its number and waits until it was put there.
    cat >"$3/limited" <<END
#!/usr/bin/env bash
echo \$\$ >"$3/pid" || exit
for try in {1..1000}; do [ ! -e "$3/placed" ] || exec "\$@"; sleep 0.01; done
echo "nobody placed the server in its group" >&2
exit 1
END
    cat >"$3/place" <<END
for try in {1..3000}; do [ ! -s "$3/pid" ] || break; sleep 0.01; done
cat "$3/pid" >"$group/cgroup.procs" && : >"$3/placed"
END
    chmod a+rx "$3/limited"
}

# The command of a server that is limited; whoever starts it next is put in the group by $placer, a process.
share_command() { # command work
    command="$2/limited $1"
    rm -f "$2/pid" "$2/placed"
    # Whose output is nobody's: who reads the figures would wait for its end.
    bash "$2/place" >/dev/null & placer=$!
}
