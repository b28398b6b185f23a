#!/bin/sh
# check-layers.sh ROOT [BUILD]: no file uses anything of a room above its own.
#
# Includes: a file of lib/<room>, kernels/ or tests/<room> names headers of its own room and of rooms
# below only, besides tables of data (datasets/*.def); kernels/ names libc and compiler headers and kernels/
# alone. Objects (when BUILD holds archives): every rv_ symbol an archive needs is defined in itself or
# below; kernels allocate nothing, do no I/O, start no threads and hold no writable data.
set -u
root=${1:-.}
build=${2:-}
rooms="kernels base model engine memory learn eval lab cli experiments"
libc="assert errno float inttypes limits math stdbool stddef stdint stdio stdlib string strings sys/auxv asm/hwcap cpuid immintrin emmintrin arm_neon"
bad=$(mktemp "${TMPDIR:-/tmp}/layers.XXXXXX") || exit 1
trap 'rm -f "$bad" "$bad".*' EXIT

# Prints "file:line: why" for every include that points up.
includes() {
	(cd "$root" && find kernels lib experiments tests -name '*.[ch]' -o -name '*.def' -o -name '*.inc') 2>/dev/null |
		sort | while read -r file; do
		sed -n 's/^[ \t]*#[ \t]*include[ \t]*\([<"][^>"]*[>"]\).*/\1/;t p;b;:p;=;p' "$root/$file" | paste - - |
			sed "s|^|$file\t|"
	done | awk -F '\t' -v rooms="$rooms" -v libc="$libc" '
	BEGIN {
		n = split(rooms, list, " ")
		for (i = 1; i <= n; i++)
			level[list[i]] = i
		n = split(libc, list, " ")
		for (i = 1; i <= n; i++)
			allowed[list[i] ".h"] = 1
	}
	{
		split($1, path, "/")
		tests = path[1] == "tests"
		room = path[1] == "lib" || tests ? path[2] : path[1]
		name = substr($3, 2, length($3) - 2)
		if (!(room in level))
			next
		if (name ~ /\.\./) {
			print $1 ":" $2 ": include of \"" name "\" leaves its folder by .."
			next
		}
		if ($3 ~ /^</) {
			if (room == "kernels" && !tests && !(name in allowed))
				print $1 ":" $2 ": kernels include libc and kernels/ only, not <" name ">"
			next
		}
		n = split(name, part, "/")
		to = n == 1 ? room : part[1]
		if (to == "tests" && tests) {
			if (part[2] == "support")
				next
			to = part[2]
		}
		if (name ~ /^datasets\/.*\.def$/ && room != "kernels") # a table of data, no code
			next
		if (!(to in level))
			print $1 ":" $2 ": \"" name "\" belongs to no room"
		else if (level[to] > level[room])
			print $1 ":" $2 ": " room " includes \"" name "\" of the higher room " to
	}'
}

# Prints "archive: why" for every symbol that points up.
symbols() {
	: >"$bad.below"
	for room in $rooms; do
		archive=$build/lib/$room.a
		[ -f "$archive" ] || continue
		nm -A --defined-only "$archive" 2>/dev/null | awk '$2 ~ /^[A-Z]$/ || $3 ~ /^[A-Z]$/ { print $NF }' |
			sort -u - "$bad.below" >"$bad.known" && mv "$bad.known" "$bad.below"
		nm -A --undefined-only "$archive" 2>/dev/null | awk '{ print $NF }' | grep '^rv_' | sort -u |
			comm -23 - "$bad.below" | sed "s|^|$archive: not defined in $room or below: |"
	done
	archive=$build/lib/kernels.a
	[ -f "$archive" ] || return
	nm -A --undefined-only "$archive" 2>/dev/null | awk '{ print $NF }' | sort -u |
		grep -xE 'malloc|calloc|realloc|free|aligned_alloc|posix_memalign|mmap|v?f?printf|puts|fopen|open|read|write|pthread_.*' |
		sed "s|^|$archive: kernels must not call |"
	objdump -h "$archive" 2>/dev/null | awk -v a="$archive" '
		/file format/ { member = $1 }
		$2 ~ /^\.(data|bss|tdata|tbss)$/ && $3 !~ /^0+$/ { print a ": " member " holds writable data in " $2 }'
}

includes >"$bad"
if [ -n "$build" ]; then
	symbols >>"$bad"
fi
if [ -s "$bad" ]; then
	cat "$bad"
	echo "check-layers: $(wc -l <"$bad") violations"
	exit 1
fi
echo "check-layers: every file uses its own room and those below"
