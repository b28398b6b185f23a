#!/bin/sh
# train.sh BUILD PROFILE: generates the corpus, trains the vocabulary, packs the text and trains the
# models of scripts/train/PROFILE.conf, in the folder BUILD/train/PROFILE (or $TRAIN_DIR). What is done
# already and still fits is not done again; an interrupted training goes on where it was saved.
#
# A line of the configuration is one of
#   corpus ARGUMENTS         of `corpus train`; done again when the generator has changed
#   more ARGUMENTS           of `corpus train`, after `tokenizer`: kinds that the vocabulary does not see
#   check                    no test item of datasets/ occurs in the text
#   tokenizer ARGUMENTS      of `ruvltra train tokenizer`
#   pack ARGUMENTS           of `ruvltra train pack`
#   model NAME ARGUMENTS     of `ruvltra train`: makes models/NAME.gguf, logs/NAME.h5
#   embedder NAME ARGUMENTS  of `ruvltra train embedder`, with the corpus's requests: makes models/NAME.gguf
#   router NAME ARGUMENTS    of `ruvltra train router`, with the corpus's requests: makes models/NAME.bin
#   resume NAME ARGUMENTS    the same twice, once killed and terminated: the checkpoints must be equal
# with @models@ for the folder of models, @written@ for --data of every written_*.tsv in datasets/routing and
# @unheld@ for those but the one that calibrates (c), @products@ for the fastest matrix products this processor
# has (bf16 or f32; PRODUCTS=f32 decides otherwise). STAGES="nano pico" keeps the models that are named. ARGS is
# appended to every model's arguments.
set -u
build=${1:?usage: train.sh BUILD PROFILE} profile=${2:-smoke}
cd "$(dirname "$0")/.." || exit 1
conf=scripts/train/$profile.conf
[ -f "$conf" ] || {
	echo "train: no profile '$profile': there are $(cd scripts/train && echo *.conf | sed 's/\.conf//g')" >&2
	exit 2
}
ruvltra=$build/bin/ruvltra corpus=$build/bin/corpus
dir=${TRAIN_DIR:-$build/train/$profile}
models=$dir/models
mkdir -p "$dir/logs" "$models" || exit 1
threads=${THREADS:+-t $THREADS}
products=f32
grep -qw avx512_bf16 /proc/cpuinfo && products=bf16
products=${PRODUCTS:-$products}
written=$(printf -- '--data %s ' datasets/routing/written_*.tsv)
unheld=$(printf -- '--data %s ' datasets/routing/written_[!c].tsv)

fail() {
	echo "train: $*" >&2
	exit 1
}

# A step whose stamp holds the same words is done already. once NAME COMMAND...
once() {
	stamp=$dir/$1.done
	shift
	words="$(cat "$dir/before") $*"
	if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$words" ]; then
		rm -f "$stamp"
		"$@" || exit $?
		printf '%s\n' "$words" >"$stamp"
	fi
	# what follows depends on this
	sha256sum "$stamp" | cut -c1-16 >"$dir/before"
}

# anew FOLDER COMMAND...: nothing of an earlier run stays in the folder
anew() {
	rm -rf "$1"
	shift
	"$@"
}

# One run to its end; a signal's exit status is passed on.
model() {
	name=$1
	shift
	echo "== $name"
	# shellcheck disable=SC2086
	"$ruvltra" train --data "$dir/tokens" --tokenizer "$dir/vocab/tokenizer.gguf" \
		--out "$models/$name.gguf" --checkpoint "$dir/$name.ckpt" --log "$dir/logs/$name.h5" \
		$threads "$@" || exit $?
}

# Contrastive training, then Q8_0.
embedder() {
	name=$1
	shift
	echo "== $name"
	# shellcheck disable=SC2086
	"$ruvltra" train embedder --more "$dir/text/routing.txt" --name "$name" --out "$dir/$name.f16.gguf" \
		$threads "$@" || exit $?
	"$ruvltra" quantize "$dir/$name.f16.gguf" "$models/$name.gguf" Q8_0 || exit $?
}

