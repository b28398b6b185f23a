# T19: throughput and latencies of continuous batching by concurrency.
# gnuplot -e "data='x.tsv'; out='plots/x'; footer='...'" scheduler.gp
load 'scripts/plots/style.gp'

of(kind, v) = strcol('load') eq kind ? v : NaN
hue(p) = colour[p == 1 ? 2 : p == 2 ? 6 : 4]
name(p) = word('p50 p95 p99', p)
at(p, stem) = stem.'_'.name(p).'_ms'

stats data using (column('tok_s')) name 'TOK' nooutput

do for [form in 'svg png'] {
	eval form eq 'svg' ? svg_terminal(1180, 520) : png_terminal(1180, 520)
	set output out.'.'.form
	set multiplot layout 1,3 margins 0.07,0.985,0.2,0.88 spacing 0.075
	set label 1 footer at screen 0.5,0.025 center textcolor rgb soft font font.','.(form eq 'svg' ? '10' : '14')
	set logscale x
	set xrange [0.7:1500]
	set xtics (1, 4, 16, 64, 256, 1000)
	set xlabel 'concurrent users' textcolor rgb ink
	set style data yerrorlines

	set title 'Throughput, 95 % interval'
	set ylabel 'tokens per second' textcolor rgb ink
	set yrange [0:1.3 * TOK_max] # room for the key
	set key top left Left reverse box lc rgb rule opaque samplen 1.5 spacing 1.1 width 1 height 0.4 font font.','.(form eq 'svg' ? '11' : '16')
	plot data using (of('closed', column('concurrency'))):(of('closed', column('tok_s'))):(of('closed', lo('tok_s'))):(of('closed', hi('tok_s'))) \
			pt 7 lw 2 lc rgb colour[2] title 'closed loop', \
		data using (of('open', column('concurrency'))):(of('open', column('tok_s'))):(of('open', lo('tok_s'))):(of('open', hi('tok_s'))) \
			with yerrorbars pt 4 lw 2 lc rgb colour[4] title 'open loop, 70 % of it'

	unset label 1
	set logscale y
	set yrange [*:*]
	set key top left
	set format y '%g'
	set title 'To the first token'
	set ylabel 'ms' textcolor rgb ink
	plot for [p = 1:3] data using (of('closed', column('concurrency'))):(of('closed', column(at(p, 'ttft')))):(of('closed', lo(at(p, 'ttft')))):(of('closed', hi(at(p, 'ttft')))) \
			pt 7 lw 2 lc rgb hue(p) title name(p).(p == 1 ? ' (boxes: open loop)' : ''), \
		for [p = 1:3] data using (of('open', column('concurrency'))):(of('open', column(at(p, 'ttft')))):(of('open', lo(at(p, 'ttft')))):(of('open', hi(at(p, 'ttft')))) \
			with yerrorbars pt 4 lw 2 lc rgb hue(p) notitle

	unset key # as before
	set title 'From token to token'
	plot for [p = 1:3] data using (of('closed', column('concurrency'))):(of('closed', column(at(p, 'gap')))):(of('closed', lo(at(p, 'gap')))):(of('closed', hi(at(p, 'gap')))) \
			pt 7 lw 2 lc rgb hue(p) title name(p).(p == 1 ? ' (boxes: open loop)' : ''), \
		for [p = 1:3] data using (of('open', column('concurrency'))):(of('open', column(at(p, 'gap')))):(of('open', lo(at(p, 'gap')))):(of('open', hi(at(p, 'gap')))) \
			with yerrorbars pt 4 lw 2 lc rgb hue(p) notitle
	unset multiplot
	unset output
	unset logscale; set format y '%g'
	set xrange [*:*]; set yrange [*:*]; set xtics autofreq
}
