/* Output head and loss of a pass, a slice of rows at a time, so that logits of a whole piece never
 * exist; rows nobody asks for have none. Internal to lib/learn. */

/* Of n rows of hidden states. */
static void logits_of(const rv_pass *p, rv_real *logits, const rv_real *h, int64_t n) {
	const rv_hparams *hp = &p->layout->hp;
	gemm(p, 0, 1, n, hp->n_vocab, hp->n_embd, 1, h, hp->n_embd,
	     rv_pass_weight(p, RV_OUTPUT, -1, RV_PART_WEIGHT), hp->n_embd, 0, logits, hp->n_vocab);
}

void rv_pass_logits(rv_pass *p, rv_real *logits, int64_t first, int64_t n) {
	logits_of(p, logits, p->h_last + first * p->layout->hp.n_embd, n);
}

static void add_loss(rv_loss_sum *sum, rv_loss_value value, rv_real weight) {
	sum->weight += (double)weight;
	if (weight == 0)
		return;
	sum->cross_entropy += (double)weight * value.cross_entropy;
	sum->kl += (double)weight * value.kl;
}

/* Where the weights and losses of a row's prediction lie. */
static int64_t prediction(const rv_piece *piece, int64_t row) {
	return row / piece->n_tokens * (piece->stride - 1) + row % piece->n_tokens;
}

/* The rows whose predictions are asked for, ascending: with weight, or all when losses are wanted. */
static int64_t asked_rows(rv_pass *p, const rv_piece *piece) {
	const int64_t rows = piece->n_seqs * piece->n_tokens;
	int64_t n = 0;
	for (int64_t row = 0; row < rows; row++)
		if (!piece->weights || piece->token_loss || piece->weights[prediction(piece, row)] != 0)
			p->asked[n++] = (int32_t)row;
	return n;
}

static int together(const int32_t *rows, int64_t n) {
	return rows[n - 1] - rows[0] == n - 1;
}

/* h_last of some rows: where it is, or gathered into p->some. */
static const rv_real *hidden_of(const rv_pass *p, const int32_t *rows, int64_t n) {
	const int64_t n_e = p->layout->hp.n_embd;
	if (together(rows, n))
		return p->h_last + rows[0] * n_e;
	for (int64_t i = 0; i < n; i++)
		memcpy(p->some + i * n_e, p->h_last + rows[i] * n_e, (size_t)n_e * sizeof *p->some);
	return p->some;
}

/* Losses of n rows, whose logits become derivatives. */
static void rows_loss(rv_pass *p, const rv_piece *piece, const int32_t *rows, int64_t n,
                      rv_loss_sum *sum) {
	const int64_t n_vocab = p->layout->hp.n_vocab;
	for (int64_t i = 0; i < n; i++) {
		const int64_t seq = rows[i] / piece->n_tokens, t = rows[i] % piece->n_tokens,
		              at = prediction(piece, rows[i]);
		rv_loss_row r = {.target = piece->tokens[seq * piece->stride + t + 1],
		                 .weight = piece->weights ? piece->weights[at] : 1,
		                 .teacher = piece->teacher ? p->teacher_logits + i * n_vocab : NULL,
		                 .distill_weight = piece->distill_weight,
		                 .temperature = piece->temperature,
		                 .gradient = p->gradient != NULL};
		rv_loss_value value = p->ops->loss(p->logits + i * n_vocab, n_vocab, &r);
		if (piece->token_loss)
			piece->token_loss[at] = (float)value.cross_entropy;
		add_loss(sum, value, r.weight);
	}
}

/* From the derivatives by the logits of n rows to the head's gradient and those rows of dh. */
static void rows_back(rv_pass *p, const int32_t *rows, int64_t n, const rv_real *h) {
	const int64_t n_e = p->layout->hp.n_embd, n_v = p->layout->hp.n_vocab;
	rv_real *dw = rv_pass_gradient(p, RV_OUTPUT, -1, RV_PART_WEIGHT);
	rv_real *dh = together(rows, n) ? p->dh + rows[0] * n_e : p->some;
	if (dw && RV_TRAIN_KEEPS(head))
		gemm(p, 1, 0, n_v, n_e, n, 1, p->logits, n_v, h, n_e, 1, dw, n_e);
	gemm(p, 0, 0, n, n_e, n_v, 1, p->logits, n_v, rv_pass_weight(p, RV_OUTPUT, -1, RV_PART_WEIGHT),
	     n_e, 0, dh, n_e);
	for (int64_t i = 0; dh == p->some && i < n; i++)
		memcpy(p->dh + rows[i] * n_e, dh + i * n_e, (size_t)n_e * sizeof *dh);
}

