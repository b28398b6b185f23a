#!/bin/sh
# install.sh DESTDIR PREFIX BUILD VERSION HEADER...: called by `make install`.
set -eu
dest=$1 prefix=$2 build=$3 version=$4
shift 4
case $prefix in
/*) ;;
*) echo "install: PREFIX=$prefix is not an absolute path" >&2 && exit 1 ;;
esac
root=$dest$prefix
lib=$root/lib
include=$root/include/ruvltra

install -d "$root/bin" "$lib/pkgconfig" "$include" "$root/share/ruvltra"
install -m 755 "$build/bin/ruvltra" "$root/bin/"
install -m 644 "$build/lib/libruvltra.a" "$lib/"
install -m 755 "$build/lib/libruvltra.so" "$lib/libruvltra.so.$version"
ln -sf "libruvltra.so.$version" "$lib/libruvltra.so.${version%%.*}"
ln -sf "libruvltra.so.${version%%.*}" "$lib/libruvltra.so"
for header; do
	install -D -m 644 "$header" "$include/${header#lib/}"
done
install -m 644 LICENSE "$root/share/ruvltra/"
if [ -d datasets ]; then
	cp -R datasets "$root/share/ruvltra/"
fi

cat >"$lib/pkgconfig/ruvltra.pc" <<END
prefix=$prefix
libdir=\${prefix}/lib
includedir=\${prefix}/include/ruvltra

Name: ruvltra
Description: Language-model engine, memory and online learning
Version: $version
Libs: -L\${libdir} -lruvltra
Libs.private: -ljansson -lhwloc -lutf8proc -lsodium -lz -lsqlite3 -ldl -lm -lpthread
Cflags: -I\${includedir}
END
echo "installed to $root"
