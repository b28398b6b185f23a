# T3: score of each task by type, and what a type changes, item by item, with 95 % intervals.
# gnuplot -e "data='x.tsv'; out='plots/x'; footer='...'" quality.gp
load 'scripts/plots/style.gp'

# The words of a named column of the table ("-" where empty).
words_of(name) = system(sprintf("awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == \"%s\") c = i; next } { printf \"%%s \", $c == \"\" ? \"-\" : $c }' '%s'", name, data))
tasks = words_of('task')
types = words_of('type')
variants = words_of('variant')
scores = words_of('score_pct')
changes = words_of('difference_pct')
rows = words(tasks)

task_list = ''; arm_list = '' # in the order of the table; an arm is a variant of a type
arm(r) = word(variants, r).'/'.word(types, r)
place(list, w) = (k = 0, sum [j = 1:words(list)] (word(list, j) eq w ? j : 0))
do for [r = 1:rows] {
	if (place(task_list, word(tasks, r)) == 0) { task_list = task_list.' '.word(tasks, r) }
	if (place(arm_list, arm(r)) == 0) { arm_list = arm_list.' '.arm(r) }
}
n = words(task_list); m = words(arm_list)
hue(a) = colour[(a - 1) % 8 + 1]
x(r) = place(task_list, word(tasks, r)) + 0.8 * ((place(arm_list, arm(r)) - 0.5) / m - 0.5)
drawn = ''; compared = ''
do for [r = 1:rows] {
	if (word(scores, r) ne 'NaN') { drawn = drawn.' '.r }
	if (word(changes, r) ne 'NaN') { compared = compared.' '.r }
}
label_of(a) = (w = word(arm_list, a), w[1:strstrt(w, '/') - 1].' '.w[strstrt(w, '/') + 1:*])

do for [form in 'svg png'] {
	eval form eq 'svg' ? svg_terminal(1180, 520) : png_terminal(1180, 520)
	set output out.'.'.form
	set multiplot layout 1,2 margins 0.075,0.985,0.24,0.9 spacing 0.09
	set label 1 footer at screen 0.5,0.025 center textcolor rgb soft font font.','.(form eq 'svg' ? '10' : '14')
	set grid noxtics
	set xrange [0.4:n + 0.6]
	set xtics rotate by -20 left
	set for [t = 1:n] xtics add (word(task_list, t) t)
	set style fill solid 0.35 border

	set title 'Score, 95 % interval over items; the line is chance'
	set ylabel '%' textcolor rgb ink
	set yrange [0:150] # room for the key above the bars
	set ytics 0,20,100
	set key top right vertical maxrows 3 box lc rgb rule opaque samplen 1 spacing 1.1 width -1 height 0.4 font font.','.(form eq 'svg' ? '11' : '16')
	if (words(drawn) > 0) {
		plot for [r in drawn] data every ::(r - 1)::(r - 1) \
				using (x(int(r))):(column('score_pct')):(lo('score_pct')):(hi('score_pct')):(0.7 / m) \
				with boxerrorbars lw 1.2 lc rgb hue(place(arm_list, arm(int(r)))) notitle, \
			for [r in drawn] data every ::(r - 1)::(r - 1) \
				using (x(int(r)) - 0.4 / m):(column('chance_pct')):(0.8 / m):(0) with vectors nohead lw 2 lc rgb ink notitle, \
			for [a = 1:m] NaN with boxes lc rgb hue(a) title label_of(a)
	} else {
		set label 2 'no model that was trained' at graph 0.5,0.5 center textcolor rgb soft
		plot NaN notitle
	}

	unset label 1
	unset label 2
	unset key
	set title 'Difference to the reference, item by item'
	set ylabel 'points' textcolor rgb ink
	set yrange [*:*]
	set ytics autofreq
	set arrow 1 from graph 0, first 0 to graph 1, first 0 nohead lc rgb soft lw 1
	if (words(compared) > 0) {
		plot for [r in compared] data every ::(r - 1)::(r - 1) \
			using (x(int(r))):(column('difference_pct')):(lo('difference_pct')):(hi('difference_pct')) \
			with yerrorbars pt 7 ps 1 lw 2 lc rgb hue(place(arm_list, arm(int(r)))) notitle
	} else {
		set yrange [-1:1]
		set label 2 'nothing to compare' at graph 0.5,0.5 center textcolor rgb soft
		plot NaN notitle
	}
	unset label 2
	unset arrow 1
	unset multiplot
	unset output
	set xrange [*:*]; set yrange [*:*]; set xtics norotate autofreq; set grid xtics
}
