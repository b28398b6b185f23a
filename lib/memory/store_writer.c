/* The writer thread: what waits becomes one transaction, each write a savepoint in it. */
#include "base/mem.h"
#include "memory/store_internal.h"

#include <stdio.h>
#include <string.h>

#define MAX_GROUP 1024 /* writes of one transaction */

/* The calling thread's message, kept with the job that failed. */
static void keep_failure(rv_store_job *job, rv_status status) {
	char *message = NULL;
	if (rv_strdup(&message, rv_error_message()) != RV_OK)
		message = NULL; /* the status alone then */
	rv_free(job->message);
	job->status = status;
	job->message = message;
}

static rv_status run_one(rv_db *db, rv_store_job *job) {
	RV_TRY(rv_db_run(db, "(transaction)", "SAVEPOINT one", NULL, 0));
	rv_status st = job->write(job->user, db);
	if (st != RV_OK)
		keep_failure(job, st);
	/* a full disk or a failed read may have undone the whole transaction already */
	if (sqlite3_get_autocommit(db->sqlite))
		return st != RV_OK ? st : rv_fail(RV_ERR_IO, "%s: transaction undone", db->path);
	if (st != RV_OK)
		RV_TRY(rv_db_run(db, "(transaction)", "ROLLBACK TO one", NULL, 0));
	return rv_db_run(db, "(transaction)", "RELEASE one", NULL, 0);
}

static rv_status commit_group(rv_db *db, rv_store_job *group) {
	RV_TRY(rv_db_run(db, "(transaction)", "BEGIN IMMEDIATE", NULL, 0));
	rv_status st = RV_OK;
	for (rv_store_job *job = group; job != NULL && st == RV_OK; job = job->next)
		st = run_one(db, job);
	if (st == RV_OK)
		st = rv_db_run(db, "(transaction)", "COMMIT", NULL, 0);
	return st;
}

static void write_group(rv_db *db, rv_store_job *group) {
	rv_status st = commit_group(db, group);
	if (st == RV_OK)
		return;
	char message[RV_ERROR_MESSAGE_MAX];
	snprintf(message, sizeof message, "%s", rv_error_message());
	if (!sqlite3_get_autocommit(db->sqlite))
		sqlite3_exec(db->sqlite, "ROLLBACK", NULL, NULL, NULL);
	for (rv_store_job *job = group; job != NULL; job = job->next)
		if (job->status == RV_OK) {
			rv_fail(st, "%s", message);
			keep_failure(job, st);
		}
}

static void restore_failure(const rv_store_job *job) {
	if (job->status != RV_OK)
		rv_fail(job->status, "%s", job->message ? job->message : rv_status_text(job->status));
}

/* Takes up to MAX_GROUP jobs off the queue; NULL: stopped and empty. */
static rv_store_job *take_group(rv_store_writer *w) {
	pthread_mutex_lock(&w->lock);
	while (w->head == NULL && !w->stopping)
		pthread_cond_wait(&w->work, &w->lock);
	rv_store_job *group = w->head, *last = NULL;
	for (int n = 0; w->head != NULL && n < MAX_GROUP; n++) {
		last = w->head;
		w->head = w->head->next;
		w->n_queued--;
	}
	if (w->head == NULL)
		w->tail = NULL;
	if (last != NULL)
		last->next = NULL;
	pthread_cond_broadcast(&w->room);
	pthread_mutex_unlock(&w->lock);
	return group;
}

static void finish_group(rv_store_writer *w, rv_store_job *group) {
	for (rv_store_job *job = group; job != NULL; job = job->next) {
		restore_failure(job);
		if (job->done != NULL)
			job->done(job->user, job->status);
	}
	pthread_mutex_lock(&w->lock);
	w->n_commits++;
	for (rv_store_job *job = group, *next; job != NULL; job = next) {
		next = job->next;
		w->n_writes++;
		w->n_failed += job->status != RV_OK;
		if (!job->posted) {
			job->finished = 1; /* gone as soon as its caller sees this */
			continue;
		}
		if (job->status != RV_OK && w->posted_status == RV_OK) {
			w->posted_status = job->status;
			snprintf(w->posted_message, sizeof w->posted_message, "%s",
			         job->message ? job->message : rv_status_text(job->status));
		}
		rv_free(job->message);
		rv_free(job);
	}
	pthread_cond_broadcast(&w->finished);
	pthread_mutex_unlock(&w->lock);
}

