#!/usr/bin/env bash
# A toolchain for static musl executables on x86-64, aarch64 and armv7, in one folder.
#
# Nothing is installed on the system: Debian's Rust for the web browsers (a recent compiler with the
# sources of its standard library) and qemu are unpacked from their packages, zig and cargo-zigbuild
# come through pip. About 300 MB to fetch, 1.5 GB unpacked, under a minute; root is not needed.
# `cargo xtask dist` calls this and uses the `env` file that it leaves.
#
#   scripts/cross-setup.sh [FOLDER]        default: target/cross
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=${1:-$here/../target/cross}
requirements=$here/cross-requirements.txt

fail() {
  printf 'error: %s\nhelp: %s\n' "$1" "$2" >&2
  exit 1
}

for program in apt-get apt-cache dpkg-deb python3; do
  command -v "$program" >/dev/null ||
    fail "$program is not here" "this script needs a Debian-family machine; install $program"
done
case $(dpkg --print-architecture) in
  amd64) ;;
  *) fail "this script knows how to build on amd64 only" "run it on an x86-64 machine" ;;
esac

mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
# Ready, and made by this very script from these very versions?
stamp=$(cat "$here/cross-setup.sh" "$requirements" | sha256sum)
if [ "$(cat "$folder/stamp" 2>/dev/null)" = "$stamp" ]; then
  echo "the cross toolchain in $folder is ready"
  exit 0
fi

# An apt of our own: the machine's sources and keys, but lists, cache and state below the folder.
apt=$folder/apt
mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$apt/debs"
: >"$apt/status"
cat >"$apt/apt.conf" <<END
Dir::State "$apt";
Dir::State::Lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt";
Dir::Cache::archives "$apt/archives";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Sandbox::User "root";
Acquire::Languages "none";
END
export APT_CONFIG=$apt/apt.conf

# The package that `$1` depends on and that is called `$2...`: its name carries a version.
dependency() {
  apt-cache depends "$1" | awk -v prefix="$2" '$1 == "Depends:" && index($2, prefix) == 1 { print $2; exit }'
}

echo "reading the package lists"
apt-get update -qq
std=$(dependency libstd-rust-web-dev libstd-rust-web-1)
[ -n "$std" ] || fail "this Debian has no rustc-web" "use Debian 12 or newer with its security updates"
llvm=$(dependency "$std" libllvm)

echo "fetching the compiler ($std, $llvm), the library's sources and qemu"
packages=(rustc-web libstd-rust-web-dev rust-web-src "$std" "$llvm" qemu-user-static)
(cd "$apt/debs" && rm -f ./*.deb && apt-get download -qq "${packages[@]}")
rm -rf "$folder/root" && mkdir "$folder/root"
for package in "$apt"/debs/*.deb; do
  dpkg-deb -x "$package" "$folder/root"
done
rm -rf "$apt/debs"

echo "fetching zig and cargo-zigbuild"
[ -x "$folder/python/bin/python" ] || python3 -m venv "$folder/python"
"$folder/python/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements"

cat >"$folder/rustc" <<END
#!/bin/sh
LD_LIBRARY_PATH='$folder/root/usr/lib/x86_64-linux-gnu' exec '$folder/root/usr/bin/rustc' "\$@"
END
chmod +x "$folder/rustc"

# The library is built with our profile, hence RUSTC_BOOTSTRAP; zig brings musl, so rustc must not
# look for its own copy of it.
flags='-C link-self-contained=no -C target-feature=+crt-static'
cat >"$folder/env" <<END
export RUSTC='$folder/rustc'
export RUSTC_BOOTSTRAP=1
export PATH='$folder/python/bin':"\$PATH"
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_RUSTFLAGS='$flags'
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUSTFLAGS='$flags'
export CARGO_TARGET_ARMV7_UNKNOWN_LINUX_MUSLEABIHF_RUSTFLAGS='$flags'
END
"$folder/rustc" --version
printf '%s' "$stamp" >"$folder/stamp"
echo "the cross toolchain in $folder is ready"
