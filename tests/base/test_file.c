/* Files: what is refused, what a writer leaves behind when any system call fails. */
#include "base_test.h"

#include "base/file.h"
#include "base/mem.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* ---- faults: the n-th call of one kind fails with an errno ---- */

typedef enum call { OPEN, READ, WRITE, FSYNC, RENAME, CLOSE, MMAP, HEAP, CALLS } call;
static struct {
	int at, on, error; /* on: from the n-th on */
	int calls;
} fault[CALLS];
static int short_io;   /* reads and writes move at most this many bytes; 0: all */
static int interrupts; /* this many calls are interrupted first */
static int live;       /* heap blocks */

static int faulty(call c) {
	int n = ++fault[c].calls;
	if (fault[c].at && (n == fault[c].at || (fault[c].on && n > fault[c].at))) {
		errno = fault[c].error;
		return 1;
	}
	if (interrupts && (c == READ || c == WRITE || c == FSYNC || c == OPEN)) {
		interrupts--;
		errno = EINTR;
		return 1;
	}
	return 0;
}

static void no_faults(void) {
	memset(fault, 0, sizeof fault);
	short_io = interrupts = 0;
}

static void fail_call(call c, int at, int on, int error) {
	no_faults();
	fault[c].at = at;
	fault[c].on = on;
	fault[c].error = error;
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, mode_t mode);
ssize_t __real_read(int fd, void *data, size_t size);
ssize_t __wrap_read(int fd, void *data, size_t size);
ssize_t __real_write(int fd, const void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size);
int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int __real_close(int fd);
int __wrap_close(int fd);
void *__real_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void __real_free(void *ptr);
void __wrap_free(void *ptr);

int __wrap_open(const char *path, int flags, mode_t mode) {
	return faulty(OPEN) ? -1 : __real_open(path, flags, mode);
}
ssize_t __wrap_read(int fd, void *data, size_t size) {
	if (faulty(READ))
		return -1;
	return __real_read(fd, data, short_io && size > (size_t)short_io ? (size_t)short_io : size);
}
ssize_t __wrap_write(int fd, const void *data, size_t size) {
	if (faulty(WRITE))
		return -1;
	return __real_write(fd, data, short_io && size > (size_t)short_io ? (size_t)short_io : size);
}
int __wrap_fsync(int fd) {
	return faulty(FSYNC) ? -1 : __real_fsync(fd);
}
int __wrap_rename(const char *from, const char *to) {
	return faulty(RENAME) ? -1 : __real_rename(from, to);
}
int __wrap_close(int fd) {
	int result = __real_close(fd); /* Linux closes even when it reports an error */
	return faulty(CLOSE) ? -1 : result;
}
void *__wrap_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset) {
	return faulty(MMAP) ? MAP_FAILED : __real_mmap(at, size, prot, flags, fd, offset);
}
void *__wrap_aligned_alloc(size_t alignment, size_t size) {
	void *p = faulty(HEAP) ? NULL : __real_aligned_alloc(alignment, size);
	live += p != NULL;
	return p;
}
void __wrap_free(void *ptr) {
	/* realpath's block comes from malloc, so only a balance over whole calls means anything. */
	live -= ptr != NULL;
	__real_free(ptr);
}

static temp_dir dir;

static int setup(void **state) {
	(void)state;
	no_faults();
	temp_dir_make(&dir);
	return 0;
}

static int teardown(void **state) {
	(void)state;
	no_faults();
	remove_tree(dir.path);
	return 0;
}

/* ---- maps ---- */

static void maps_a_regular_file(void **state) {
	(void)state;
	rv_map map, empty;
	int fds = open_fds();
	spit(temp_path(&dir, "f"), "content");
	spit(temp_path(&dir, "empty"), "");
	assert_ok(rv_map_open(&map, temp_path(&dir, "f")));
	assert_int_equal(map.size, 7);
	assert_memory_equal(map.data, "content", 7);
	assert_ok(rv_map_check(&map));
	assert_ok(rv_map_open(&empty, temp_path(&dir, "empty")));
	assert_int_equal(empty.size, 0);
	assert_null(empty.data);
	assert_ok(rv_map_check(&empty));
	rv_map_close(&empty);
	rv_map_close(&map);
	rv_map_close(&map);
	rv_map zeroed = {0};
	rv_map_close(&zeroed); /* must not close descriptor 0 */
	assert_true(fcntl(0, F_GETFD) >= 0 || open_fds() == fds);
	assert_int_equal(open_fds(), fds);
	assert_int_equal(rv_map_check(&zeroed), RV_ERR_INVALID);
}