static void *writer_main(void *arg) {
	rv_store_writer *w = arg;
	for (rv_store_job *group; (group = take_group(w)) != NULL;) {
		write_group(w->db, group);
		finish_group(w, group);
	}
	return NULL;
}

rv_status rv_store_writer_start(rv_store_writer *w, rv_db *db, int64_t capacity) {
	w->db = db;
	w->capacity = capacity;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->work, NULL);
	pthread_cond_init(&w->room, NULL);
	pthread_cond_init(&w->finished, NULL);
	int rc = pthread_create(&w->thread, NULL, writer_main, w);
	if (rc != 0)
		return rv_fail(RV_ERR_LIMIT, "%s: starting the writer thread: %s", db->path,
		               strerror(rc));
	w->running = 1;
	return RV_OK;
}

void rv_store_writer_stop(rv_store_writer *w) {
	if (!w->running)
		return;
	pthread_mutex_lock(&w->lock);
	w->stopping = 1;
	pthread_cond_signal(&w->work);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->work);
	pthread_cond_destroy(&w->room);
	pthread_cond_destroy(&w->finished);
	w->running = 0;
}

/* Under the lock. */
static void enqueue(rv_store_writer *w, rv_store_job *job) {
	if (w->tail != NULL)
		w->tail->next = job;
	else
		w->head = job;
	w->tail = job;
	if (++w->n_queued > w->max_queued)
		w->max_queued = w->n_queued;
	pthread_cond_signal(&w->work);
}

static rv_status check_writable(const rv_store *store) {
	if (store->options.read_only)
		return rv_fail(RV_ERR_INVALID, "%s: the store is open for reading only", store->path);
	return RV_OK;
}

rv_status rv_store_write(rv_store *store, rv_store_write_fn *write, rv_store_done_fn *done,
                         void *user) {
	RV_TRY(check_writable(store));
	rv_store_writer *w = &store->writer;
	rv_store_job job = {.write = write, .done = done, .user = user};
	pthread_mutex_lock(&w->lock);
	while (w->n_queued >= w->capacity)
		pthread_cond_wait(&w->room, &w->lock);
	enqueue(w, &job);
	while (!job.finished)
		pthread_cond_wait(&w->finished, &w->lock);
	pthread_mutex_unlock(&w->lock);
	restore_failure(&job);
	rv_free(job.message);
	return job.status;
}

rv_status rv_store_post(rv_store *store, rv_store_write_fn *write, rv_store_done_fn *done, void *user) {
	RV_TRY(check_writable(store));
	rv_store_writer *w = &store->writer;
	rv_store_job *job = NULL;
	RV_TRY(RV_ALLOC(&job, 1, "queued write"));
	*job = (rv_store_job){.write = write, .done = done, .user = user, .posted = 1};
	pthread_mutex_lock(&w->lock);
	int full = w->n_queued >= w->capacity;
	if (!full)
		enqueue(w, job);
	pthread_mutex_unlock(&w->lock);
	if (!full)
		return RV_OK;
	rv_free(job);
	return rv_fail(RV_ERR_LIMIT, "%s: %lld writes wait already", store->path,
	               (long long)w->capacity);
}

static rv_status nothing(void *user, rv_db *db) {
	(void)user;
	(void)db;
	return RV_OK;
}

rv_status rv_store_flush(rv_store *store) {
	rv_store_writer *w = &store->writer;
	RV_TRY(rv_store_write(store, nothing, NULL, NULL)); /* the queue keeps its order */
	char message[RV_ERROR_MESSAGE_MAX];
	pthread_mutex_lock(&w->lock);
	rv_status st = w->posted_status;
	w->posted_status = RV_OK;
	memcpy(message, w->posted_message, sizeof message);
	pthread_mutex_unlock(&w->lock);
	return st == RV_OK ? RV_OK : rv_fail(st, "%s", message);
}
