// Our HNSW beside hnswlib on the same vectors, in turns in one process. Built and run by bench-hnswlib.sh.
#include <hnswlib/hnswlib.h>

// Our headers are C11.
#define _Static_assert static_assert
extern "C" {
#include "base/sysinfo.h"
#include "base/threads.h"
#include "lab/vector_index.h"
#include "memory/hnsw.h"
}

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

struct Options {
	int64_t n = 20000;
	int dim = 768, m = 16, ef_construction = 200, threads = 2, rounds = 5, queries = 500;
};

constexpr int kK = 10;
const std::vector<int> kEfs = {10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320};

[[noreturn]] void fail(const char *what) {
	std::fprintf(stderr, "bench-hnswlib: %s: %s\n", what, rv_error_message());
	std::exit(1);
}
void check(rv_status status, const char *what) {
	if (status != RV_OK)
		fail(what);
}

double seconds_since(int64_t start) {
	return 1e-9 * static_cast<double>(rv_now_ns() - start);
}

// Of this thread on a CPU: what else the machine does is not counted.
double cpu_seconds() {
	timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

double median(std::vector<double> v) {
	std::sort(v.begin(), v.end());
	return v.size() % 2 ? v[v.size() / 2] : (v[v.size() / 2 - 1] + v[v.size() / 2]) / 2;
}

// Found rows of every query, one query after the other.
using Search = std::function<void(int ef, std::vector<int32_t> &found)>;

struct Arm {
	std::string name;
	double build_s = 0, bytes = 0;
	Search search;
	std::vector<std::vector<double>> seconds; // [ef][round]
	std::vector<double> recall;               // [ef]
};

double recall_of(const rv_vector_set &set, const std::vector<int32_t> &found) {
	int64_t hits = 0;
	for (int64_t q = 0; q < set.spec.n_queries; q++)
		for (int i = 0; i < kK; i++) {
			const int32_t *truth = set.truth_rows + q * set.spec.k;
			hits += std::find(truth, truth + kK, found[q * kK + i]) != truth + kK;
		}
	return static_cast<double>(hits) / static_cast<double>(set.spec.n_queries * kK);
}

// ---- ours ----

struct Ours {
	rv_hnsw *index = nullptr;
	rv_hnsw_searcher *searcher = nullptr;
	rv_codec *codec = nullptr;
	~Ours() {
		rv_hnsw_searcher_destroy(searcher);
		rv_hnsw_destroy(index);
		rv_codec_destroy(codec);
	}
};

Arm ours(const rv_vector_set &set, const Options &o, rv_threads *threads, rv_code_kind code,
         std::shared_ptr<Ours> &keep) {
	Arm arm;
	keep = std::make_shared<Ours>();
	arm.name = code == RV_NO_CODE ? "ours f32" : std::string("ours ") + rv_code_name(code);
	rv_hnsw_options h = rv_hnsw_defaults();
	h.dim = set.spec.dim;
	h.m = o.m;
	h.ef_construction = o.ef_construction;
	h.capacity = set.spec.n;
	std::vector<uint64_t> ids(static_cast<size_t>(set.spec.n));
	for (size_t i = 0; i < ids.size(); i++)
		ids[i] = i;
	const int64_t start = rv_now_ns();
	if (code != RV_NO_CODE) {
		rv_codec_options c = rv_codec_defaults();
		c.kind = code;
		c.dim = h.dim;
		check(rv_codec_create(&keep->codec, &c), "codec");
		check(rv_codec_train(keep->codec, set.base, std::min<int64_t>(set.spec.n, 20000), threads),
		      "codec");
		h.codec = keep->codec;
	}
	check(rv_hnsw_create(&keep->index, &h), "index");
	check(rv_hnsw_add_batch(keep->index, ids.data(), set.base, set.spec.n, threads), "build");
	arm.build_s = seconds_since(start);
	check(rv_hnsw_searcher_create(&keep->searcher, keep->index), "searcher");
	const rv_hnsw_stats s = rv_hnsw_get_stats(keep->index);
	arm.bytes = double(s.vector_bytes + s.code_bytes + s.link_bytes + s.sketch_bytes + s.other_bytes);
	Ours *k = keep.get();
	arm.search = [&set, k](int ef, std::vector<int32_t> &found) {
		uint64_t got[kK];
		for (int64_t q = 0; q < set.spec.n_queries; q++) {
			int64_t n = 0;
			check(rv_hnsw_search_with(k->searcher, set.queries + q * set.spec.dim, kK, ef, nullptr,
			                          got, nullptr, &n),
			      "search");
			for (int i = 0; i < kK; i++)
				found[q * kK + i] = i < n ? static_cast<int32_t>(got[i]) : -1;
		}
	};
	return arm;
}

// ---- hnswlib ----

struct Theirs {
	hnswlib::InnerProductSpace space;
	hnswlib::HierarchicalNSW<float> index;
	Theirs(const rv_vector_set &set, const Options &o)
	    : space(size_t(set.spec.dim)), index(&space, size_t(set.spec.n), size_t(o.m), size_t(o.ef_construction)) {}
};

Arm theirs(const rv_vector_set &set, const Options &o, std::shared_ptr<Theirs> &keep) {
	Arm arm;
	arm.name = "hnswlib";
	const int64_t start = rv_now_ns();
	keep = std::make_shared<Theirs>(set, o);
	hnswlib::HierarchicalNSW<float> &index = keep->index;
	index.addPoint(set.base, 0);
	std::atomic<int64_t> next{1};
	std::vector<std::thread> workers;
	for (int t = 0; t < o.threads; t++)
		workers.emplace_back([&] {
			for (int64_t i; (i = next++) < set.spec.n;)
				index.addPoint(set.base + i * set.spec.dim, size_t(i));
		});
	for (std::thread &w : workers)
		w.join();
	arm.build_s = seconds_since(start);
	double upper = 0;
	for (int64_t i = 0; i < set.spec.n; i++)
		upper += double(index.element_levels_[size_t(i)]) * double(index.size_links_per_element_);
	arm.bytes = double(index.size_data_per_element_) * double(set.spec.n) + upper +
	            double(set.spec.n) * (sizeof(void *) + sizeof(int));
	arm.search = [&set, &index](int ef, std::vector<int32_t> &found) {
		index.setEf(size_t(ef));
		for (int64_t q = 0; q < set.spec.n_queries; q++) {
			auto nearest = index.searchKnn(set.queries + q * set.spec.dim, kK);
			for (int i = 0; i < kK; i++) {
				found[q * kK + i] = nearest.empty() ? -1 : int32_t(nearest.top().second);
				if (!nearest.empty())
					nearest.pop();
			}
		}
	};
	return arm;
}

// ---- comparison ----

// Queries a second at a recall, on the front of the points no other beats in both: ln QPS is linear in
// recall between its points. NaN where the recall is not reached; at the first point where all lie above.
double qps_at(const Arm &arm, double recall, int64_t n_queries) {
	std::vector<std::pair<double, double>> points; // QPS, recall
	for (size_t e = 0; e < kEfs.size(); e++)
		points.emplace_back(double(n_queries) / median(arm.seconds[e]), arm.recall[e]);
	std::sort(points.rbegin(), points.rend());
	std::vector<std::pair<double, double>> front;
	for (const auto &p : points)
		if (front.empty() || p.second > front.back().second)
			front.push_back(p);
	if (front.back().second < recall)
		return NAN;
	size_t i = 0;
	while (front[i].second < recall)
		i++;
	if (i == 0)
		return front[0].first;
	const double share = (recall - front[i - 1].second) / (front[i].second - front[i - 1].second);
	return std::exp(std::log(front[i - 1].first) * (1 - share) + std::log(front[i].first) * share);
}

void measure(const rv_vector_set &set, const Options &o, std::vector<Arm> &arms) {
	std::vector<int32_t> found(size_t(set.spec.n_queries * kK));
	for (Arm &a : arms) {
		a.seconds.resize(kEfs.size());
		for (const int ef : kEfs) { // warms up, too
			a.search(ef, found);
			a.recall.push_back(recall_of(set, found));
		}
	}
	for (int round = 0; round < o.rounds; round++)
		for (size_t e = 0; e < kEfs.size(); e++)
			for (size_t i = 0; i < arms.size(); i++) {
				Arm &a = arms[(i + size_t(round)) % arms.size()];
				const double start = cpu_seconds();
				a.search(kEfs[e], found);
				a.seconds[e].push_back(cpu_seconds() - start);
			}
}

void print(const rv_vector_set &set, const std::vector<Arm> &arms) {
	const double n = double(set.spec.n_queries);
	std::printf("\n%5s", "ef");
	for (const Arm &a : arms)
		std::printf("  %12s %9s", a.name.c_str(), "QPS");
	std::printf("\n");
	for (size_t e = 0; e < kEfs.size(); e++) {
		std::printf("%5d", kEfs[e]);
		for (const Arm &a : arms)
			std::printf("  %12.4f %9.0f", a.recall[e], n / median(a.seconds[e]));
		std::printf("\n");
	}
	const Arm &peer = arms[0];
	std::printf("\n%-12s %9s %7s %10s %7s %13s %7s %13s %7s\n", "", "build s", "ratio", "MiB", "ratio",
	            "QPS at 0.95", "ratio", "QPS at 0.99", "ratio");
	for (const Arm &a : arms) {
		const double at95 = qps_at(a, 0.95, set.spec.n_queries), at99 = qps_at(a, 0.99, set.spec.n_queries);
		std::printf("%-12s %9.2f %7.2f %10.1f %7.2f %13.0f %7.2f %13.0f %7.2f\n", a.name.c_str(), a.build_s,
		            a.build_s / peer.build_s, a.bytes / (1 << 20), a.bytes / peer.bytes, at95,
		            at95 / qps_at(peer, 0.95, set.spec.n_queries), at99,
		            at99 / qps_at(peer, 0.99, set.spec.n_queries));
	}
}

int never(void *) {
	return 0;
}

} // namespace