static void a_changed_file_is_noticed(void **state) {
	(void)state;
	rv_map map;
	const char *path = temp_path(&dir, "f");
	spit(path, "0123456789");
	assert_ok(rv_map_open(&map, path));
	assert_int_equal(truncate(path, 4), 0);
	assert_fails(rv_map_check(&map), RV_ERR_IO, "was 10 bytes when opened, is 4 now");
	rv_map_close(&map);
	assert_ok(rv_map_open(&map, path));
	struct timespec times[2] = {{1, 0}, {1, 0}};
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
	assert_fails(rv_map_check(&map), RV_ERR_IO, "changed");
	rv_map_close(&map);
}

static void what_is_no_file_is_refused(void **state) {
	(void)state;
	char hex[65];
	rv_map map;
	int fds = open_fds();
	assert_int_equal(mkfifo(temp_path(&dir, "fifo"), 0600), 0);
	assert_int_equal(symlink("loop", temp_path(&dir, "loop")), 0);
	assert_int_equal(symlink("nowhere", temp_path(&dir, "dangling")), 0);
	const struct {
		const char *name, *part;
		rv_status status;
	} rows[] = {
	        {"missing", "missing: cannot open", RV_ERR_NOT_FOUND},
	        {"dangling", "dangling: cannot open", RV_ERR_NOT_FOUND},
	        {"loop", "loop: cannot open", RV_ERR_IO},
	        {"fifo", "fifo: is a FIFO", RV_ERR_INVALID},
	        {"", "is a directory", RV_ERR_INVALID},
	};
	alarm(10); /* a FIFO must not be waited for */
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const char *path = temp_path(&dir, rows[i].name);
		assert_fails(rv_map_open(&map, path), rows[i].status, rows[i].part);
		assert_null(map.data);
		assert_null(map.path);
		assert_fails(rv_file_sha256(path, hex), rows[i].status, rows[i].part);
	}
	alarm(0);
	assert_fails(rv_map_open(&map, "/dev/zero"), RV_ERR_INVALID, "is a device");
	assert_fails(rv_map_open(&map, ""), RV_ERR_NOT_FOUND, "cannot open");
	assert_int_equal(open_fds(), fds);
}

static void map_faults(void **state) {
	(void)state;
	static const struct {
		call c;
		int error;
		rv_status status;
	} rows[] = {
	        {OPEN, EMFILE, RV_ERR_IO},
	        {MMAP, ENOMEM, RV_ERR_NO_MEMORY},
	        {MMAP, ENODEV, RV_ERR_IO},
	        {HEAP, 0, RV_ERR_NO_MEMORY},
	};
	const char *path = temp_path(&dir, "f");
	rv_map map;
	spit(path, "content");
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		int fds = open_fds();
		fail_call(rows[i].c, 1, 0, rows[i].error);
		rv_status status = rv_map_open(&map, path);
		no_faults();
		assert_int_equal(status, rows[i].status);
		assert_null(map.path);
		assert_int_equal(open_fds(), fds);
	}
	interrupts = 1;
	assert_ok(rv_map_open(&map, path));
	no_faults();
	rv_map_close(&map);
}

/* ---- whole files ---- */

