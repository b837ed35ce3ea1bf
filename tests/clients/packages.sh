# Installs what the real clients need. To be sourced by the scripts of this folder.
# CLIENTS_DIR=/dir  the folder for the packages, reused by later runs (default: in the temporary directory)

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
packages=${CLIENTS_DIR:-${TMPDIR:-/tmp}/apptuner-relay-clients}
export NODE_PATH=$packages/node_modules
die() { echo "$1" >&2; exit 2; }

# Installs Debian packages if this user can.
debian() {
    [[ $(id -u) == 0 ]] || return 0
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } \
        >/dev/null || die "apt-get could not install $*"
}

mkdir -p "$packages"
if ! cmp -s "$here/package.json" "$packages/package.json" || [[ ! -d $packages/node_modules ]]; then
    cp "$here/package.json" "$packages/"
    npm install --prefix "$packages" --no-package-lock --no-audit --no-fund --silent ||
        die 'npm could not install the packages'
fi
if ! "$packages/venv/bin/python" -c 'import websockets' 2>/dev/null; then
    python3 -m venv "$packages/venv" && "$packages/venv/bin/pip" install --quiet websockets==17.4 ||
        die 'pip could not install websockets'
fi
[[ -x ${CHROMIUM:-/usr/bin/chromium} ]] || debian chromium
