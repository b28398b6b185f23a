# T12: time of a distance against its length, in the first cache, from memory and in plain C; times of
# searches.
# gnuplot -e "data='x.tsv'; out='plots/x'; footer='...'" distances.gp
load 'scripts/plots/style.gp'

ops = 'dot l2 cosine manhattan int8 hamming'
searches = 'hnsw_k1 hnsw_k10 hnsw_k100 pattern_routing'
hue(i) = colour[i + 1]
of(op, m) = strcol('op') eq op ? column(m) : NaN
at(op) = strcol('op') eq op ? column('dim') : NaN
# hamming is alone in counting bits, and plain C near the same for all of f32
scalar = 'dot int8 hamming'
index_of(op) = sum [j = 1:words(ops)] (word(ops, j) eq op ? j : 0)

do for [form in 'svg png'] {
	eval form eq 'svg' ? svg_terminal(1180, 500) : png_terminal(1180, 500)
	small = font.','.(form eq 'svg' ? '11' : '16')
	set output out.'.'.form
	set multiplot layout 1,2 margins 0.075,0.985,0.19,0.9 spacing 0.11
	set label 1 footer at screen 0.5,0.025 center textcolor rgb soft font font.','.(form eq 'svg' ? '10' : '14')

	set title 'One distance, median and 95 % interval'
	set xlabel 'components (hamming: bits)' textcolor rgb ink
	set ylabel 'nanoseconds' textcolor rgb ink
	set logscale xy
	set xrange [90:2200]
	set yrange [2:60000]
	set xtics (128, 768, 1536)
	set key top left maxrows 4 Left reverse box lc rgb rule opaque samplen 1.6 spacing 1.1 width 0 height 0.4 font small
	plot for [i = 1:words(ops)] data \
			using (at(word(ops, i))):(column('latency_ns')):(lo('latency_ns')):(hi('latency_ns')) \
			with yerrorbars pt 7 ps 1.1 lw 2 lc rgb hue(i) title word(ops, i).', in cache', \
		for [i = 1:words(ops)] data using (at(word(ops, i))):(column('memory_ns')) \
			with points pt 4 ps 1.2 lw 1.5 lc rgb hue(i) title i == 1 ? 'from memory' : '', \
		for [op in scalar] data using (at(op)):(column('scalar_ns')) \
			with points pt 2 ps 1.2 lw 1.5 lc rgb hue(index_of(op)) title op eq 'dot' ? 'plain C' : ''

	unset label 1
	unset key
	unset logscale
	set title 'One search, 768 components, median and 95 % interval'
	set xlabel ''
	set ylabel 'microseconds' textcolor rgb ink
	set yrange [0:*]
	set xrange [0.4:words(searches) + 0.6]
	set xtics autofreq
	set xtics ('k 1' 1, 'k 10' 2, 'k 100' 3, 'pattern routing' 4)
	set grid noxtics
	set style fill solid 0.35 border
	plot for [i = 1:words(searches)] data \
		using (strcol('op') eq word(searches, i) ? i : NaN):(column('latency_us')):(lo('latency_us')):(hi('latency_us')):(0.55) \
		with boxerrorbars lw 1.5 lc rgb hue(i)
	unset multiplot
	unset output
	set grid xtics
	set xrange [*:*]; set yrange [*:*]
	set xtics autofreq
}
