#!/usr/bin/env bash
# Builds the container image and tries it: `make image`. Needs buildah (Debian: apt-get install buildah) and root, but
# neither a daemon nor a container engine: processes run in a chroot of the image, with this machine's network.
#
#   BASE=docker.io/library/python:3.12-slim    the base image (the default); any with Python 3.11, venv and useradd does
#   BASE=debian                                make the base with debootstrap, where no registry can be reached
#   KEEP=pylantir.tar                          write the image into this file, for `docker load` or `podman load`
set -euo pipefail
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
chmod 755 "$work"
started=
tidy_up() {
    [ -z "$started" ] || kill "$started" 2>/dev/null || true
    rm -rf "$work"
}
trap tidy_up EXIT
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
printf '[storage]\ndriver = "vfs"\ngraphroot = "%s/images"\nrunroot = "%s/run"\n' "$work" "$work" >"$work/storage.conf"
export CONTAINERS_STORAGE_CONF="$work/storage.conf"

base=${BASE:-docker.io/library/python:3.12-slim}
if [ "$base" = debian ]; then
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$work/debian" >"$work/log" ||
        { tail "$work/log"; exit 1; }
    empty=$(buildah from scratch)
    buildah add -q "$empty" "$work/debian" / >/dev/null
    base=localhost/debian-python
    buildah commit -q --rm "$empty" "$base" >/dev/null
    rm -rf "$work/debian"
fi

# A proxy with an authority of its own is this machine's affair: its files are lent to pip, and stay out of the image.
lent=()
[ ! -f /etc/pip.conf ] || lent+=(-v /etc/pip.conf:/etc/pip.conf:ro)
[ ! -d /etc/ssl/certs ] || lent+=(-v /etc/ssl/certs:/etc/ssl/certs:ro)
buildah build -q --format docker --pull=missing --build-arg "BASE=$base" "${lent[@]}" \
    -t pylantir -f etc/container/Containerfile . >/dev/null

container=$(buildah from -q --pull=never pylantir)
mkdir -m 777 "$work/configuration"
inside() { buildah run -v "$work/configuration:/etc/pylantir" "$container" -- "$@"; }

echo "version: $(inside pylantir --version)"
inside pylantir init /etc/pylantir/pylantir.json
port=$(python3 -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
sed -i "s/4242/$port/" "$work/configuration/pylantir.json"
inside pylantir-supervisor start 2>"$work/log" &
started=$!
deadline=$((SECONDS + 120))
until inside pylantir-supervisor status --json >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || { cat "$work/log"; echo "in vain: a healthy status" >&2; exit 1; }
    sleep 1
done
inside pylantir-supervisor status
until inside pylantir test-client | tee "$work/seen" | grep -q EXAMPLE-2; do
    [ "$SECONDS" -lt "$deadline" ] || { cat "$work/log"; echo "in vain: the worklist" >&2; exit 1; }
    sleep 1
done
cat "$work/seen"
inside pylantir-supervisor stop
wait "$started"
started=
grep -q 'supervisor: stopped$' "$work/log"
[ -z "${KEEP:-}" ] || buildah push -q pylantir "docker-archive:$KEEP:pylantir"
echo "the image is built and works"
