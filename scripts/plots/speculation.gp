# T6: speculative decoding: acceptance by depth, tokens a step against the formulas, speed-up by lookahead.
# gnuplot -e "data='x.tsv'; out='plots/x'; footer='...'" speculation.gp
load 'scripts/plots/style.gp'

words_of(name) = system(sprintf("awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == \"%s\") c = i; next } { printf \"%%s \", $c == \"\" ? \"-\" : $c }' '%s'", name, data))
temperature = words_of('temperature')
rules = words_of('rule')
draft = words_of('draft')
draft_temperature = words_of('draft_temperature')
ks = words_of('k')
cell(name, r) = word(words_of(name), r)
rows = words(ks)
is(r, t, u, d) = word(temperature, r) eq t && word(rules, r) eq u && word(draft, r) eq d && word(draft_temperature, r) eq '0'

# The line of lookaheads, and the points that stand beside it, by kind.
kind(r) = word(draft, r) ne 'model' ? word(draft, r) : word(rules, r) eq 'threshold' ? 'threshold' : 'other'
line = ''; beside = ''; fours = ''
kinds = 'threshold tree lookup other' # `other`: rule greedy, and all above temperature 0
do for [r = 1:rows] {
	if (cell('speedup', r) eq 'NaN') { continue }
	if (is(r, '0', 'exact', 'model')) { line = line.' '.r } else { beside = beside.' '.r }
	if (word(ks, r) eq '4' && word(draft, r) eq 'model') { fours = fours.' '.r }
}
place(r) = word(ks, r) eq 'adaptive' ? 10 : word(ks, r) + 0
name_of(r) = 'T '.word(temperature, r).', '.word(rules, r).(word(draft_temperature, r) eq 'target' ? ', drawn draft' : '')
short(r) = word(draft, r).' '.word(ks, r).', '.name_of(r)
hue(i) = colour[(i - 1) % 8 + 1]

do for [form in 'svg png'] {
	eval form eq 'svg' ? svg_terminal(1180, 480) : png_terminal(1180, 480)
	set output out.'.'.form
	set multiplot layout 1,3 margins 0.06,0.985,0.2,0.9 spacing 0.085
	set label 1 footer at screen 0.5,0.025 center textcolor rgb soft font font.','.(form eq 'svg' ? '10' : '14')

	set title 'Accepted of those that were reached, k = 4'
	set xlabel 'depth in the draft' textcolor rgb ink
	set ylabel '%' textcolor rgb ink
	set xrange [0.5:4.5]; set xtics 1; set yrange [0:100]
	set key bottom left vertical samplen 1 spacing 1.1 font font.','.(form eq 'svg' ? '10' : '14')
	if (words(fours) > 0) {
		plot for [i = 1:words(fours)] '+' using (t = int($0) + 1, t):(cell('accepted_at_'.t.'_pct', int(word(fours, i))) + 0) \
			every ::0::3 with linespoints pt 7 ps 0.7 lw 2 lc rgb hue(i) title name_of(int(word(fours, i)))
	} else {
		set label 2 'nothing measured' at graph 0.5,0.5 center textcolor rgb soft
		plot NaN notitle
	}

	unset label 1
	unset label 2
	set title 'Tokens a step, temperature 0'
	set xlabel 'tokens drafted a round (mean)' textcolor rgb ink
	set ylabel 'tokens' textcolor rgb ink
	set xrange [0:8.5]; set xtics 2; set yrange [0:9]
	set key top left
	if (words(line) > 0) {
		plot x + 1 with lines dt 2 lw 1 lc rgb soft title 'all accepted', \
			for [i = 1:words(line)] data every ::(word(line, i) - 1)::(word(line, i) - 1) using (column('drafted_per_round')):(column('tokens_per_step')) with points pt 7 ps 1.2 lc rgb hue(1) title i == 1 ? 'measured' : '', \
			for [i = 1:words(line)] data every ::(word(line, i) - 1)::(word(line, i) - 1) using (column('drafted_per_round')):(column('tokens_geometric')) with points pt 2 ps 1.2 lw 2 lc rgb hue(2) title i == 1 ? '(1 - α^(k+1)) / (1 - α)' : '', \
			for [i = 1:words(line)] data every ::(word(line, i) - 1)::(word(line, i) - 1) using (column('drafted_per_round')):(column('tokens_documented')) with points pt 1 ps 1.2 lw 2 lc rgb hue(3) title i == 1 ? '1 + a k' : ''
	} else {
		set label 2 'nothing measured' at graph 0.5,0.5 center textcolor rgb soft
		plot NaN notitle
	}
	unset label 2

	set title 'Speed-up, 95 % interval'
	set xlabel 'k' textcolor rgb ink
	set ylabel 'plain time / time' textcolor rgb ink
	set xrange [0.3:11.2]; set yrange [0:*]
	set xtics ('1' 1, '2' 2, '3' 3, '4' 4, '5' 5, '6' 6, '7' 7, '8' 8, 'adaptive' 10)
	set key bottom left
	set arrow 1 from graph 0, first 1 to graph 1, first 1 nohead lc rgb soft lw 1
	if (words(line) + words(beside) > 0) {
		plot for [i = 1:words(line)] data every ::(word(line, i) - 1)::(word(line, i) - 1) \
				using (place(int(word(line, i)))):(column('speedup')):(lo('speedup')):(hi('speedup')) \
				with yerrorbars pt 7 ps 1 lw 2 lc rgb hue(1) title i == 1 ? 'model, T 0, exact' : '', \
			for [i = 1:words(line)] data every ::(word(line, i) - 1)::(word(line, i) - 1) \
				using (place(int(word(line, i)))):(column('speedup_by_cost')) with points pt 4 ps 1 lw 2 lc rgb hue(2) title i == 1 ? 'by costs' : '', \
			for [j = 1:4] for [i = 1:words(beside)] data every ::(word(beside, i) - 1)::(word(beside, i) - 1) \
				using (kind(int(word(beside, i))) eq word(kinds, j) ? place(int(word(beside, i))) + 0.15 + 0.1 * (i % 7) : NaN):(column('speedup')):(lo('speedup')):(hi('speedup')) \
				with yerrorbars pt 6 ps 0.8 lw 1 lc rgb hue(j + 2) notitle, \
			for [j = 1:4] NaN with points pt 6 lc rgb hue(j + 2) title word(kinds, j)
	} else {
		set label 2 'nothing measured' at graph 0.5,0.5 center textcolor rgb soft
		plot NaN notitle
	}
	unset label 2
	unset arrow 1
	unset multiplot
	unset output
	set xrange [*:*]; set yrange [*:*]; set xtics autofreq; unset xlabel
}