int main(int argc, char **argv) {
	Options o;
	int64_t *const longs[] = {&o.n};
	int *const ints[] = {&o.dim, &o.m, &o.ef_construction, &o.threads, &o.rounds, &o.queries};
	for (int i = 1; i < argc && i <= 7; i++) {
		const int64_t v = std::atoll(argv[i]);
		if (v < 1) {
			std::fprintf(stderr, "bench-hnswlib: '%s': expected a number\n", argv[i]);
			return 2;
		}
		if (i == 1)
			*longs[0] = v;
		else
			*ints[i - 2] = int(v);
	}
	rv_threads_options t = {};
	t.n_threads = o.threads;
	rv_threads *threads;
	check(rv_threads_create(&threads, &t), "threads");
	auto config = std::make_unique<rv_run_config>();
	config->root = ".";
	config->n_threads = o.threads;
	config->threads = threads;
	config->cancelled = never;
	rv_vector_spec spec = {RV_VECTOR_SET_CLUSTERED, o.n, o.queries, o.dim, 100, 0};
	rv_vector_set set;
	check(rv_vector_set_open(&set, config.get(), &spec), "vectors");
	std::printf("%lld x %d, cosine, M %d, ef_construction %d, %d threads build, one searches, %d queries, "
	            "CPU time, median of %d rounds in turns\n",
	            static_cast<long long>(o.n), o.dim, o.m, o.ef_construction, o.threads, o.queries, o.rounds);
	std::shared_ptr<Theirs> their_index;
	std::shared_ptr<Ours> f32, sq8, int4;
	std::vector<Arm> arms;
	arms.push_back(theirs(set, o, their_index));
	arms.push_back(ours(set, o, threads, RV_NO_CODE, f32));
	arms.push_back(ours(set, o, threads, RV_CODE_SQ8, sq8));
	arms.push_back(ours(set, o, threads, RV_CODE_INT4, int4));
	measure(set, o, arms);
	print(set, arms);
	rv_vector_set_close(&set);
	rv_threads_destroy(threads);
	return 0;
}
