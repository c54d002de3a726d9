#!/usr/bin/env bash
# `make test-fresh`: the suite on a machine that has nothing yet. That is a minimal system of this machine's release,
# which debootstrap makes in a folder, with a new HOME, an empty /tmp and no caches; there .ci/run installs what it
# needs from nothing. It needs root, on Debian or Ubuntu, and 15 GB in /var/tmp.
#
# Of this machine it has where packages come from: apt's sources, proxies and certificates, pip's /etc/pip.conf,
# /etc/xdg/pip and PIP_* variables, and the local folders that those name, read-only. Of HOME it has nothing.
#
#   ARGS="tests/test_cli.py -x"     pytest's arguments
#   FRESH_FOLDER=/elsewhere         where the system is made
#   FRESH_PIP_CACHE=~/.cache/pip    lets pip read, but not write, what was downloaded before; it must be root's
#   FRESH_KEEP=1                    leaves the system, to look into it with chroot
#
# Mounts and processes live in namespaces of their own, so that the kernel ends both, whatever ends this.
set -euo pipefail

# What has no place in there: an engine of Docker's would change this machine's network, and systemd wants to be process 1.
WITHOUT="docker systemd"
CHECKOUT=/srv/build-repo

main() {
    [ "$(id -u)" = 0 ] || fail "needs root: sudo make test-fresh"
    for program in debootstrap unshare apt-get git; do
        command -v "$program" >/dev/null || fail "needs $program: apt-get install debootstrap util-linux git"
    done
    unshare --mount --pid --fork true 2>/dev/null || fail "needs namespaces; a container must be privileged"
    folder=$(mktemp -d "${FRESH_FOLDER:-/var/tmp}/build-repo-fresh.XXXXXX")
    log=$folder.log suite=
    trap finish EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    echo "log: $log"
    echo "not run in there: tests marked ${WITHOUT// / or }"
    checkout >"$folder/checkout.tar"
    set -m # a group of its own: an interrupt comes here first, and is not ignored there
    unshare --mount --pid --ipc --fork --kill-child "$BASH" "$0" inside "$folder" \
        </dev/null > >(tee -a "$log") 2>&1 &
    suite=$!
    set +m
    wait "$suite"
}

finish() {
    local status=$?
    trap - EXIT
    trap '' HUP INT TERM
    if [ -n "$suite" ]; then
        kill -KILL "$suite" 2>/dev/null || true
        wait "$suite" 2>/dev/null || true
    fi
    # Nothing is mounted in this namespace; should it be all the same, what is mounted must not be deleted.
    mounts | while read -r place; do umount -R "$place" || true; done
    if [ -n "${FRESH_KEEP:-}" ]; then
        echo "kept: $folder/root"
    elif [ -n "$(mounts)" ]; then
        echo "left as it is, for something is still mounted in it: $folder" >&2
    else
        rm -rf --one-file-system "$folder"
    fi
    echo "log: $log"
    exit "$status"
}

mounts() { # what is mounted in the folder, innermost first
    awk -v "folder=$folder/" 'index($5, folder) == 1 { print $5 }' /proc/self/mountinfo | sort -r
}

checkout() { # tracked files as they are now, committed or not, and no others
    local here commit
    here=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
    git -C "$here" update-index -q --refresh || true # stash fails, mutely, where files differ in time alone
    commit=$(git -C "$here" -c user.name=fresh -c user.email=fresh@localhost stash create)
    git -C "$here" archive "${commit:-HEAD}"
}

inside() { # process 1 of its namespace
    local root=$1/root
    debootstrap --variant=minbase "$(release)" "$root" "$(mirror)" >>"$1.log"
    carry_apt "$root"
    carry_certificates "$root"
    carry_pip "$root"
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    mkdir -p "$root$CHECKOUT"
    tar -x -C "$root$CHECKOUT" -f "$1/checkout.tar"
    devices "$root"
    suite "$root" && status=0 || status=$?
    echo "left behind: $(find "$root/tmp" "$root/dev/shm" -mindepth 1 -maxdepth 1 -printf '%P ')"
    return "$status"
}

