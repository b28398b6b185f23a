# T1: loss against size, and decode speed, of the quantization formats.
# gnuplot -e "data='x.tsv'; out='plots/x'; footer='...'" quant.gp
load 'scripts/plots/style.gp'

# The words of a named column of the table ("-" where empty).
words_of(name) = system(sprintf("awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == \"%s\") c = i; next } { printf \"%%s \", $c == \"\" ? \"-\" : $c }' '%s'", name, data))
names = words_of('format')
kl = words_of('kl')
tops = words_of('same_top_pct')
n = words(names)
lossy = '' # rows with a KL divergence to draw: the source's own is 0
do for [i = 1:n] { if (word(kl, i) ne 'NaN' && real(word(kl, i)) > 0) { lossy = lossy.' '.i } }
hue(i) = colour[(i - 1) % 8 + 1]
legend(i) = word(tops, i) eq 'NaN' ? word(names, i) : sprintf('%-8s%6.1f %%', word(names, i), real(word(tops, i)))

do for [form in 'svg png'] {
	eval form eq 'svg' ? svg_terminal(1180, 520) : png_terminal(1180, 520)
	set output out.'.'.form
	set multiplot layout 1,2 margins 0.085,0.985,0.2,0.9 spacing 0.09
	set label 1 footer at screen 0.5,0.025 center textcolor rgb soft font font.','.(form eq 'svg' ? '10' : '14')

	set xtics norotate autojustify autofreq
	set key bottom left Left reverse box lc rgb rule opaque samplen 1 spacing 1.1 width 1 height 0.4 font font.','.(form eq 'svg' ? '11' : '16')
	if (words(lossy) > 0) {
		set title 'Loss against size'
		set key title 'same most probable token' textcolor rgb ink font font.','.(form eq 'svg' ? '11' : '16')
		set xlabel 'bits stored per weight' textcolor rgb ink
		set ylabel 'KL divergence to unquantized, nats' textcolor rgb ink
		set logscale y
		set format y '%.0e'
		plot for [w in lossy] data every ::(w - 1)::(w - 1) \
			using (column('bits_per_weight')):(column('kl')) \
			with points pt 4 + w ps 1.6 lw 2 lc rgb hue(w) title legend(int(w))
		unset logscale y
		set format y '%g'
	} else {
		set title 'Decode speed against size'
		set xlabel 'file size, MB' textcolor rgb ink
		set key top right notitle
		set ylabel 'decode, tokens per second' textcolor rgb ink
		set yrange [0:*]
		plot for [i = 1:n] data every ::(i - 1)::(i - 1) \
			using (column('file_mb')):(column('tg_tok_s')):(lo('tg_tok_s')):(hi('tg_tok_s')) \
			with yerrorbars pt 4 + i ps 1.4 lw 2 lc rgb hue(i) title word(names, i)
	}

	unset label 1
	unset key
	set title 'Decode speed, median and 95 % interval'
	set xlabel ''
	set ylabel 'tokens per second' textcolor rgb ink
	set yrange [0:*]
	set xrange [0.4:n + 0.6]
	set xtics rotate by -35 left
	set grid noxtics
	set style fill solid 0.35 border
	plot for [i = 1:n] data every ::(i - 1)::(i - 1) \
		using (i):(column('tg_tok_s')):(lo('tg_tok_s')):(hi('tg_tok_s')):(0.55):xtic(strcol('format')) \
		with boxerrorbars lw 1.5 lc rgb hue(i)
	unset multiplot
	unset output
	set xrange [*:*]; set yrange [*:*]; set xtics norotate autofreq; set grid xtics
}
