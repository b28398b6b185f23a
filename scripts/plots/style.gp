# Common look of all plots. The caller sets `out` (path without suffix) and calls `draw`.
set encoding utf8
set datafile separator tab
set datafile columnheaders
font = 'DejaVu Sans'
ink = '#1d2330'; soft = '#8a93a3'; rule = '#dfe3ea'
# colour-blind safe (Okabe and Ito), darkened where they were too light on white
array colour[8] = ['#555555', '#0072b2', '#009e73', '#d55e00', '#cc79a7', '#b8860b', '#56b4e9', '#7b3294']
set border 3 lc rgb soft lw 1
set tics nomirror out textcolor rgb ink
set grid back lt 1 lw 0.6 lc rgb rule
set key textcolor rgb ink
set title textcolor rgb ink
# Ends of a metric's interval; the value itself where there is none.
lo(m) = column(m.'_lo95') == column(m.'_lo95') ? column(m.'_lo95') : column(m)
hi(m) = column(m.'_hi95') == column(m.'_hi95') ? column(m.'_hi95') : column(m)
svg_terminal(w, h) = sprintf("set terminal svg size %d,%d dynamic noenhanced font '%s,13' background '#ffffff'", w, h, font)
png_terminal(w, h) = sprintf("set terminal pngcairo size %d,%d noenhanced font '%s,19' background '#ffffff'", 1.5 * w, 1.5 * h, font)
