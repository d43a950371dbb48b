#!/bin/bash
# Brings everything that the demo, the end-to-end tests and the benchmarks need and that is not Rust:
# Debian packages on the machine, container images made from Debian packages, other versions of containerd,
# and runsc to compare with. Root, Debian, no systemd needed; nothing is pulled from an image registry, and
# the package mirror is whichever one the machine's own apt uses. A second run finds everything cached.
#
#   setup.sh [WHAT...]     packages busybox pause debian containerd-1.7 containerd-2.1 runsc; all of these if none is named;
#                          programs (a few GB, for tests/programs) only then
#
# Products, under $RVISOR_CACHE (default: .cache in the repository):
#   images/NAME.tar        OCI image layouts for `ctr images import`: localhost/{busybox,pause,debian}:1
#   rootfs/NAME/           the same trees, for `rvisor do`, runc and runsc without containerd
#   containerd-1.7/ ...    an unpacked package: usr/bin/{containerd,ctr}
#   runsc/                 an unpacked package: usr/bin/runsc
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
cache=${RVISOR_CACHE:-$(readlink -f "$here/../..")/.cache}
host_packages=(containerd runc busybox-static mmdebstrap iproute2 gcc libc6-dev redis-server redis-tools python3 procps util-linux xz-utils e2fsprogs
    # pods through CRI: their network, and a client's libraries
    containernetworking-plugins python3-grpcio python3-protobuf protobuf-compiler)
program_packages=(bash ca-certificates chromium curl default-jdk-headless ffmpeg firefox-esr fonts-dejavu-core g++ gcc git golang-go iproute2 libc6-dev make
    mono-mcs nginx-light nodejs perl php-cli postgresql procps python3 python3-dev python3-pip python3-venv python3-wheel redis-server redis-tools ruby sqlite3 xz-utils)
image_packages=(bash coreutils python3 gcc libc6-dev redis-server redis-tools procps iproute2 curl)
export DEBIAN_FRONTEND=noninteractive LC_ALL=C

say() { echo "setup: $*"; }
die() { echo "setup: $*" >&2; exit 1; }

# A product is fresh when its stamp holds the recipe that would make it now.
fresh() { [ -e "$1" ] && [ "$(cat "$1.recipe" 2>/dev/null)" = "$2" ]; }
stamp() { echo "$2" > "$1.recipe"; }

packages() {
    local missing=() package
    for package in "${host_packages[@]}"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    say "installing ${missing[*]}"
    # One broken extra source of the machine must not stop us: the install itself will tell.
    apt-get update -qq || true
    apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
}

# The machine's own Debian: its codename, its mirror and the mirror of its security updates.
find_mirror() {
    [ -n "${mirror:-}" ] && return
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    local targets
    targets=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages')
    if [ -z "$targets" ]; then
        apt-get update -qq || true
        targets=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages')
    fi
    mirror=$(awk -v c="$codename" '$1 == c && /debian/ { print $2; exit }' <<< "$targets")
    security=$(awk -v c="$codename-security" '$1 == c { print $2; exit }' <<< "$targets")
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -n "$mirror" ] || die "no Debian mirror for $codename among the machine's apt sources"
}

