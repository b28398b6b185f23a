# T17: divergence against bytes of the cached formats, and perplexity beyond the trained length.
# gnuplot -e "data='x.tsv'; out='plots/x'; footer='...'" kv_quality.gp
load 'scripts/plots/style.gp'

rows(filter) = sprintf("< awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; print; next } %s' '%s'", filter, data)
values(name, filter) = system(sprintf("awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next } %s { printf \"%%s \", $at[\"%s\"] }' '%s'", filter, name, data))
formats = '$at["length"] == 1 && $at["kl"] != "NaN" && $at["kl"] > 0'
names = values('kv', formats)
policies = values('policy', formats)
n = words(names)
label(i) = word(policies, i) eq 'all' ? word(names, i) : word(policies, i)
hue(i) = colour[(i - 1) % 8 + 1]
scalings = 'none ntk yarn'
longer = words(values('scaling', '$at["length"] > 1 && $at["perplexity"] != "NaN"'))

do for [form in 'svg png'] {
	eval form eq 'svg' ? svg_terminal(1180, 500) : png_terminal(1180, 500)
	set output out.'.'.form
	set multiplot layout 1,2 margins 0.085,0.985,0.2,0.9 spacing 0.1
	set label 1 footer at screen 0.5,0.025 center textcolor rgb soft font font.','.(form eq 'svg' ? '10' : '14')
	set key top right Left reverse box lc rgb rule opaque samplen 1 spacing 1.05 width 1 height 0.4 font font.','.(form eq 'svg' ? '10' : '14')

	set title 'Divergence from F16 against size'
	set xlabel 'bits stored per key or value element' textcolor rgb ink
	set ylabel 'KL divergence, nats, with standard error' textcolor rgb ink
	set logscale y
	set format y '%.0e'
	if (n > 0) {
		plot for [i = 1:n] rows(formats) every ::(i - 1)::(i - 1) \
			using (column('bits')):(column('kl')):(column('kl_se')) \
			with yerrorbars pt 4 + i ps 1.4 lw 2 lc rgb hue(i) title label(i)
	} else {
		set label 3 'nothing measured' at graph 0.5,0.5 center textcolor rgb soft
		plot [0:16] [1e-6:1] 2 notitle
	}
	unset label 3
	set yrange [*:*]
	unset logscale y
	set format y '%g'
	unset label 1

	set title 'Beyond the trained length'
	set xlabel 'length, of the trained one' textcolor rgb ink
	set ylabel 'perplexity beyond it, with standard error' textcolor rgb ink
	set xrange [1.5:4.5]
	set yrange [0:*]
	set xtics (2, 4)
	if (longer > 0) {
		plot for [i = 1:3] rows(sprintf('$at["length"] > 1 && $at["scaling"] == "%s"', word(scalings, i))) \
			using (column('length') + 0.06 * (i - 2)):(column('perplexity')):(column('perplexity_se')) \
			with yerrorbars pt 5 + i ps 1.4 lw 2 lc rgb colour[i] title word(scalings, i)
	} else {
		set label 2 'not in this profile' at graph 0.5,0.5 center textcolor rgb soft
		plot [1.5:4.5] [0:1] 2 notitle
		unset label 2
	}
	unset multiplot
	unset output
	set xrange [*:*]; set yrange [*:*]; set xtics autofreq
}
