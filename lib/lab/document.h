/* A document of headings, paragraphs, tables and pictures, written as Markdown or HTML. All text is
 * plain UTF-8 and escaped as the format asks. After a failure further calls do nothing and the first
 * failure is returned by rv_document_close. */
#ifndef RV_LAB_DOCUMENT_H
#define RV_LAB_DOCUMENT_H

#include "base/status.h"

typedef struct rv_document rv_document;

/* The file appears under its name at close. */
rv_status rv_document_open(rv_document **out, const char *path, int html, const char *title);
rv_status rv_document_close(rv_document *doc); /* frees doc, also on failure */

void rv_document_heading(rv_document *doc, int level, const char *text);
void rv_document_text(rv_document *doc, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void rv_document_code(rv_document *doc, const char *text);

/* Columns, then cells row by row; a cell of a column whose title starts with '>' is set to the right
 * (the
 * '>' is not shown). */
void rv_document_table(rv_document *doc, const char *const *titles, int n_columns);
void rv_document_cell(rv_document *doc, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void rv_document_table_end(rv_document *doc);

/* svg: the picture's file, embedded in HTML; link: its path relative to the document, for Markdown. */
void rv_document_picture(rv_document *doc, const char *svg, const char *link, const char *alt);

#endif