static void reads_whole_files(void **state) {
	(void)state;
	static const size_t sizes[] = {0,      1, 4096, (256 << 10) - 1, 256 << 10, (256 << 10) + 1,
	                               3000000};
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		size_t n = sizes[i], size;
		char *want = malloc(n + 1), *data;
		assert_non_null(want);
		for (size_t k = 0; k < n; k++)
			want[k] = (char)(k * 31 + (k >> 8));
		const char *path = temp_path(&dir, "f");
		assert_ok(rv_file_write(path, want, n));
		short_io = i % 2 ? 10007 : 0;
		interrupts = 3;
		assert_ok(rv_file_read(path, n, &data, &size));
		no_faults();
		assert_int_equal(size, n);
		assert_memory_equal(data, want, n);
		assert_int_equal(data[n], 0);
		rv_free(data);
		if (n) {
			assert_fails(rv_file_read(path, n - 1, &data, &size), RV_ERR_LIMIT, path);
			assert_null(data);
		}
		free(want);
	}
}

static void read_is_bounded(void **state) {
	(void)state;
	char *data;
	size_t size;
	assert_fails(rv_file_read("/dev/zero", 1 << 20, &data, &size), RV_ERR_LIMIT, "/dev/zero");
	assert_fails(rv_file_read(dir.path, 100, &data, &size), RV_ERR_INVALID, "directory");
	assert_fails(rv_file_read(temp_path(&dir, "no"), 100, &data, &size), RV_ERR_NOT_FOUND,
	             "no: cannot open");
	assert_ok(rv_file_read("/proc/self/status", 1 << 20, &data, &size)); /* says it has 0 bytes */
	assert_true(size > 100);
	rv_free(data);
	const char *path = temp_path(&dir, "f");
	spit(path, "text");
	fail_call(READ, 1, 0, EIO);
	assert_fails(rv_file_read(path, 100, &data, &size), RV_ERR_IO, "cannot read");
	fail_call(HEAP, 1, 0, 0);
	assert_int_equal(rv_file_read(path, 100, &data, &size), RV_ERR_NO_MEMORY);
	assert_null(data);
}

static void reads_standard_input(void **state) {
	(void)state;
	int ends[2], saved = dup(0);
	char *data;
	size_t size;
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(write(ends[1], "piped", 5), 5);
	close(ends[1]);
	dup2(ends[0], 0);
	close(ends[0]);
	rv_status status = rv_file_read("-", 100, &data, &size);
	dup2(saved, 0);
	close(saved);
	assert_ok(status);
	assert_string_equal(data, "piped");
	rv_free(data);
}

/* ---- the writer ---- */

static void writes_and_replaces(void **state) {
	(void)state;
	char text[64];
	rv_writer *w;
	const char *path = temp_path(&dir, "f");
	assert_ok(rv_writer_open(&w, path));
	assert_ok(rv_writer_write(w, "abc", 3));
	assert_ok(rv_writer_pad(w, 8));
	assert_int_equal(rv_writer_tell(w), 8);
	assert_ok(rv_writer_pad(w, 8));
	assert_ok(rv_writer_pad(w, 0));
	assert_ok(rv_writer_write(w, "d", 1));
	assert_ok(rv_writer_write(w, NULL, 0));
	assert_string_equal(slurp(path, text, sizeof text),
	                    "(no file)"); /* nothing before the commit */
	assert_ok(rv_writer_commit(w));
	assert_int_equal(entries(dir.path), 1);
	slurp(path, text, sizeof text);
	assert_memory_equal(text, "abc\0\0\0\0\0d", 10);

	assert_ok(rv_writer_open(&w, path));
	assert_ok(rv_writer_write(w, "half", 4));
	rv_writer_abort(w);
	rv_writer_abort(NULL);
	assert_int_equal(entries(dir.path), 1);
	assert_memory_equal(slurp(path, text, sizeof text), "abc\0\0\0\0\0d", 10);
	assert_ok(rv_file_write(path, "new", 3));
	assert_string_equal(slurp(path, text, sizeof text), "new");
}

