# T14: similarity by grade, searches and clusters, by embedder.
# gnuplot -e "data='x.tsv'; out='plots/x'; footer='...'" embedding.gp
load 'scripts/plots/style.gp'

kinds = 'trained nano pico'
bands = 'high medium low none'
is(task, e, d) = strcol('task') eq task && strcol('embedder') eq e && strcol('dim') eq d
score_of(task, e, d, m) = is(task, e, d) ? column(m) : NaN
at(i, k) = i + (k - 2) * 0.25

do for [form in 'svg png'] {
	eval form eq 'svg' ? svg_terminal(1180, 480) : png_terminal(1180, 480)
	set output out.'.'.form
	set multiplot layout 1,2 margins 0.075,0.985,0.2,0.9 spacing 0.1
	set label 1 footer at screen 0.5,0.025 center textcolor rgb soft font font.','.(form eq 'svg' ? '10' : '14')
	set style fill solid 0.85 noborder
	set boxwidth 0.22
	set key top right Left reverse box lc rgb rule opaque samplen 1.5 spacing 1.1 width 1 height 0.4 font font.','.(form eq 'svg' ? '11' : '16')

	set title 'Graded pairs, 768 numbers: mean cosine'
	set ylabel 'cosine' textcolor rgb ink
	set yrange [-0.2:1.2]
	set xrange [0.4:4.6]
	set xtics ('high' 1, 'medium' 2, 'low' 3, 'none' 4)
	plot for [k = 1:3] for [b = 1:4] data \
		using (at(b, k)):(score_of('similarity', word(kinds, k), '768', 'similarity_'.word(bands, b))) \
		with boxes lc rgb colour[k + 1] title (b == 1 ? word(kinds, k) : '')

	unset label 1
	set title 'Searches and clusters; hollow: native'
	set ylabel 'score' textcolor rgb ink
	set yrange [-0.2:1.25]
	set xrange [0.4:4.6]
	set xtics ('MRR' 1, 'NDCG' 2, 'purity' 3, 'silhouette' 4)
	tasks = 'search search clustering clustering'
	scores = 'mrr ndcg purity silhouette'
	plot for [k = 1:3] for [b = 1:4] data \
			using (at(b, k)):(score_of(word(tasks, b), word(kinds, k), '768', word(scores, b))) \
			with boxes lc rgb colour[k + 1] title (b == 1 ? word(kinds, k) : ''), \
		for [k = 1:3] for [b = 1:4] data \
			using (at(b, k)):(score_of(word(tasks, b), word(kinds, k), 'native', word(scores, b))) \
			with points pt 6 ps 1.1 lw 2 lc rgb ink notitle
	unset multiplot
	unset output
	set yrange [*:*]; set xrange [*:*]
}
