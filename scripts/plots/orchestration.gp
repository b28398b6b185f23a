# T11: time of each part of a request's handling, and what entries take of memory.
# gnuplot -e "data='x.tsv'; out='plots/x'; footer='...'" orchestration.gp
load 'scripts/plots/style.gp'

# Rows of the table whose metric was measured, and the words of their part.
has(name) = system(sprintf("awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next } $at[\"%s\"] != \"NaN\" { printf \"%%d \", NR - 1 }' '%s'", name, data))
part(r) = system(sprintf("awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next } NR == %d { print $at[\"part\"] }' '%s'", int(r) + 1, data))
number_of(r, name) = real(system(sprintf("awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next } NR == %d { print $at[\"%s\"] }' '%s'", int(r) + 1, name, data)))
timed = has('latency_ms')
n = words(timed)
# ms, as documented
bound(p) = p[1:5] eq 'total' ? 1 : p eq 'session_lookup' ? 0.1 : p eq 'pattern_search' ? 2 : NaN
sizes = 'bytes_per_entry bytes_per_session bytes_per_witness'
any = words(has('bytes_per_entry').has('bytes_per_session').has('bytes_per_witness'))
bytes_of(name) = has(name) eq '' ? NaN : number_of(word(has(name), 1), name)

do for [form in 'svg png'] {
	eval form eq 'svg' ? svg_terminal(1180, 480) : png_terminal(1180, 480)
	set output out.'.'.form
	set multiplot
	set label 1 footer at screen 0.5,0.025 center textcolor rgb soft font font.','.(form eq 'svg' ? '10' : '14')
	set lmargin at screen 0.13
	set rmargin at screen 0.68
	set tmargin at screen 0.9
	set bmargin at screen 0.2
	set title 'Median with 95 % interval, and 99th percentile, of single calls'
	set xlabel 'milliseconds' textcolor rgb ink
	set logscale x 10
	set xrange [1e-4:3000] # room for the key
	set format x '%g'
	set yrange [n + 0.6:0.4]
	set grid noytics
	unset ytics
	set ytics nomirror textcolor rgb ink
	do for [i = 1:n] { set ytics add (part(word(timed, i)) i) }
	set key bottom right box lc rgb rule opaque samplen 1.5 spacing 1.1 width 1 height 0.4 font font.','.(form eq 'svg' ? '11' : '16')
	if (n > 0) {
		plot for [i = 1:n] data every ::(word(timed, i) - 1)::(word(timed, i) - 1) \
				using (column('latency_ms')):(i):(lo('latency_ms')):(hi('latency_ms')) \
				with xerrorbars pt 7 ps 1.2 lw 2 lc rgb colour[2] notitle, \
			for [i = 1:n] data every ::(word(timed, i) - 1)::(word(timed, i) - 1) \
				using (column('p99_ms')):(i) with points pt 6 ps 1.2 lw 1.5 lc rgb colour[4] notitle, \
			for [i = 1:n] '+' every ::0::0 using (bound(part(word(timed, i)))):(i):(0):(0.35) \
				with vectors nohead lw 3 lc rgb colour[3] notitle, \
			for [i = 1:n] '+' every ::0::0 using (bound(part(word(timed, i)))):(i):(0):(-0.35) \
				with vectors nohead lw 3 lc rgb colour[3] notitle, \
			NaN with points pt 7 ps 1.2 lc rgb colour[2] title 'median', \
			NaN with points pt 6 ps 1.2 lw 1.5 lc rgb colour[4] title '99th percentile', \
			NaN with lines lw 3 lc rgb colour[3] title 'documented, at most'
	} else {
		set label 2 'nothing measured' at graph 0.5,0.5 center textcolor rgb soft
		plot NaN notitle
	}

	unset label 1
	unset label 2
	unset key
	unset logscale x
	set lmargin at screen 0.76
	set rmargin at screen 0.985
	set title 'What one takes'
	set xlabel ''
	set ylabel 'bytes' textcolor rgb ink
	set xrange [0.4:3.6]
	if (any) { set yrange [0:*] } else { set yrange [0:1] } # nothing to scale by is an error
	set xtics ('pattern' 1, 'session' 2, 'witness' 3)
	unset ytics
	set ytics nomirror textcolor rgb ink
	set grid noxtics ytics
	set style fill solid 0.35 border
	set boxwidth 0.6
	plot for [i = 1:3] '+' every ::0::0 using (i):(bytes_of(word(sizes, i))) \
		with boxes lw 1.2 lc rgb colour[i + 1] notitle
	unset multiplot
	unset output
	unset ylabel
	set xtics autofreq
	set grid xtics
}
