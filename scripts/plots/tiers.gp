# T10: bytes of a layer by policy, and what the length of the tail costs.
# gnuplot -e "data='x.tsv'; out='plots/x'; footer='...'" tiers.gp
load 'scripts/plots/style.gp'

# Rows of the table that have the given values: sequence at 32 KV heads, tail at 2.
rows(heads, filter) = sprintf("< awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; print; next } $at[\"kv_heads\"] == \"%s\" && %s' '%s'", heads, filter, data)
shapes = rows('32', '$at["tail"] == 256')
medium = rows('2', '$at["policy"] == "three-tier" && $at["decode_ratio"] != "NaN"')
n_medium = int(system(medium[3:*].' | wc -l')) - 1

do for [form in 'svg png'] {
	eval form eq 'svg' ? svg_terminal(1180, 470) : png_terminal(1180, 470)
	set output out.'.'.form
	set multiplot layout 1,2 margins 0.07,0.91,0.24,0.9 spacing 0.13
	set label 1 footer at screen 0.5,0.025 center textcolor rgb soft font font.','.(form eq 'svg' ? '10' : '14')
	set key top right box lc rgb rule opaque samplen 1.5 spacing 1.1 width 1 height 0.4 font font.','.(form eq 'svg' ? '10' : '14')

	set title 'One layer, 4096 tokens, 32 KV heads x 128'
	set xlabel ''
	set xrange [-0.6:4.6]
	set ylabel 'MiB' textcolor rgb ink
	set yrange [0:*]
	set style data histogram
	set style histogram rowstacked
	set style fill solid 0.55 border
	set boxwidth 0.6
	set grid noxtics
	set xtics rotate by -25 left
	plot shapes using (column('hot_mib')):xtic(strcol('policy')) lc rgb colour[4] title 'tail, F16', \
		'' using (column('warm_mib')) lc rgb colour[6] title 'second tier', \
		'' using (column('cold_mib')) lc rgb colour[2] title 'third tier', \
		26 with lines lw 1.4 dt 2 lc rgb ink title 'documented three-tier: 26'
	unset label 1

	set style data points
	set title 'Length of the tail, three-tier, 2 KV heads'
	set xlabel 'tokens kept as F16' textcolor rgb ink
	set ylabel 'MiB of 32 layers' textcolor rgb ink
	set y2label 'decode speed / flat' textcolor rgb ink
	set ytics nomirror
	set y2tics textcolor rgb ink
	set border 11
	set logscale x 2
	set xrange [50:1300]
	set xtics norotate autojustify (64, 128, 256, 512, 1024)
	set grid xtics
	set yrange [0:*]
	set y2range [0:*]
	set key bottom right
	if (n_medium < 1) {
		set label 2 'not in this profile' at graph 0.5,0.5 center textcolor rgb soft
		plot [50:1300] [0:1] 2 notitle
		unset label 2
	} else {
	plot medium using (column('tail')):(column('sequence_mib')) with linespoints lw 2 pt 7 lc rgb colour[2] title 'bytes', \
		medium using (column('tail')):(column('decode_ratio')):(lo('decode_ratio')):(hi('decode_ratio')) axes x1y2 \
			with yerrorbars lw 2 pt 5 lc rgb colour[4] title 'decode / flat'
	}
	unset multiplot
	unset output
	unset logscale x
	unset y2tics; unset y2label
	set border 3
	set xrange [*:*]; set yrange [*:*]; set xtics norotate autofreq; set grid xtics; set style data points
}
