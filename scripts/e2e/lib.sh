# What the end-to-end scripts share. Source it; it leaves the shell in the repository's root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PATH="$PATH:/usr/sbin:/sbin"
netlab=scripts/netlab
cheetah=${CHEETAH:-${CARGO_TARGET_DIR:-$PWD/target}/release/cheetah}

# Says in one line why a script does nothing here, and succeeds.
skip() { echo "$(basename "$0"): skipped: $1"; exit 0; }
fail() { echo "$(basename "$0"): FAILED: $1" >&2; exit 1; }

need_root() { [ "$(id -u)" = 0 ] || skip "network namespaces need root"; }
need() { for tool; do command -v "$tool" >/dev/null || skip "$tool is not installed"; done; }
need_tap() { [ -c /dev/net/tun ] || skip "no /dev/net/tun here"; }
need_cheetah() { [ -n "${CHEETAH:-}" ] || cargo build --release --quiet -p cheetah; }

# The command that serves $1 over $2 (kernel, tap, ring, xdp, packet) inside netlab; the rest is passed on.
serve() {
    local source=$1 net=$2
    shift 2
    if [ "$net" = kernel ]; then
        printf '%q ' "$cheetah" serve "$source" --listen 10.83.0.1:8080 "$@"
    else
        printf '%q ' "$cheetah" serve "$source" --listen 10.83.0.1:8080 --net "$net" --dev nl0 --addr 10.83.0.1/24 "$@"
    fi
}

# The netlab options that go with a --net of cheetah's.
lab() {
    case $1 in
        kernel) echo --link veth ;;
        tap) echo --link tap ;;
        ring) echo --link veth --stack own ;;
        # A packet device cannot tell an unfinished checksum from a wrong one.
        *) echo --link veth --stack own --offload off ;;
    esac
}
