#include "lab/ann_file.h"

#include "base/mem.h"
#include "lab/h5image.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define READ_LIMIT_S 600       /* of the child */
#define DEFLATE_MAX_RATIO 1100 /* of zlib: more cannot be in a file */
#define MAX_DIM 65536

static const char *const distance_names[] = {
        [RV_METRIC_COSINE] = "angular", [RV_METRIC_L2] = "euclidean", [RV_METRIC_INNER] = "dot"};

const char *rv_ann_distance_name(rv_metric metric) {
	return distance_names[metric];
}

float rv_ann_distance(rv_metric metric, float distance) {
	return metric == RV_METRIC_L2 ? sqrtf(distance) : distance;
}

/* ---- what the child hands over: this, then train, test, neighbors, distances ---- */

typedef struct handed {
	int32_t status; /* rv_status; message says why */
	int32_t metric, dim;
	int32_t has_neighbors, has_distances;
	int64_t n_train, n_test, k;
	char message[512];
} handed;

typedef struct part {
	const char *name;
	hid_t type;
	int64_t rows, columns;
	size_t at; /* in the region, bytes */
} part;
enum { TRAIN, TEST, NEIGHBORS, DISTANCES, N_PARTS };
#define DATA_AT 1024
_Static_assert(sizeof(handed) <= DATA_AT, "head of the region");

static void layout(const handed *h, part parts[N_PARTS]) {
	const part all[N_PARTS] = {[TRAIN] = {"train", H5T_NATIVE_FLOAT, h->n_train, h->dim, 0},
	                           [TEST] = {"test", H5T_NATIVE_FLOAT, h->n_test, h->dim, 0},
	                           [NEIGHBORS] = {"neighbors", H5T_NATIVE_INT32,
	                                          h->has_neighbors ? h->n_test : 0, h->k, 0},
	                           [DISTANCES] = {"distances", H5T_NATIVE_FLOAT,
	                                          h->has_distances ? h->n_test : 0, h->k, 0}};
	size_t at = DATA_AT;
	for (int i = 0; i < N_PARTS; i++) {
		parts[i] = all[i];
		parts[i].at = at;
		at += 4 * (size_t)(all[i].rows * all[i].columns);
	}
}

static size_t region_bytes(const handed *h) {
	part parts[N_PARTS];
	layout(h, parts);
	return parts[DISTANCES].at + 4 * (size_t)(parts[DISTANCES].rows * parts[DISTANCES].columns);
}

/* ---- in the child ---- */

static int fail(handed *h, rv_status status, const char *what, const char *why) {
	h->status = (int32_t)status;
	snprintf(h->message, sizeof h->message, "%s: %s", what, why);
	return 0;
}

/* A table of numbers: its shape, checked against the length of the file. */
static int look_at(hid_t file, const char *name, int64_t file_bytes, int64_t *rows, int64_t *columns,
                   handed *h) {
	hsize_t dims[2];
	const hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
	if (set < 0)
		return fail(h, RV_ERR_FORMAT, name, "is not there");
	const hid_t space = H5Dget_space(set), type = H5Dget_type(set);
	const H5T_class_t class = type >= 0 ? H5Tget_class(type) : H5T_NO_CLASS;
	if (space < 0 || H5Sget_simple_extent_ndims(space) != 2 ||
	    H5Sget_simple_extent_dims(space, dims, NULL) != 2)
		return fail(h, RV_ERR_FORMAT, name, "is not a table of rows and columns");
	if (class != H5T_FLOAT && class != H5T_INTEGER)
		return fail(h, RV_ERR_FORMAT, name, "does not hold numbers");
	const size_t size = H5Tget_size(type);
	if (dims[0] < 1 || dims[0] > INT32_MAX || dims[1] < 1 || dims[1] > MAX_DIM || size < 1 ||
	    dims[1] > (uint64_t)file_bytes * DEFLATE_MAX_RATIO / size / dims[0])
		return fail(h, RV_ERR_FORMAT, name, "has more numbers than the file can, or none");
	*rows = (int64_t)dims[0];
	*columns = (int64_t)dims[1];
	return 1;
}

