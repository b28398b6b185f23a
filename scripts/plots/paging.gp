# T7: memory saved, decode speed and throughput by page size.
# gnuplot -e "data='x.tsv'; out='plots/x'; footer='...'" paging.gp
load 'scripts/plots/style.gp'

do for [form in 'svg png'] {
	eval form eq 'svg' ? svg_terminal(1180, 430) : png_terminal(1180, 430)
	set output out.'.'.form
	set multiplot layout 1,3 margins 0.065,0.985,0.22,0.9 spacing 0.085
	set label 1 footer at screen 0.5,0.025 center textcolor rgb soft font font.','.(form eq 'svg' ? '10' : '14')
	set logscale x 2
	set xrange [6:340]
	set xtics (8, 16, 32, 64, 128, 256)
	set xlabel 'tokens of a page' textcolor rgb ink
	set key box lc rgb rule opaque samplen 1.5 spacing 1.1 width 1 height 0.4 font font.','.(form eq 'svg' ? '10' : '14')

	set title 'Memory saved against reservations'
	set ylabel '%' textcolor rgb ink
	set yrange [0:140] # room for the key
	set ytics 0,20,100
	set key top left Left reverse
	set object 1 rectangle from graph 0,first 40 to graph 1,first 60 fc rgb rule fs solid 0.6 noborder behind
	plot data using (column('page')):(column('memory_saved_pct')) with linespoints lw 2 pt 7 lc rgb colour[2] title '1024 tokens declared', \
		data using (column('page')):(column('memory_saved_512_pct')) with linespoints lw 2 pt 5 lc rgb colour[3] title '512 declared', \
		data using (column('page')):(column('fork_saved_pct')) with linespoints lw 2 pt 9 lc rgb colour[5] title '8 forks, of copies', \
		1/0 with filledcurves lc rgb rule title 'documented: 40 to 60'
	unset object 1
	unset label 1
	set ytics autofreq

	set title 'Decode at 4k / in one piece'
	set ylabel 'median, 95 % interval' textcolor rgb ink
	set yrange [0:1.3]
	set key top left Left reverse
	plot 0.97 with lines lw 1.2 dt 2 lc rgb soft title 'bar: 0.97', \
		1 with lines lw 1 lc rgb rule notitle, \
		data using (column('page')):(column('decode_ratio')):(lo('decode_ratio')):(hi('decode_ratio')) \
			with yerrorbars lw 2 pt 7 lc rgb colour[2] notitle

	set title 'Throughput / reserved, equal memory'
	set ylabel 'median, 95 % interval' textcolor rgb ink
	set yrange [0:*]
	set key bottom left Left reverse
	plot 1.8 with lines lw 1.2 dt 2 lc rgb colour[4] title 'documented target: 1.8', \
		1.7 with lines lw 1.2 dt 3 lc rgb colour[4] title 'documented claim: 1.7', \
		1 with lines lw 1 lc rgb rule notitle, \
		data using (column('page')):(column('throughput_ratio')):(lo('throughput_ratio')):(hi('throughput_ratio')) \
			with yerrorbars lw 2 pt 7 lc rgb colour[2] title 'measured'
	unset multiplot
	unset output
	set xrange [*:*]; set yrange [*:*]; unset logscale x
}