static void writes_through_any_buffering(void **state) {
	(void)state;
	rv_writer *w;
	const char *path = temp_path(&dir, "f");
	char *data, *piece = malloc(700000);
	size_t size, total = 0;
	assert_non_null(piece);
	short_io = 9973;
	interrupts = 20;
	assert_ok(rv_writer_open(&w, path));
	for (size_t n = 1; n < 700000; n = n * 3 + 7) {
		for (size_t i = 0; i < n; i++)
			piece[i] = (char)((total + i) % 251);
		assert_ok(rv_writer_write(w, piece, n));
		total += n;
		assert_int_equal(rv_writer_tell(w), total);
	}
	assert_ok(rv_writer_pad(w, 100003));
	assert_ok(rv_writer_commit(w));
	no_faults();
	assert_ok(rv_file_read(path, 1 << 24, &data, &size));
	assert_int_equal(size, (total + 100002) / 100003 * 100003);
	for (size_t i = 0; i < size; i++)
		assert_int_equal((unsigned char)data[i], i < total ? i % 251 : 0);
	rv_free(data);
	free(piece);
}

static void rights_and_links_are_kept(void **state) {
	(void)state;
	struct stat st;
	char text[64];
	char link[512], file[512];
	snprintf(file, sizeof file, "%s", temp_path(&dir, "real"));
	snprintf(link, sizeof link, "%s", temp_path(&dir, "link"));
	mode_t old = umask(027);
	assert_ok(rv_file_write(file, "one", 3));
	umask(old);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	assert_int_equal(chmod(file, 0604), 0);
	assert_int_equal(symlink("real", link), 0);
	assert_ok(rv_file_write(link, "two", 3));
	assert_int_equal(lstat(link, &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0604);
	assert_string_equal(slurp(file, text, sizeof text), "two");
	char longest[260];
	memset(longest, 'n', 255);
	longest[255] = '\0';
	assert_ok(rv_file_write(temp_path(&dir, longest), "x", 1));
}

static void special_files_are_written_straight(void **state) {
	(void)state;
	rv_writer *w;
	char text[64], name[64];
	int ends[2];
	assert_ok(rv_file_write("/dev/null", "gone", 4));
	assert_fails(rv_file_write("/dev/full", "x", 1), RV_ERR_IO, "/dev/full: cannot write");
	assert_int_equal(pipe(ends), 0);
	snprintf(name, sizeof name, "/dev/fd/%d", ends[1]);
	assert_ok(rv_file_write(name, "through", 7));
	assert_int_equal(read(ends[0], text, sizeof text), 7);
	assert_memory_equal(text, "through", 7);
	close(ends[0]);
	signal(SIGPIPE, SIG_IGN);
	assert_fails(rv_file_write(name, "x", 1), RV_ERR_IO, "Broken pipe");
	close(ends[1]);
	assert_int_equal(rv_writer_open(&w, "/dev/fd/999"), RV_ERR_IO);
	assert_null(w);
	/* A regular file behind a descriptor keeps its identity: others may be writing to it too. */
	int fd = __real_open(temp_path(&dir, "log"), O_CREAT | O_RDWR, 0600);
	assert_int_equal(write(fd, "first ", 6), 6);
	snprintf(name, sizeof name, "/dev/fd/%d", fd);
	assert_ok(rv_file_write(name, "second", 6));
	close(fd);
	assert_string_equal(slurp(temp_path(&dir, "log"), text, sizeof text), "first second");
}

static void bad_targets_are_refused_at_once(void **state) {
	(void)state;
	rv_writer *w = (rv_writer *)&w;
	assert_fails(rv_writer_open(&w, ""), RV_ERR_INVALID, "empty");
	assert_null(w);
	assert_fails(rv_writer_open(&w, dir.path), RV_ERR_INVALID, "is a directory");
	assert_fails(rv_writer_open(&w, temp_path(&dir, "no/such/f")), RV_ERR_NOT_FOUND, "no/such/f");
	spit(temp_path(&dir, "f"), "x");
	assert_fails(rv_writer_open(&w, temp_path(&dir, "f/g")), RV_ERR_NOT_FOUND, "f/g");
	assert_int_equal(entries(dir.path), 1);
}

/* Everything a program does to write a file; what it leaves behind is looked at by the caller. */
static rv_status write_big(const char *path) {
	static char data[600000];
	rv_writer *w;
	memset(data, 'n', sizeof data);
	RV_TRY(rv_writer_open(&w, path));
	for (int i = 0; i < 3; i++) {
		rv_status status = rv_writer_write(w, data, i ? sizeof data : 1000);
		if (status != RV_OK) {
			/* A second try must not succeed over the gap. */
			assert_int_equal(rv_writer_write(w, "x", 1), RV_ERR_IO);
			if (i == 1)
				return rv_writer_commit(w);
			rv_writer_abort(w);
			return status;
		}
	}
	return rv_writer_commit(w);
}

/* The old file, whole. */
static int is_old(const char *path) {
	char text[64];
	struct stat st;
	return stat(path, &st) == 0 && st.st_size == 3 &&
	       !strcmp(slurp(path, text, sizeof text), "old");
}

static void any_fault_leaves_the_old_file(void **state) {
	(void)state;
	static const struct {
		call c;
		int error;
		rv_status status;
	} rows[] = {
	        {OPEN, EMFILE, RV_ERR_IO},   {OPEN, EACCES, RV_ERR_IO},   {WRITE, ENOSPC, RV_ERR_IO},
	        {WRITE, EIO, RV_ERR_IO},     {WRITE, EDQUOT, RV_ERR_IO},  {FSYNC, EIO, RV_ERR_IO},
	        {FSYNC, ENOSPC, RV_ERR_IO},  {CLOSE, EIO, RV_ERR_IO},     {RENAME, EACCES, RV_ERR_IO},
	        {RENAME, ENOSPC, RV_ERR_IO}, {HEAP, 0, RV_ERR_NO_MEMORY},
	};
	const char *path = temp_path(&dir, "f");
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		int hit = 0;
		for (int n = 1;; n++) {
			spit(path, "old");
			int fds = open_fds(), before = live;
			fail_call(rows[i].c, n, 1, rows[i].error);
			rv_status status = write_big(path);
			no_faults();
			assert_int_equal(open_fds(), fds);
			assert_int_equal(entries(dir.path), 1);
			if (status == RV_OK)
				break;
			assert_true(before - live <= 1); /* realpath's */
			assert_int_equal(status, rows[i].status);
			/* Only the directory's sync comes after the rename. */
			if (!is_old(path))
				assert_non_null(
				        strstr(rv_error_message(), "though the file is written"));
			hit++;
		}
		assert_true(hit > 0); /* negative control: the fault did happen */
		assert_false(is_old(path));
	}
}

