# T15: gain against forgetting, what is right over time, what the arms gain and forget, what hooks cost.
# gnuplot -e "data='x.tsv'; out='plots/x'; footer='...'" sona.gp
load 'scripts/plots/style.gp'

# Measured rows for which an expression over $at["column"] holds.
rows(filter) = sprintf("< awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; print; next } %s' '%s'", filter, data)
count(table) = int(system(table[3:*].' | wc -l')) - 1
fitted = '$at["part"] == "learn" && $at["layers"] == "all" && $at["site"] == "proj:all" && $at["rank"] == "4" && $at["lr"] == "usual" && $at["gain_nats"] != "NaN"'
served = '$at["part"] == "learn" && $at["layers"] == "base" && $at["site"] == "attn_out" && $at["rank"] == "4" && $at["lr"] == "usual" && $at["lambda"] == "usual" && $at["replay"] == "usual" && $at["gain_nats"] != "NaN"'
front(replay) = rows(fitted.' && $at["arm"] == "lora" && $at["lambda"] != "usual" && $at["replay"] == "'.replay.'"')
full = rows(fitted.' && $at["arm"] == "full"')
loops = rows(served)
hooks = rows('$at["part"] == "overhead" && $at["overhead_pct"] != "NaN"')
replays = '0 0.5 1 3 10 20 30'
timed = 'instant background both all'
of(arm) = rows(served.' && $at["arm"] == "'.arm.'"')
n_loops = count(loops)
n_hooks = count(hooks)
none(text) = sprintf("set label 9 '%s' at graph 0.5,0.5 center textcolor rgb soft", text)

do for [form in 'svg png'] {
	eval form eq 'svg' ? svg_terminal(1180, 980) : png_terminal(1180, 980)
	set output out.'.'.form
	small = font.','.(form eq 'svg' ? '10' : '14')
	set multiplot layout 2,2 margins 0.1,0.93,0.17,0.93 spacing 0.17,0.24
	set label 1 footer at screen 0.5,0.012 center textcolor rgb soft font small
	set key bottom right Left reverse nobox samplen 1.5 spacing 1.1 font small

	# every curve a weight of replay, its points are lambdas
	set title 'Gain and forgetting: LoRA by lambda and replay, and what serves'
	set xlabel 'forgetting, nats a token' textcolor rgb ink
	set ylabel 'gain, nats a request' textcolor rgb ink
	set xrange [*:*]
	set yrange [*:*]
	set offsets 0, graph 0.1, graph 0.05, graph 0.35
	if (count(full) + n_loops < 1) {
		eval none('not in this profile')
		plot [0:1] [0:1] 2 notitle
	} else {
	plot for [i = 1:words(replays)] front(word(replays, i)) using (column('forgetting_nats')):(column('gain_nats')) \
			with linespoints lw 1.5 pt 7 ps 0.9 lc rgb colour[i + 1] title 'replay '.word(replays, i), \
		for [i = 1:words(replays)] front(word(replays, i)) using (column('forgetting_nats')):(column('gain_nats')):(' '.strcol('lambda')) \
			with labels left offset 0.4,0.3 font small textcolor rgb colour[i + 1] notitle, \
		full using (column('forgetting_nats')):(column('gain_nats')) with points pt 9 ps 1.8 lc rgb ink title 'full fine-tuning', \
		loops using (column('forgetting_nats')):(column('gain_nats')) with points pt 4 ps 1.2 lw 2 lc rgb colour[8] title 'serving', \
		loops using (column('forgetting_nats')):(column('gain_nats')):(strcol('arm')) with labels left offset 0.6,-0.3 font small textcolor rgb colour[8] notitle
	}
	unset label 1
	unset label 9

	set title 'Held-out requests right, over the stream'
	set key top right
	set xlabel 'quarters of the stream' textcolor rgb ink
	set ylabel '%' textcolor rgb ink
	set xrange [-0.2:4.2]
	set xtics 1
	if (n_loops < 1) {
		eval none('not in this profile')
		plot [0:4] [0:1] 2 notitle
	} else {
	start(a) = sprintf("%s | awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; print \"x\ty\"; next } { print \"0\t\" $at[\"held_right_pct\"] - $at[\"gain_pct\"]; for (i = 1; i <= 4; i++) if ($at[\"held_at_\" i] != \"NaN\") print i \"\t\" $at[\"held_at_\" i] }'", of(a))
	plot for [i = 1:words(timed)] start(word(timed, i)) using (column('x')):(column('y')) \
		with linespoints lw 2 pt 7 lc rgb colour[i + 1] title word(timed, i)
	}
	unset label 9

	unset offsets
	set title 'What serves: gain, and forgetting'
	set yrange [*<0:0<*]
	set y2range [*<0:0<*]
	set xlabel ''
	set ylabel 'gain, nats a request' textcolor rgb ink
	set y2tics textcolor rgb ink
	set border 11
	set xtics rotate by -45 left font small
	set key center right
	set style fill solid 0.6 noborder
	set boxwidth 0.35
	set xrange [-0.7:(n_loops < 1 ? 1 : n_loops) - 0.3]
	if (n_loops < 1) {
		eval none('not in this profile')
		plot [0:1] [0:1] 2 notitle
	} else {
	plot loops using ($0 - 0.18):(column('gain_nats')) with boxes lc rgb colour[2] title 'gain', \
		loops using ($0 - 0.18):(column('gain_nats')):(lo('gain_nats')):(hi('gain_nats')) with yerrorbars pt 0 lw 1.5 lc rgb ink notitle, \
		loops using ($0 + 0.18):(column('forgetting_nats')):xtic(strcol('arm')) axes x1y2 with boxes lc rgb colour[4] title 'forgetting, nats a token (right)'
	}
	unset y2tics
	unset label 9
	set border 3

	set title 'What hooks and MicroLoRA cost a token'
	set key top right
	set offsets 0, 0, graph 0.25, 0
	set ylabel '% of decode time' textcolor rgb ink
	set xrange [-0.7:(n_hooks < 1 ? 1 : n_hooks) - 0.3]
	if (n_hooks < 1) {
		eval none('not in this profile')
		plot [0:1] [0:1] 2 notitle
	} else {
	plot hooks using ($0 - 0.18):(column('capture_pct')) with boxes lc rgb colour[7] title 'capture alone', \
		hooks using ($0 + 0.18):(column('overhead_pct')):xtic(strcol('layers').' '.strcol('site').' '.strcol('rank')) with boxes lc rgb colour[3] title 'and MicroLoRA', \
		hooks using ($0 + 0.18):(column('overhead_pct')):(lo('overhead_pct')):(hi('overhead_pct')) with yerrorbars pt 0 lw 1.5 lc rgb ink notitle, \
		8.9 with lines dt 2 lw 1.4 lc rgb ink title 'documented: 8.9'
	}
	unset label 9
	set xtics norotate autojustify autofreq font font.',13'
	set xrange [*:*]; set yrange [*:*]; set y2range [*:*]
	unset multiplot
	unset output
}