static int read_metric(hid_t file, handed *h) {
	char fixed[64] = "", *text = NULL;
	const hid_t attr = H5Aexists(file, "distance") > 0 ? H5Aopen(file, "distance", H5P_DEFAULT)
	                                                   : H5I_INVALID_HID;
	const hid_t type = attr >= 0 ? H5Aget_type(attr) : H5I_INVALID_HID;
	if (type < 0 || H5Tget_class(type) != H5T_STRING)
		return fail(h, RV_ERR_FORMAT, "attribute distance", "is not there, or no text");
	if (H5Tis_variable_str(type) > 0) {
		if (H5Aread(attr, type, &text) >= 0 && text)
			snprintf(fixed, sizeof fixed, "%.63s", text);
	} else if (H5Tget_size(type) < sizeof fixed) {
		H5Aread(attr, type, fixed);
	}
	for (rv_metric metric = 0; metric < RV_METRIC_COUNT; metric++)
		if (strcmp(fixed, distance_names[metric]) == 0) {
			h->metric = (int32_t)metric;
			return 1;
		}
	return fail(h, RV_ERR_UNSUPPORTED, "distance is not angular, euclidean or dot, but", fixed);
}

static int describe(hid_t file, int64_t file_bytes, handed *h) {
	int64_t dim, columns, rows, k[2] = {0, 0};
	int *const has[2] = {&h->has_neighbors, &h->has_distances};
	static const char *const truths[2] = {"neighbors", "distances"};
	if (!look_at(file, "train", file_bytes, &h->n_train, &dim, h) ||
	    !look_at(file, "test", file_bytes, &h->n_test, &columns, h) || !read_metric(file, h))
		return 0;
	h->dim = (int32_t)dim;
	if (columns != dim)
		return fail(h, RV_ERR_FORMAT, "test", "has another dimension than train");
	for (int i = 0; i < 2; i++) {
		if (H5Lexists(file, truths[i], H5P_DEFAULT) <= 0)
			continue;
		if (!look_at(file, truths[i], file_bytes, &rows, &k[i], h))
			return 0;
		if (rows != h->n_test)
			return fail(h, RV_ERR_FORMAT, truths[i], "has not one row a query");
		*has[i] = 1;
	}
	if (h->has_neighbors && h->has_distances && k[0] != k[1])
		return fail(h, RV_ERR_FORMAT, "distances", "has other columns than neighbors");
	h->k = k[0] > 0 ? k[0] : k[1];
	return 1;
}

static int read_parts(hid_t file, uint8_t *region, handed *h) {
	part parts[N_PARTS];
	layout(h, parts);
	for (int i = 0; i < N_PARTS; i++) {
		if (!parts[i].rows)
			continue;
		const hid_t set = H5Dopen2(file, parts[i].name, H5P_DEFAULT);
		if (set < 0 || H5Dread(set, parts[i].type, H5S_ALL, H5S_ALL, H5P_DEFAULT,
		                       region + parts[i].at) < 0)
			return fail(h, RV_ERR_FORMAT, parts[i].name, "cannot be read");
	}
	return 1;
}

/* Everything into the memory file; whatever libhdf5 does meanwhile ends with this process. */
static void child(const char *path, int fd) {
	handed h = {0};
	struct stat st;
	alarm(READ_LIMIT_S);
	H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
	const hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
	if (file < 0 || stat(path, &st) != 0)
		fail(&h, RV_ERR_FORMAT, "not an HDF5 file", "libhdf5 does not open it");
	else if (describe(file, (int64_t)st.st_size, &h)) {
		const size_t bytes = region_bytes(&h);
		uint8_t *region = MAP_FAILED;
		if (ftruncate(fd, (off_t)bytes) == 0)
			region = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (region == MAP_FAILED)
			fail(&h, RV_ERR_NO_MEMORY, "its numbers", "do not fit into memory");
		else
			read_parts(file, region, &h);
	}
	const int whole = pwrite(fd, &h, sizeof h, 0) == (ssize_t)sizeof h;
	_exit(whole ? 0 : 1);
}

/* ---- in the parent ---- */

