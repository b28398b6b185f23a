# T20: what merges keep of both domains, many adapters in a batch, changing them, their pool.
# gnuplot -e "data='x.tsv'; out='plots/x'; footer='...'" adapters.gp
load 'scripts/plots/style.gp'

part(p, v) = strcol('part') eq p ? v : NaN
alone(v) = strcol('case') eq 'base' || strcol('case') eq 'coder' || strcol('case') eq 'agent' ? v : NaN
joined(v) = alone(1) == 1 ? NaN : v
pool_row(v) = part('pool', strcol('case') eq 'ample' ? 1 : strcol('case') eq 'half' ? 2 : 3)

do for [form in 'svg png'] {
	eval form eq 'svg' ? svg_terminal(1080, 860) : png_terminal(1080, 860)
	set output out.'.'.form
	set multiplot layout 2,2 margins 0.1,0.975,0.13,0.94 spacing 0.11,0.14
	set label 1 footer at screen 0.5,0.02 center textcolor rgb soft font font.','.(form eq 'svg' ? '10' : '14')
	small = font.','.(form eq 'svg' ? '10' : '14')
	set offsets graph 0.12, graph 0.28, graph 0.1, graph 0.1
	set title 'Merges in both domains (right and low is good)'
	set xlabel 'programs that pass, %' textcolor rgb ink
	set ylabel 'routing: nats a token' textcolor rgb ink
	set key top left Left reverse samplen 0.5 font small
	plot data using (part('merge', alone(column('coder_pct')))):(part('merge', column('agent_loss'))) with points pt 4 ps 1.4 lw 2 lc rgb colour[1] title 'alone', \
		data using (part('merge', joined(column('coder_pct')))):(part('merge', column('agent_loss'))) with points pt 7 ps 1.2 lc rgb colour[2] title 'merged', \
		data using (part('merge', column('coder_pct'))):(part('merge', column('agent_loss'))):'case' with labels left offset 0.9,0.3 font small textcolor rgb ink notitle

	unset label 1
	set offsets 0,0,0,0
	unset key
	set title '64 sequences, so many adapters'
	set xlabel 'different adapters (0: none)' textcolor rgb ink
	set ylabel 'tokens per second' textcolor rgb ink
	set xrange [-0.5:7]
	set xtics ('0' 0, '1' 0.7, '2' 1.4, '4' 2.4, '8' 3.4, '16' 4.4, '32' 5.4, '64' 6.4)
	place(n) = n == 0 ? 0 : n == 1 ? 0.7 : n == 2 ? 1.4 : log(n) / log(2) + 0.4
	set yrange [0:*]
	plot data using (part('batch', place(column('case')))):(part('batch', column('tok_s'))):(lo('tok_s')):(hi('tok_s')) with yerrorlines pt 7 lw 2 lc rgb colour[2]

	set title 'Changing the set between tokens'
	set xlabel 'percentile' textcolor rgb ink
	set ylabel 'microseconds' textcolor rgb ink
	set xrange [0.5:3.5]
	set xtics ('p50' 1, 'p95' 2, 'p99' 3)
	set yrange [*:*]
	set key top left samplen 1.5 font small
	plot for [i = 1:3] data using (part('hot_swap', i)):(column('swap_'.word('p50 p95 p99', i).'_us')) with points pt 7 ps 1.2 lc rgb colour[2] title i == 1 ? 'the change itself' : '', \
		for [i = 1:3] data using (part('hot_swap', i + 0.12)):(column('added_'.word('p50 p95 p99', i).'_us')) with points pt 5 ps 1.2 lc rgb colour[4] title i == 1 ? 'added to a token' : ''

	set title 'Pool of twice, half, a quarter'
	set xlabel 'of what all adapters take' textcolor rgb ink
	set ylabel '%' textcolor rgb ink
	set xtics ('twice' 1, 'half' 2, 'quarter' 3)
	set yrange [0:119]
	set key bottom left Left reverse samplen 1.5 font small
	plot data using (pool_row(1)):(part('pool', column('hit_pct'))) with points pt 7 ps 1.3 lc rgb colour[2] title 'requests whose adapter was hot', \
		data using (pool_row(1)):(part('pool', column('peak_pct'))) with points pt 5 ps 1.3 lc rgb colour[4] title 'peak of the budget', \
		85 lw 1 dt 2 lc rgb soft title 'eviction from 85 %'
	unset multiplot
	unset output
	set xrange [*:*]; set yrange [*:*]; set xtics autofreq; set xlabel; unset key
}
