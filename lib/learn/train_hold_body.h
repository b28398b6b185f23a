/* Penalties of a pass's weights (rv_pass_hold). Internal to lib/learn. */

/* With D = W + s B A - anchor and G = lambda F D the derivative by the product: dB += s G A^T,
 * dA += s B^T G. The products are float32 also where those of the pass are not. */
static double hold_product(const rv_pass *pass, const rv_hold *h, rv_real *gradient, rv_real lambda,
                           rv_real *d) {
	rv_pass p = *pass;
	const rv_train_layout *l = p.layout;
	const rv_param *a = &l->params[h->param], *b = a + 1;
	const adapted ad = adapter_of(&p, a->role, a->layer);
	const int64_t in = a->cols, out = b->rows, rank = ad.rank;
	p.products = NULL;
	memcpy(d, rv_pass_weight(&p, a->role, a->layer, RV_PART_WEIGHT),
	       (size_t)(in * out) * sizeof *d);
	gemm(&p, 0, 0, out, in, rank, ad.scale, ad.b, rank, ad.a, in, 1, d, in);
	const double sum = p.ops->hold(NULL, d, h->anchor, h->fisher, in * out, 0);
	if (!gradient)
		return sum;
	for (int64_t i = 0; i < in * out; i++)
		d[i] = lambda * h->fisher[i] * (d[i] - h->anchor[i]);
	gemm(&p, 0, 1, out, rank, in, ad.scale, d, in, ad.a, in, 1,
	     gradient + b->offset - l->train_begin, rank);
	if (RV_TRAIN_KEEPS(hold_into_a))
		gemm(&p, 1, 0, rank, in, out, ad.scale, ad.b, rank, d, in, 1,
		     gradient + a->offset - l->train_begin, in);
	return sum;
}

void rv_pass_hold(const rv_pass *p, rv_hold *h, rv_real *gradient, rv_real lambda, rv_real *scratch) {
	const rv_train_layout *l = p->layout;
	const rv_param *q = &l->params[h->param];
	rv_real *g = gradient ? gradient + q->offset - l->train_begin : NULL;
	const double sum = h->product ? hold_product(p, h, gradient, lambda, scratch)
	                              : p->ops->hold(g, p->weights + q->offset, h->anchor, h->fisher,
	                                             q->rows * q->cols, lambda);
	h->penalty = sum / 2;
}