/* A real full file system, as far as one can be had without rights: RLIMIT_FSIZE. */
static void a_real_limit(void **state) {
	(void)state;
	const char *path = temp_path(&dir, "f");
	spit(path, "old");
	pid_t pid = fork();
	if (pid == 0) {
		struct rlimit limit = {100000, 100000};
		signal(SIGXFSZ, SIG_IGN);
		setrlimit(RLIMIT_FSIZE, &limit);
		rv_status status = write_big(path);
		_exit(status == RV_ERR_IO && strstr(rv_error_message(), "File too large") ? 0 : 1);
	}
	int status = 1;
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	assert_true(is_old(path));
	assert_int_equal(entries(dir.path), 1);
}

/* ---- the rest ---- */

static void closed_standard_streams(void **state) {
	(void)state;
	const char *path = temp_path(&dir, "f");
	spit(path, "text");
	pid_t pid = fork();
	if (pid == 0) {
		close(0), close(1), close(2);
		rv_map map;
		rv_writer *w;
		int ok = rv_map_open(&map, path) == RV_OK && map.fd > 2;
		ok &= rv_writer_open(&w, path) == RV_OK;
		ok &= write(1, "stray", 5) < 0; /* goes nowhere, not into our file */
		ok &= rv_writer_commit(w) == RV_OK;
		_exit(!ok);
	}
	int status = 1;
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	char text[64];
	assert_string_equal(slurp(path, text, sizeof text), "");
}