release() {
    # shellcheck source=/dev/null
    (. /etc/os-release && echo "$VERSION_CODENAME")
}

mirror() { # where apt gets the release from
    # shellcheck disable=SC2016 # apt expands it
    apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(SITE)' 'Created-By: Packages' |
        awk -v "release=$(release)" '$1 == release && $2 == "main" { print $3; exit }'
}

carry_apt() {
    local path
    rm -f "$1/etc/apt/sources.list"
    for path in sources.list sources.list.d trusted.gpg.d keyrings auth.conf auth.conf.d preferences.d; do
        [ ! -e "/etc/apt/$path" ] || cp -aL "/etc/apt/$path" "$1/etc/apt/"
    done
    cp -anL /usr/share/keyrings/. "$1/usr/share/keyrings/"
    # Hooks and scripts that this machine's apt is told to run are not there.
    apt-config dump | grep '^Acquire::' | grep -viE 'auto-?detect' >"$1/etc/apt/apt.conf.d/90machine" || true
}

carry_certificates() {
    mkdir -p "$1/etc/ssl" "$1/usr/local/share/ca-certificates"
    [ ! -d /etc/ssl/certs ] || cp -aL /etc/ssl/certs "$1/etc/ssl/" 2>/dev/null || true # links may be broken
    # Whatever renews the bundle in there then finds this machine's own in it.
    [ ! -e /etc/ssl/certs/ca-certificates.crt ] ||
        cp -L /etc/ssl/certs/ca-certificates.crt "$1/usr/local/share/ca-certificates/machine.crt"
}

carry_pip() {
    local path
    [ ! -e /etc/pip.conf ] || cp -L /etc/pip.conf "$1/etc/"
    [ ! -d /etc/xdg/pip ] || { mkdir -p "$1/etc/xdg" && cp -aL /etc/xdg/pip "$1/etc/xdg/"; }
    named_by_pip | while read -r path; do show "$1" "$path" "$path"; done
    [ -z "${FRESH_PIP_CACHE:-}" ] || show "$1" "$FRESH_PIP_CACHE" /root/.cache/pip
}

named_by_pip() { # folders with wheels or an index; an index's files lie beside it
    { cat /etc/pip.conf /etc/xdg/pip/pip.conf 2>/dev/null || true; printenv | grep '^PIP_' || true; } |
        tr -s ' =,' '\n' | sed -nE 's#^file://(/.+)/[^/]+/?$#\1#p; /^\//p' | sort -u |
        while read -r path; do
            case $path/ in
            "$HOME"/* | /etc/*) ;;
            *) [ ! -d "$path" ] || echo "$path" ;;
            esac
        done
}

show() { # $3 in the system $1 is this machine's folder $2, read-only
    mkdir -p "$1$3"
    mount --bind -o ro "$2" "$1$3"
}

devices() {
    mount -t proc proc "$1/proc"
    mount --rbind -o ro /sys "$1/sys"
    mkdir -p "$1/dev/shm" "$1/dev/pts"
    mount -t tmpfs -o mode=1777 tmpfs "$1/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$1/dev/pts"
    ln -sf pts/ptmx "$1/dev/ptmx"
}

suite() {
    local own=(HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
    local variable='^(PIP_[A-Z_]+|[A-Za-z]+_(proxy|PROXY)|SSL_CERT_(FILE|DIR)|[A-Z_]+_CA_(BUNDLE|CERTS))='
    mapfile -t machine < <(printenv | grep -E "$variable" | grep -v '^PIP_CACHE_DIR=')
    chroot "$1" /usr/bin/env -i --default-signal "${own[@]}" "${machine[@]}" "WITHOUT=$WITHOUT" "ARGS=${ARGS:-}" \
        /bin/bash -c "cd $CHECKOUT && exec .ci/run"
}

fail() {
    echo "test-fresh $*" >&2
    exit 1
}

if [ "${1:-}" = inside ]; then inside "$2"; else main; fi