static rv_status check_values(const char *path, const rv_ann_data *d) {
	for (int64_t i = 0; d->neighbors && i < d->n_test * d->k; i++)
		if (d->neighbors[i] < 0 || d->neighbors[i] >= d->n_train)
			return rv_fail(RV_ERR_FORMAT, "%s: neighbors: query %lld has row %d of %lld",
			               path, (long long)(i / d->k), d->neighbors[i],
			               (long long)d->n_train);
	for (int64_t i = 0; d->distances && i < d->n_test * d->k; i++)
		if (!isfinite(d->distances[i]) || (i % d->k && d->distances[i] < d->distances[i - 1]))
			return rv_fail(RV_ERR_FORMAT,
			               "%s: distances: those of query %lld do not ascend", path,
			               (long long)(i / d->k));
	return RV_OK;
}

static rv_status take_over(rv_ann_data *out, const char *path, int fd) {
	handed h;
	struct stat st;
	part parts[N_PARTS];
	if (pread(fd, &h, sizeof h, 0) != (ssize_t)sizeof h || fstat(fd, &st) != 0)
		return rv_fail(RV_ERR_FORMAT, "%s: not an HDF5 file that can be read", path);
	h.message[sizeof h.message - 1] = 0;
	if (h.status != RV_OK)
		return rv_fail(h.status > 0 && h.status < RV_STATUS_COUNT ? (rv_status)h.status
		                                                          : RV_ERR_FORMAT,
		               "%s: %s", path, h.message);
	const size_t bytes = region_bytes(&h);
	if ((size_t)st.st_size != bytes)
		return rv_fail(RV_ERR_IO, "%s: was not read whole", path);
	uint8_t *region = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (region == MAP_FAILED)
		return rv_fail_errno(RV_ERR_NO_MEMORY, "%s", path);
	layout(&h, parts);
	rv_ann_data d = {.metric = (rv_metric)h.metric,
	                 .dim = h.dim,
	                 .n_train = h.n_train,
	                 .n_test = h.n_test,
	                 .k = h.k,
	                 .train = (const float *)(const void *)(region + parts[TRAIN].at),
	                 .test = (const float *)(const void *)(region + parts[TEST].at),
	                 .region = region,
	                 .region_bytes = bytes};
	if (h.has_neighbors)
		d.neighbors = (const int32_t *)(const void *)(region + parts[NEIGHBORS].at);
	if (h.has_distances)
		d.distances = (const float *)(const void *)(region + parts[DISTANCES].at);
	const rv_status status = check_values(path, &d);
	if (status == RV_OK)
		*out = d;
	else
		rv_ann_data_free(&d);
	return status;
}

rv_status rv_ann_data_read(rv_ann_data *out, const char *path) {
	int how = 0;
	struct stat st;
	*out = (rv_ann_data){0};
	if (stat(path, &st) != 0)
		return rv_fail_errno(errno == ENOENT ? RV_ERR_NOT_FOUND : RV_ERR_IO, "%s: cannot open",
		                     path);
	if (!S_ISREG(st.st_mode))
		return rv_fail(RV_ERR_INVALID, "%s: is not a regular file", path);
	const int fd = memfd_create("ann", MFD_CLOEXEC);
	if (fd < 0)
		return rv_fail_errno(RV_ERR_IO, "%s: no memory file", path);
	fflush(NULL);
	const pid_t pid = fork();
	if (pid == 0)
		child(path, fd);
	while (pid > 0 && waitpid(pid, &how, 0) < 0 && errno == EINTR)
		continue;
	rv_status status;
	if (pid < 0)
		status = rv_fail_errno(RV_ERR_IO, "%s: reading", path);
	else if (!WIFEXITED(how) || WEXITSTATUS(how) != 0)
		status = rv_fail(RV_ERR_FORMAT,
		                 "%s: damaged: libhdf5 crashed or did not come to an end on it", path);
	else
		status = take_over(out, path, fd);
	close(fd);
	return status;
}

void rv_ann_data_free(rv_ann_data *data) {
	if (data->region)
		munmap(data->region, data->region_bytes);
	*data = (rv_ann_data){0};
}
