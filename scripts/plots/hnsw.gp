# T4: time of a query by number of vectors, HNSW and exact search; speed-up, with the documented ones.
# gnuplot -e "data='x.tsv'; out='plots/x'; footer='...'" hnsw.gp
load 'scripts/plots/style.gp'

# Rows of one dimension and baseline.
rows(dim, baseline) = sprintf("< awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; print; next } $at[\"dim\"] == \"%s\" && $at[\"baseline\"] == \"%s\" && $at[\"hnsw_ms\"] != \"NaN\"' '%s'", dim, baseline, data)
$documented << END
n	x
1000	160
10000	683
50000	2305
100000	3957
END
n_measured = int(system(rows('768', 'simd')[3:*].' | wc -l')) - 1

do for [form in 'svg png'] {
	eval form eq 'svg' ? svg_terminal(1180, 470) : png_terminal(1180, 470)
	set output out.'.'.form
	set multiplot layout 1,2 margins 0.09,0.98,0.2,0.9 spacing 0.11
	set label 1 footer at screen 0.5,0.025 center textcolor rgb soft font font.','.(form eq 'svg' ? '10' : '14')
	set key top left box lc rgb rule opaque samplen 1.5 spacing 1.1 width 1 height 0.4 font font.','.(form eq 'svg' ? '10' : '14')
	set logscale xy
	set xlabel 'vectors' textcolor rgb ink
	set xrange [800:130000]
	set format x '%.0s%c'
	if (n_measured < 1) {
		set label 2 'not measured in this profile' at graph 0.5,0.5 center textcolor rgb soft
		plot [800:130000] [1:10] 5 notitle
		unset label 2
	} else {
		set title 'A query, 768 dimensions, one thread'
		set ylabel 'ms' textcolor rgb ink
		set yrange [0.005:5000]
		plot rows('768', 'scalar') using (column('n')):(column('brute_ms')):(lo('brute_ms')):(hi('brute_ms')) with yerrorlines lw 2 pt 5 lc rgb colour[1] title 'exact, plain C', \
			rows('768', 'simd') using (column('n')):(column('brute_ms')):(lo('brute_ms')):(hi('brute_ms')) with yerrorlines lw 2 pt 9 lc rgb colour[4] title 'exact, SIMD', \
			rows('768', 'blas') using (column('n')):(column('brute_ms')):(lo('brute_ms')):(hi('brute_ms')) with yerrorlines lw 2 pt 13 lc rgb colour[6] title 'exact, SGEMM', \
			rows('768', 'simd') using (column('n')):(column('hnsw_ms')):(lo('hnsw_ms')):(hi('hnsw_ms')) with yerrorlines lw 2 pt 7 lc rgb colour[2] title 'HNSW, ef 50', \
			rows('768', 'simd') using (column('n')):(column('hnsw_ms')):(sprintf('%.3f', column('recall_at_10'))) with labels offset 0,-1 textcolor rgb soft font font.','.(form eq 'svg' ? '9' : '13') title 'numbers: recall@10'
		unset label 1
		set title 'Speed-up of HNSW at ef 50'
		set ylabel 'times' textcolor rgb ink
		set yrange [0.1:1e6]
		plot $documented using 1:2 with linespoints dt 2 lw 1.5 pt 6 lc rgb ink title 'documented', \
			for [b in 'scalar simd blas'] rows('768', b) using (column('n')):(column('speedup')):(lo('speedup')):(hi('speedup')) with yerrorlines lw 2 pt 7 lc rgb colour[b eq 'scalar' ? 1 : b eq 'simd' ? 4 : 6] title '768, against '.b, \
			rows('128', 'simd') using (column('n')):(column('speedup')):(lo('speedup')):(hi('speedup')) with yerrorlines lw 2 dt 3 pt 7 lc rgb colour[4] title '128, against simd'
	}
	unset multiplot
	unset output
	unset logscale
	set xrange [*:*]; set yrange [*:*]; set format x '%h'
}
