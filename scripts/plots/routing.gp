# T13: share of requests given to the right agent, with Wilson's intervals, and how far confidences hold.
# gnuplot -e "data='x.tsv'; out='plots/x'; footer='...'" routing.gp
load 'scripts/plots/style.gp'

routers = 'keyword embedding hybrid'
kinds = 'requests heldout'
has(kind, r) = strcol('set') eq kind && strcol('router') eq r
score(kind, r, m) = has(kind, r) ? column(m) : NaN
at(i, k) = i + (k - 2) * 0.26

do for [form in 'svg png'] {
	eval form eq 'svg' ? svg_terminal(1180, 480) : png_terminal(1180, 480)
	set output out.'.'.form
	set multiplot layout 1,2 margins 0.075,0.985,0.2,0.9 spacing 0.1
	set label 1 footer at screen 0.5,0.025 center textcolor rgb soft font font.','.(form eq 'svg' ? '10' : '14')
	set style fill solid 0.85 noborder
	set boxwidth 0.22
	set key top left Left reverse horizontal box lc rgb rule opaque samplen 1.5 spacing 1.1 width 1 height 0.4 font font.','.(form eq 'svg' ? '11' : '16')

	set title 'Given to the right agent, and the 95 % interval'
	set ylabel '% of requests' textcolor rgb ink
	set yrange [0:125]
	set xrange [0.4:5.6]
	set xtics ('by hand' 1, 'easy' 2, 'medium' 3, 'hard' 4, 'generator' 5)
	columns = 'accuracy_pct easy_pct medium_pct hard_pct'
	plot for [k = 1:3] for [c = 1:4] data \
			using (at(c, k)):(score('requests', word(routers, k), word(columns, c))) \
			with boxes lc rgb colour[k + 1] title (c == 1 ? word(routers, k) : ''), \
		for [k = 1:3] data using (at(5, k)):(score('heldout', word(routers, k), 'accuracy_pct')) \
			with boxes lc rgb colour[k + 1] notitle, \
		for [k = 1:3] for [s = 1:2] data \
			using (at(s == 1 ? 1 : 5, k)):(score(word(kinds, s), word(routers, k), 'accuracy_pct')):(column('accuracy_pct_from')):(column('accuracy_pct_to')) \
			with yerrorbars pt 0 lw 2 lc rgb ink notitle

	unset label 1
	set title 'Reliability, requests written by hand'
	set xlabel 'confidence' textcolor rgb ink
	set ylabel 'share right' textcolor rgb ink
	set yrange [0:1.2]
	set xrange [0:1]
	set xtics 0.2
	plot x with lines dt 2 lw 1.5 lc rgb soft title 'as sure as right', \
		for [k = 1:3] for [b = 0:4] data \
			using (score('requests', word(routers, k), 'confidence_'.b)):(column('right_'.b)) \
			with points pt 7 ps 1.5 lc rgb colour[k + 1] title (b == 0 ? word(routers, k) : '')
	unset multiplot
	unset output
	unset xlabel
	set yrange [*:*]; set xrange [*:*]
}
