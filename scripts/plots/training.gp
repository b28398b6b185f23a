# Loss of a training run by tokens seen.
# gnuplot -e "data='x.tsv'; out='plots/x'; name='nano'" training.gp
load 'scripts/plots/style.gp'
eval svg_terminal(760, 420)
set output out.'.svg'
set title name.': cross-entropy'
set xlabel 'tokens seen, millions' textcolor rgb ink
set ylabel 'nats a token' textcolor rgb ink
set yrange [0:*<4]
set key top right
plot data using 'tokens':'loss' with lines lc rgb colour[2] lw 1 title 'training text, median of some steps', \
	data using 'tokens':'valid' with points pt 7 ps 0.5 lc rgb colour[4] title 'held-out text, mean over the kinds'
