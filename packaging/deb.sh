#!/bin/sh
# `make deb`: builds the package from what git knows of this folder, into BUILD/deb.
#   deb.sh BUILD
set -eu

build=$(realpath -m "$1")/deb
rm -rf "$build"
mkdir -p "$build/promptgate"
git ls-files -z | xargs -0 cp --parents -t "$build/promptgate"
cp -r packaging/debian "$build/promptgate/debian"
cd "$build/promptgate"
dpkg-buildpackage --build=binary --no-sign
rm -rf "$build/promptgate"
ls "$build"/*.deb
