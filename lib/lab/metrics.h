/* Rows of rv_experiment_metric that several experiments have. */
#ifndef RV_LAB_METRICS_H
#define RV_LAB_METRICS_H

#include "lab/experiment.h"

/* clang-format off */

/* The ends of an exact metric's interval: the two rows after it. */
#define RV_METRIC_ENDS(stem, unit, title, better, format) \
	{stem "_from", unit, title ", from", "lower end of its 95 % interval", better, 1, 1, NULL, format}, \
	{stem "_to", unit, title ", to", "upper end of its 95 % interval", better, 1, 1, NULL, format}

/* Decoding and its share of the roof: two rows (rv_decode_run and rv_decode_bound of lab/speed.h). */
#define RV_METRIC_DECODE \
	{"tg_tok_s", "tok/s", "decode", \
	 "tokens decoded a second, one sequence, from an empty cache, without sampling", \
	 RV_HIGHER, 0, 0, "tg_roofline_pct", "%.1f"}, \
	{"tg_roofline_pct", "%", "decode, % of roofline", \
	 "decode / (read bandwidth / bytes read a token)", RV_HIGHER, 0, 0, NULL, "%.1f"}

/* Quality over the tasks that count (lab/quality.h) and its interval: three rows. `of` ends the
 * sentence that says what it is. */
#define RV_METRIC_QUALITY(of) \
	{"quality_pct", "%", "quality", \
	 "geometric mean over tasks of (score - chance) / (1 - chance)" of, \
	 RV_HIGHER, 1, 0, NULL, "%.1f"}, \
	RV_METRIC_ENDS("quality_pct", "%", "quality", RV_HIGHER, "%.1f")

/* clang-format on */

#endif
