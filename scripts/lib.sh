# SPDX-License-Identifier: Apache-2.0
# What the scripts share: packages of Debian 12, and where things are. Sourced, not run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# What building needs: compiler and libraries, all from Debian 12.
build_packages=(g++ cmake ninja-build pkg-config libhwy-dev libeigen3-dev libboost1.81-dev libboost-json1.81-dev
                libpcre2-dev libutf8proc-dev libssl-dev libcli11-dev ca-certificates)
# What the tests need beyond that.
test_packages=(catch2 libbenchmark-dev python3-venv clang-14 libclang-rt-14-dev g++-aarch64-linux-gnu binutils git curl)

# Installs those of the named packages that are missing.
need_packages() {
  local missing=() p
  for p in "$@"; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
  done
  ((${#missing[@]})) || return 0
  echo "installing: ${missing[*]}" >&2
  local sudo=()
  ((EUID == 0)) || sudo=(sudo)
  "${sudo[@]}" apt-get update -q
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
}
