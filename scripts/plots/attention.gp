# T5: how much faster flash is than the standard kinds, by length, and the memory each takes.
# gnuplot -e "data='x.tsv'; out='plots/x'; footer='...'" attention.gp
load 'scripts/plots/style.gp'

# The length of a point where it is of this shape and phase, else nothing.
at(shape, phase) = strcol('shape') eq shape && strcol('phase') eq phase ? column('n') : NaN
shapes = 'medium nano'
$documented << EOD
n	s0	s1
512	2.5	NaN
2048	4.2	2.5
8192	7.0	4.2
32768	7.1	7.1
EOD

do for [form in 'svg png'] {
	eval form eq 'svg' ? svg_terminal(1180, 430) : png_terminal(1180, 430)
	set output out.'.'.form
	set multiplot layout 1,3 margins 0.075,0.985,0.22,0.9 spacing 0.075
	set label 1 footer at screen 0.5,0.025 center textcolor rgb soft font font.','.(form eq 'svg' ? '10' : '14')
	set logscale x 2
	set xrange [380:45000]
	set xtics ('512' 512, '2k' 2048, '8k' 8192, '32k' 32768)
	set xlabel 'tokens' textcolor rgb ink
	set key top left Left reverse box lc rgb rule opaque samplen 1.5 spacing 1.1 width 1 height 0.4 font font.','.(form eq 'svg' ? '10' : '14')
	set yrange [0:*]

	set title 'Prefill: time / time of flash'
	set ylabel 'median, 95 % interval' textcolor rgb ink
	set yrange [0:13]
	plot $documented using 1:2 with linespoints pt 2 dt 3 lc rgb soft title 'documented (S0)', \
		$documented using 1:3 with linespoints pt 1 dt 2 lc rgb soft title 'documented (S1)', \
		for [i = 1:2] data using (at(word(shapes, i), 'prefill')):(column('speedup')):(lo('speedup')):(hi('speedup')) \
			with yerrorbars lw 2 pt 5 lc rgb colour[i + 1] title word(shapes, i).': standard', \
		for [i = 1:2] data using (at(word(shapes, i), 'prefill')):(column('speedup_causal')):(lo('speedup_causal')):(hi('speedup_causal')) \
			with yerrorbars lw 2 pt 6 lc rgb colour[i + 1] title word(shapes, i).': standard-causal'
	unset label 1

	set title 'Decode: time / time of flash'
	set yrange [0:*]
	set offsets graph 0, graph 0, graph 0.6, graph 0 # room for the key
	plot for [i = 1:2] data using (at(word(shapes, i), 'decode')):(column('speedup')):(lo('speedup')):(hi('speedup')) \
			with yerrorbars lw 2 pt 5 lc rgb colour[i + 1] title word(shapes, i).': standard', \
		for [i = 1:2] data using (at(word(shapes, i), 'decode')):(column('paged_ratio')):(lo('paged_ratio')):(hi('paged_ratio')) \
			with yerrorbars lw 2 pt 9 lc rgb colour[i + 1] title word(shapes, i).': flash, paged'

	set offsets 0, 0, 0, 0
	set title 'Extra memory of prefill, MB'
	set ylabel ''
	set logscale y
	set yrange [0.1:1e6]
	set format y '%g'
	plot for [i = 1:2] data using (at(word(shapes, i), 'prefill')):(column('standard_mb')) with points lw 2 pt 5 lc rgb colour[i + 1] title word(shapes, i).': standard', \
		for [i = 1:2] data using (at(word(shapes, i), 'prefill')):(column('standard_causal_mb')) with points lw 2 pt 6 lc rgb colour[i + 1] title word(shapes, i).': standard-causal', \
		for [i = 1:2] data using (at(word(shapes, i), 'prefill')):(column('flash_mb')) with points lw 2 pt 9 lc rgb colour[i + 1] title word(shapes, i).': flash'
	unset logscale y
	set format y '%g'
	unset multiplot
	unset output
	unset logscale x
	set xrange [*:*]; set yrange [*:*]; set xtics autofreq
}
