# T2: decode speed beside memory of the inference configurations.
# gnuplot -e "data='x.tsv'; out='plots/x'; footer='...'" inference.gp
load 'scripts/plots/style.gp'

stats data using 0 nooutput
n = int(STATS_records)
array formats[n]
do for [i = 1:n] { stats data every ::(i - 1)::(i - 1) using (formats[i] = strcol('format'), 0) nooutput }
# a format has the colour it has in T1
hue(i) = colour[formats[i] eq 'Q8_0' ? 3 : formats[i] eq 'Q5_K_M' ? 5 : 6]
# "base Q4_K_M", with a draft model "base Q4_K_M + draft"
name(row) = strcol('variant').' '.strcol('format').(strcol('speculative') eq 'on' ? ' + draft' : '')

do for [form in 'svg png'] {
	eval form eq 'svg' ? svg_terminal(1180, 460) : png_terminal(1180, 460)
	set output out.'.'.form
	set multiplot layout 1,2 margins 0.095,0.985,0.2,0.9 spacing 0.09
	set label 1 footer at screen 0.5,0.025 center textcolor rgb soft font font.','.(form eq 'svg' ? '10' : '14')
	set grid noxtics
	set xrange [0.4:n + 0.6]
	set yrange [0:*]

	set title 'Decode speed, median and 95 % interval'
	set ylabel 'tokens per second' textcolor rgb ink
	unset key
	set style fill solid 0.35 border
	plot for [i = 1:n] data every ::(i - 1)::(i - 1) \
		using (i):(column('tg_tok_s')):(lo('tg_tok_s')):(hi('tg_tok_s')):(0.5):xtic(name(0)) \
		with boxerrorbars lw 1.5 lc rgb hue(i)

	unset label 1
	stats data using (column('mapped_mb')) name 'MAPPED' nooutput
	set yrange [0:1.35 * MAPPED_max] # room for the key above the bars
	set title 'Peak memory, median and 95 % interval'
	set ylabel 'MB (1e6 bytes)' textcolor rgb ink
	set key top left Left reverse box lc rgb rule opaque samplen 1.5 spacing 1.1 width 1 height 0.4 font font.','.(form eq 'svg' ? '11' : '16')
	plot data using ($0 + 0.81):(column('memory_mb')):(lo('memory_mb')):(hi('memory_mb')):(0.34) \
			with boxerrorbars lw 1.5 lc rgb colour[2] title 'anonymous + shared', \
		data using ($0 + 1.19):(column('mapped_mb')):(lo('mapped_mb')):(hi('mapped_mb')):(0.34) \
			with boxerrorbars lw 1.5 lc rgb soft title 'mapped files', \
		data using ($0 + 1):(0):xtic(name(0)) with points pt -1 notitle
	unset multiplot
	unset output
	set xrange [*:*]; set yrange [*:*]; set grid xtics
}
