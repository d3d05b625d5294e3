#!/bin/sh
# Makes sure of the system packages that a build needs, or of those named as arguments. On Debian and its kin the
# missing ones are installed (as root, or by sudo); elsewhere they are named, with the command that installs them.
set -eu

debian="libmlir-22-dev mlir-22-tools llvm-22-dev clang-22 lld-22 libzstd-dev zlib1g-dev ccache ninja-build cmake git"
if [ $# -gt 0 ]; then
  debian="$*"
elif ! "${PYTHON:-python3}" -c "import ensurepip" 2>/dev/null; then
  debian="$debian python3 python3-venv"
fi

if command -v dpkg-query >/dev/null; then
  missing=""
  for package in $debian; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
  done
  [ -n "$missing" ] || exit 0
  install="apt-get install -y -q --no-install-recommends$missing"
  if [ "$(id -u)" = 0 ]; then root=""; elif sudo -n true 2>/dev/null; then root="sudo "; else root=none; fi
  if [ "$root" = none ]; then
    echo "missing packages; install them with:  sudo $install" >&2
    exit 1
  fi
  echo "installing$missing"
  ${root}apt-get update -q
  DEBIAN_FRONTEND=noninteractive ${root}${install}
  exit 0
fi

# Not Debian: look for what the packages would bring, by what they are used for.
if [ $# -gt 0 ]; then
  for package in "$@"; do
    command -v "$package" >/dev/null || { echo "missing: $package, on the PATH under this name" >&2; exit 1; }
  done
  exit 0
fi
missing=""
need() { # what, a command that proves it, its package: dnf, pacman
  sh -c "$2" >/dev/null 2>&1 && return
  if command -v dnf >/dev/null; then how="dnf install $3"
  elif command -v pacman >/dev/null; then how="pacman -S $4"
  else how="your system's package manager"; fi
  missing="$missing
  $1: $how"
}
need "CMake" "command -v cmake" cmake cmake
need "ninja" "command -v ninja" ninja-build ninja
need "ccache" "command -v ccache" ccache ccache
need "git" "command -v git" git git
need "clang 22, as clang++-22" "command -v clang++-22" "clang" "clang"
need "lld" "command -v ld.lld" lld lld
need "LLVM 22" "llvm-config-22 --version || llvm-config --version | grep -q ^22" "llvm-devel" "llvm"
need "MLIR 22 (static archives and CMake files)" "mlir-tblgen-22 --version || mlir-tblgen --version | grep -q 22" \
  "mlir-devel mlir-static" "mlir"
need "zstd headers" "test -e /usr/include/zstd.h" libzstd-devel zstd
need "zlib headers" "test -e /usr/include/zlib.h" zlib-devel zlib
if [ -n "$missing" ]; then
  echo "missing:$missing" >&2
  exit 1
fi