router() {
	name=$1
	shift
	echo "== $name"
	"$ruvltra" train router "$@" --more "$dir/text/routing.txt" --out "$models/$name.bin" || exit $?
}

# The step a journal's last whole record has; 0 without one.
steps_done() {
	n=$({ tr -d '\0' <"$1" | grep -ao '"step":[0-9]*' | tail -n 1 | cut -d: -f2; } 2>/dev/null)
	echo "${n:-0}"
}

# trial NAME ARGUMENTS...: a run that keeps everything beside NAME.gguf
trial() {
	name=$dir/$1
	shift
	# shellcheck disable=SC2086
	exec "$ruvltra" train --data "$dir/tokens" --tokenizer "$dir/vocab/tokenizer.gguf" $threads \
		--out "$name.gguf" --log "$name.h5" "$@" >"$name.txt" 2>&1
}

# stopped SIGNAL STEP WANT ARGUMENTS...: the trial `broken`, sent SIGNAL once STEP is recorded, ends with
# exit status WANT
stopped() {
	signal=$1 at=$2 want=$3
	shift 3
	trial broken "$@" &
	pid=$!
	while kill -0 $pid 2>/dev/null; do
		if [ "$(steps_done "$dir/broken.h5.journal")" -ge "$at" ]; then
			kill -s "$signal" $pid
			break
		fi
		sleep 0.05
	done
	wait $pid
	status=$?
	[ $status = "$want" ] || fail "SIG$signal at step $at: exit status $status: $(tail -n 1 "$dir/broken.txt")"
}

# Undisturbed, and killed, terminated and resumed: the same bits.
resume() {
	echo "== $1: killed, terminated, resumed"
	shift
	rm -f "$dir"/whole.* "$dir"/broken.*
	(trial whole "$@") || fail "$(tail -n 1 "$dir/whole.txt")"
	stopped KILL 20 137 "$@"
	[ -f "$dir/broken.gguf.ckpt" ] || fail 'a killed run left no checkpoint'
	stopped TERM 40 143 --resume "$@"
	[ ! -f "$dir/broken.gguf" ] || fail 'an unfinished run left a model'
	(trial broken --resume "$@") || fail "$(tail -n 1 "$dir/broken.txt")"
	for file in gguf.ckpt gguf; do
		cmp "$dir/whole.$file" "$dir/broken.$file" || fail 'the resumed run is not the undisturbed one'
	done
	echo 'the resumed run has the bits of the undisturbed one'
}

: >"$dir/before"
while read -r word rest <&3; do
	case $word in
	'' | '#'*) continue ;;
	esac
	eval "set -- $(printf '%s' "$rest" | sed "s|@models@|$models|g; s|@products@|$products|g; s|@written@|$written|g; s|@unheld@|$unheld|g")"
	case $word in
	corpus)
		cat datasets/corpus/*.[ch] datasets/corpus/*.def | sha256sum >"$dir/before"
		once corpus anew "$dir/text" "$corpus" train --out "$dir/text" "$@"
		;;
	more) once more "$corpus" train --out "$dir/text" "$@" ;;
	check) once check "$corpus" check --train "$dir/text" --data datasets ;;
	tokenizer) once tokenizer "$ruvltra" train tokenizer --data "$dir/text" --out "$dir/vocab" "$@" ;;
	pack)
		once pack anew "$dir/tokens" "$ruvltra" train pack --data "$dir/text" \
			--tokenizer "$dir/vocab/tokenizer.gguf" --out "$dir/tokens" "$@"
		;;
	model | embedder | router | resume)
		case " ${STAGES:-$1} " in
		*" $1 "*)
			# shellcheck disable=SC2086
			$word "$@" ${ARGS:-}
			;;
		esac
		;;
	*) fail "$conf: '$word' is no kind of line" ;;
	esac
done 3<"$conf"
ls -l "$models"