static void makes_directories(void **state) {
	(void)state;
	struct stat st;
	char deep[512];
	snprintf(deep, sizeof deep, "%s", temp_path(&dir, "a/b//c/"));
	assert_ok(rv_mkdirs(deep));
	assert_ok(rv_mkdirs(deep));
	assert_int_equal(stat(deep, &st), 0);
	assert_ok(rv_mkdirs("/"));
	assert_int_equal(rv_mkdirs(""), RV_ERR_INVALID);
	spit(temp_path(&dir, "f"), "x");
	assert_fails(rv_mkdirs(temp_path(&dir, "f")), RV_ERR_IO, "is not a directory");
	assert_fails(rv_mkdirs(temp_path(&dir, "f/g")), RV_ERR_IO, "f");
	assert_fails(rv_mkdirs("/proc/nowhere/x"), RV_ERR_IO, "/proc/nowhere: cannot create");
}

static void knows_the_same_file(void **state) {
	(void)state;
	char a[512], b[512];
	snprintf(a, sizeof a, "%s", temp_path(&dir, "a"));
	snprintf(b, sizeof b, "%s", temp_path(&dir, "b"));
	spit(a, "x");
	assert_int_equal(link(a, b), 0);
	assert_true(rv_file_same(a, b));
	assert_true(rv_file_same(a, a));
	assert_false(rv_file_same(a, temp_path(&dir, "none")));
	assert_false(rv_file_same(temp_path(&dir, "none"), temp_path(&dir, "none")));
	spit(temp_path(&dir, "c"), "x");
	assert_false(rv_file_same(a, temp_path(&dir, "c")));
}

static void checksums(void **state) {
	(void)state;
	char hex[65], other[65];
	rv_sha256_hex("abc", 3, hex);
	assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	rv_sha256_hex(NULL, 0, hex);
	assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	char *data = calloc(1, 700001);
	assert_non_null(data);
	assert_ok(rv_file_write(temp_path(&dir, "f"), data, 700001));
	rv_sha256_hex(data, 700001, hex);
	short_io = 4099;
	interrupts = 2;
	assert_ok(rv_file_sha256(temp_path(&dir, "f"), other));
	no_faults();
	assert_string_equal(hex, other);
	data[700000] = 1; /* negative control */
	rv_sha256_hex(data, 700001, hex);
	assert_string_not_equal(hex, other);
	free(data);
	fail_call(READ, 2, 0, EIO);
	assert_int_equal(rv_file_sha256(temp_path(&dir, "f"), other), RV_ERR_IO);
	no_faults();
	assert_int_equal(rv_crc32(0, "123456789", 9), 0xcbf43926u);
	assert_int_equal(rv_crc32(rv_crc32(0, "1234", 4), "56789", 5), 0xcbf43926u);
	assert_int_equal(rv_crc32(7, NULL, 0), 7);
}

static void nothing_leaks_over_many_rounds(void **state) {
	(void)state;
	int fds = open_fds(), rounds = SANITIZED ? 500 : 10000;
	const char *path = temp_path(&dir, "f");
	spit(path, "content");
	for (int i = 0; i < rounds; i++) {
		rv_map map;
		assert_ok(rv_map_open(&map, path));
		rv_map_close(&map);
		assert_int_equal(rv_map_open(&map, dir.path), RV_ERR_INVALID);
	}
	assert_int_equal(open_fds(), fds);
}

#define file_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
	const struct CMUnitTest tests[] = {
	        file_test(maps_a_regular_file),
	        file_test(a_changed_file_is_noticed),
	        file_test(what_is_no_file_is_refused),
	        file_test(map_faults),
	        file_test(reads_whole_files),
	        file_test(read_is_bounded),
	        file_test(reads_standard_input),
	        file_test(writes_and_replaces),
	        file_test(writes_through_any_buffering),
	        file_test(rights_and_links_are_kept),
	        file_test(special_files_are_written_straight),
	        file_test(bad_targets_are_refused_at_once),
	        file_test(any_fault_leaves_the_old_file),
	        file_test(a_real_limit),
	        file_test(closed_standard_streams),
	        file_test(makes_directories),
	        file_test(knows_the_same_file),
	        file_test(checksums),
	        file_test(nothing_leaks_over_many_rounds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
