# T18: speed-up of the first token by a prefix hit beside its bounds, and the times.
# gnuplot -e "data='x.tsv'; out='plots/x'; footer='...'" prefix.gp
load 'scripts/plots/style.gp'

# lengths that were measured, in order of appearance
lengths = system(sprintf("awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next } $at[\"speedup\"] != \"NaN\" && !seen[$at[\"prompt\"]]++ { printf \"%%s \", $at[\"prompt\"] }' '%s'", data))
kinds = 'chat rag'
hue(i) = colour[i + 1]
is(w, n) = strcol('workload') eq w && strcol('prompt') eq n
share(w, n, shift) = is(w, n) ? column('shared_pct') + shift : NaN
bound(x) = x < 98 ? 100 / (100 - x) : NaN
shift(k, i) = (k - 1.5) * 1.2 + (i - 1) * 0.4

do for [form in 'svg png'] {
	eval form eq 'svg' ? svg_terminal(1180, 480) : png_terminal(1180, 480)
	set output out.'.'.form
	set multiplot layout 1,2 margins 0.075,0.985,0.2,0.9 spacing 0.1
	set label 1 footer at screen 0.5,0.025 center textcolor rgb soft font font.','.(form eq 'svg' ? '10' : '14')
	set xrange [45:100]
	set xlabel 'shared part of the prompt, %' textcolor rgb ink
	set key top left Left reverse box lc rgb rule opaque samplen 1.5 spacing 1.1 width 1 height 0.4 font font.','.(form eq 'svg' ? '11' : '16')
	set logscale y 2
	set samples 500

	set title 'First token: cold / hit, median and 95 % interval'
	set ylabel 'speed-up' textcolor rgb ink
	set yrange [1:48]
	plot bound(x) with lines dt 2 lw 1.5 lc rgb soft title '1 / (1 - shared)', \
		for [i = 1:words(lengths)] data using (share('rag', word(lengths, i), 0)):(column('ops_bound')) \
			with points pt 2 ps 1.4 lw 2 lc rgb hue(i) title 'by operations, '.word(lengths, i), \
		for [i = 1:words(lengths)] for [k = 1:2] data \
			using (share(word(kinds, k), word(lengths, i), shift(k, i))):(column('speedup')):(lo('speedup')):(hi('speedup')) \
			with yerrorbars pt (k == 1 ? 7 : 6) ps 1.2 lw 2 lc rgb hue(i) title word(kinds, k).', '.word(lengths, i).' tokens'

	unset label 1
	set title 'Time to the first token'
	set ylabel 'milliseconds' textcolor rgb ink
	set yrange [*:*]
	set key bottom left
	plot for [i = 1:words(lengths)] data \
			using (share('chat', word(lengths, i), 0)):(column('ttft_cold_ms')) \
			with linespoints pt 4 ps 1.2 dt 2 lw 2 lc rgb hue(i) title 'cold, '.word(lengths, i), \
		for [i = 1:words(lengths)] data \
			using (share('chat', word(lengths, i), 0)):(column('ttft_hit_ms')):(lo('ttft_hit_ms')):(hi('ttft_hit_ms')) \
			with yerrorbars pt 7 ps 1.2 lw 2 lc rgb hue(i) title 'chat, hit, '.word(lengths, i)
	unset multiplot
	unset output
	unset logscale y
	set xrange [*:*]; set yrange [*:*]
}
