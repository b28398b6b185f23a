# T16: recall against queries a second, as ann-benchmarks draws it: up and to the right is better.
# gnuplot -e "data='x.tsv'; out='plots/x'; footer='...'" hnsw_parameters.gp
load 'scripts/plots/style.gp'

# recall, qps and its interval of the points at k 10 that pass a filter; `front`: only those that no
# other beats in both.
rows(filter, front) = sprintf("< awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next } $at[\"k\"] == \"10\" && $at[\"qps\"] != \"NaN\" && %s { print $at[\"qps\"] \"\t\" $at[\"recall\"] \"\t\" $at[\"qps_lo95\"] \"\t\" $at[\"qps_hi95\"] \"\t\" $at[\"mark\"] }' '%s' | sort -t \"$(printf '\\t')\" -k1,1gr | awk -F'\t' 'BEGIN { print \"qps\trecall\tlo\thi\tmark\"; best = -1 } !%d || $2 + 0 > best { print; best = $2 + 0 }'", filter, data, front)
set_of(name) = sprintf('$at["set"] == "%s" && $at["code"] == "f32"', name)
code_of(name) = sprintf('$at["set"] == "clustered" && $at["M"] == "16" && $at["efC"] == "200" && $at["code"] == "%s"', name)
links(m) = sprintf('$at["set"] == "clustered" && $at["code"] == "f32" && $at["M"] == "%s"', m)
count(filter) = int(system(rows(filter, 0)[3:*].' | wc -l')) - 1
sure(x, y) = x == x ? x : y

do for [form in 'svg png'] {
	eval form eq 'svg' ? svg_terminal(1320, 470) : png_terminal(1320, 470)
	set output out.'.'.form
	set multiplot layout 1,3 margins 0.065,0.985,0.25,0.9 spacing 0.055
	set label 1 footer at screen 0.5,0.025 center textcolor rgb soft font font.','.(form eq 'svg' ? '10' : '14')
	set key bottom left box lc rgb rule opaque samplen 1.5 spacing 1.1 width 1 height 0.4 font font.','.(form eq 'svg' ? '10' : '14')
	set logscale y
	set xlabel 'recall@10' textcolor rgb ink
	set ylabel 'queries a second, one thread' textcolor rgb ink
	set xrange [*:1.002]
	set xtics rotate by -40 left
	set title 'Clusters: every graph, f32'
	array shade[4] = [6, 2, 4, 5]
	array m[4] = ['8', '16', '32', '64']
	plot rows(set_of('clustered'), 1) using 'recall':'qps' with lines lw 2 lc rgb soft title 'front', \
		for [i = 1:4] (count(links(m[i])) > 0 ? rows(links(m[i]), 0) : '/dev/null') using 2:1 every ::1 with points pt 7 ps 0.8 lc rgb colour[shade[i]] title 'M '.m[i], \
		rows('$at["mark"] != "-"', 0) using 'recall':'qps' with points pt 6 ps 1.8 lw 1.6 lc rgb ink title 'documented', \
		'' using 'recall':'qps':'mark' with labels right offset -1.2,0.2 textcolor rgb ink font font.','.(form eq 'svg' ? '9' : '13') notitle
	unset label 1
	unset ylabel
	set title 'Fronts by kind of vectors, f32'
	array kind[3] = ['clustered', 'embeddings', 'uniform']
	array kind_shade[3] = [2, 3, 4]
	plot for [i = 1:3] (count(set_of(kind[i])) > 0 ? rows(set_of(kind[i]), 1) : '/dev/null') using 2:1:(sure($3, $1)):(sure($4, $1)) every ::1 with yerrorlines lw 2 pt 7 ps 0.8 lc rgb colour[kind_shade[i]] title kind[i]
	set title 'Clusters, M 16: by code'
	array code[5] = ['f32', 'sq8', 'int4', 'pq', 'binary']
	plot for [i = 1:5] (count(code_of(code[i])) > 0 ? rows(code_of(code[i]), 1) : '/dev/null') using 2:1:(sure($3, $1)):(sure($4, $1)) every ::1 with yerrorlines lw 2 pt 7 ps 0.8 lc rgb colour[i == 1 ? 1 : i] title code[i]
	unset multiplot
	unset output
	unset logscale
	set xrange [*:*]; set yrange [*:*]; set xtics norotate autojustify
}