busybox_image() {
    local out=$cache/images/busybox.tar recipe
    recipe="busybox 1 $(sha256sum < "$here/oci.py") $(sha256sum < /bin/busybox)"
    fresh "$out" "$recipe" && return
    say "building localhost/busybox:1"
    local root=$cache/rootfs/busybox applet
    rm -rf "$root"
    mkdir -p "$root"/{bin,tmp,etc,dev,proc,sys,root,run,usr,var} "$cache/images"
    chmod 1777 "$root/tmp"
    cp /bin/busybox "$root/bin/busybox"
    for applet in $(busybox --list); do
        [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
    done
    ln -s ../bin "$root/usr/bin"
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' > "$root/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' > "$root/etc/group"
    python3 "$here/oci.py" "$out" localhost/busybox:1 "$root"
    stamp "$out" "$recipe"
}

# What a pod's first container runs: nothing, for ever. The small image with another command.
pause_image() {
    busybox_image
    local out=$cache/images/pause.tar recipe
    recipe="pause 1 $(cat "$cache/images/busybox.tar.recipe")"
    fresh "$out" "$recipe" && return
    python3 "$here/oci.py" "$out" localhost/pause:1 "$cache/rootfs/busybox" --cmd '["sleep", "1000000000"]'
    stamp "$out" "$recipe"
}

debian_image() {
    find_mirror
    local out=$cache/images/debian.tar recipe
    recipe="debian 1 $codename ${image_packages[*]} $(sha256sum < "$here/oci.py")"
    fresh "$out" "$recipe" && return
    say "building localhost/debian:1 from $codename (a minute or two)"
    local root=$cache/rootfs/debian sources=("deb $mirror $codename main")
    [ -z "$security" ] || sources+=("deb $security $codename-security main")
    rm -rf "$root"
    mkdir -p "$cache/rootfs" "$cache/images"
    mmdebstrap --quiet --variant=minbase --include="$(IFS=,; echo "${image_packages[*]}")" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/* "$1"/var/log/*' \
        "$codename" "$root" "${sources[@]}"
    python3 "$here/oci.py" "$out" localhost/debian:1 "$root"
    stamp "$out" "$recipe"
}

# Large programs as Debian has them, for tests/programs/run.sh; a few GB, so only made when it is named.
programs_root() {
    find_mirror
    local root=$cache/rootfs/programs recipe sources=("deb $mirror $codename main")
    recipe="programs 1 $codename ${program_packages[*]}"
    fresh "$root" "$recipe" && return
    say "unpacking large programs of $codename (ten minutes)"
    [ -z "$security" ] || sources+=("deb $security $codename-security main")
    rm -rf "$root"
    mkdir -p "$cache/rootfs"
    mmdebstrap --quiet --variant=minbase --include="$(IFS=,; echo "${program_packages[*]}")" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*' \
        "$codename" "$root" "${sources[@]}"
    stamp "$root" "$recipe"
}

# other_suite NAME SUITE PACKAGE: unpacks a package of another Debian suite without touching the system's apt.
other_suite() {
    local name=$1 suite=$2 package=$3 out=$cache/$1
    fresh "$out" "$suite $package" && return
    find_mirror
    say "fetching $package of $suite"
    local apt=$cache/apt/$suite
    mkdir -p "$apt"/etc/{sources.list.d,preferences.d,apt.conf.d} "$apt"/state/lists/partial "$apt"/cache/archives/partial
    echo "deb [signed-by=$keyring] $mirror $suite main" > "$apt/etc/sources.list"
    {
        echo "Dir::State \"$apt/state\";"
        echo 'Dir::State::status "/var/lib/dpkg/status";'
        echo "Dir::Cache \"$apt/cache\";"
        echo "Dir::Etc \"$apt/etc\";"
        # Mirrors that stand still (snapshots) let Release files expire; signatures are checked all the same.
        echo 'Acquire::Check-Valid-Until "false";'
        echo 'APT::Sandbox::User "root";'
        [ ! -e /etc/apt/apt.conf ] || cat /etc/apt/apt.conf
    } > "$apt/apt.conf"
    cp -rT /etc/apt/apt.conf.d "$apt/etc/apt.conf.d"
    APT_CONFIG=$apt/apt.conf apt-get update -qq
    rm -f "$apt"/*.deb
    (cd "$apt" && APT_CONFIG=$apt/apt.conf apt-get download -qq "$package/$suite")
    rm -rf "$out"
    mkdir -p "$out"
    dpkg -x "$apt"/*.deb "$out"
    rm -rf "$apt"
    stamp "$out" "$suite $package"
}

[ "$(id -u)" = 0 ] || die "needs root (packages, mmdebstrap, containerd)"
mkdir -p "$cache"
[ $# -gt 0 ] || set -- packages busybox pause debian containerd-1.7 containerd-2.1 runsc
for what in "$@"; do
    case $what in
        packages) packages ;;
        busybox) busybox_image ;;
        pause) pause_image ;;
        programs) programs_root ;;
        debian) debian_image ;;
        containerd-1.7) other_suite containerd-1.7 trixie containerd ;;
        containerd-2.1) other_suite containerd-2.1 forky containerd ;;
        # Only to compare with: without it the benchmark leaves its columns empty.
        runsc) other_suite runsc bookworm-backports runsc || say "no runsc to be had: its columns stay empty" ;;
        *) die "unknown product $what" ;;
    esac
done
say "ready in $cache"