/* The loss, and dh and the head's own gradient where there is one. */
static rv_loss_sum output_loss(rv_pass *p, const rv_piece *piece) {
	const int64_t rows = piece->n_seqs * piece->n_tokens, n_asked = asked_rows(p, piece);
	rv_loss_sum sum = {0};
	if (p->gradient && n_asked < rows)
		memset(p->dh, 0, (size_t)(rows * p->layout->hp.n_embd) * sizeof *p->dh);
	for (int64_t first = 0; first < n_asked; first += LOGIT_ROWS) {
		const int64_t n = n_asked - first < LOGIT_ROWS ? n_asked - first : LOGIT_ROWS;
		const int32_t *asked = p->asked + first;
		if (piece->teacher)
			logits_of(piece->teacher, p->teacher_logits,
			          hidden_of(piece->teacher, asked, n), n);
		const rv_real *h = hidden_of(p, asked, n);
		logits_of(p, p->logits, h, n);
		rows_loss(p, piece, asked, n, &sum);
		if (p->gradient)
			rows_back(p, asked, n, h);
	}
	return sum;
}

/* ---- after a loss that is not finite ---- */

static int all_finite(const rv_real *x, int64_t n) {
	rv_real zero = 0;
	for (int64_t i = 0; i < n; i++)
		zero += x[i] * 0;
	return zero == 0;
}

/* What a layer computes, in order, each with the tensor it comes from. */
static rv_role bad_in_layer(const rv_pass *p, const rv_layer_state *s, const rv_real *next,
                            int64_t rows) {
	const rv_hparams *hp = &p->layout->hp;
	const int64_t n_q = hp->n_heads * hp->head_dim, n_kv = hp->n_kv_heads * hp->head_dim;
	const struct {
		const rv_real *x;
		int64_t n;
		rv_role role;
	} made[] = {
	        {s->h1, hp->n_embd, RV_ATTN_NORM},
	        {s->q, n_q, RV_ATTN_Q},
	        {s->k, n_kv, RV_ATTN_K},
	        {s->v, n_kv, RV_ATTN_V},
	        {s->a, n_q, RV_ATTN_Q},
	        {s->mid, hp->n_embd, RV_ATTN_OUT},
	        {s->h2, hp->n_embd, RV_FFN_NORM},
	        {s->gate, hp->n_ff, RV_FFN_GATE},
	        {s->up, hp->n_ff, RV_FFN_UP},
	        {s->act, hp->n_ff, RV_FFN_UP},
	        {next, hp->n_embd, RV_FFN_DOWN},
	};
	for (size_t i = 0; i < sizeof made / sizeof made[0]; i++)
		if (!all_finite(made[i].x, rows * made[i].n))
			return made[i].role;
	return RV_ROLE_COUNT;
}

int64_t rv_pass_find_bad(rv_pass *p, const rv_piece *piece) {
	const rv_train_layout *l = p->layout;
	const int64_t rows = piece->n_seqs * piece->n_tokens;
	for (int64_t i = 0; i < l->n_params; i++)
		if (!all_finite(p->weights + l->params[i].offset,
		                l->params[i].rows * l->params[i].cols))
			return i;
	embed(p, piece);
	for (int64_t layer = 0; layer < l->hp.n_layers; layer++) {
		rv_real *next = leaves(p, layer);
		layer_forward(p, layer, next, piece);
		rv_role role = bad_in_layer(p, &p->layers[layer], next, rows);
		if (role != RV_ROLE_COUNT)
			return rv_train_layout_find(l, role, layer, RV_PART_WEIGHT);
	}
	return rv_train_layout_find(l, RV_OUTPUT, -1, RV_PART_WEIGHT);
}
