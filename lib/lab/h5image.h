/* HDF5 files built in memory and written whole (libhdf5 1.10 crashes at exit when a write of its own
 * failed), and attributes in them.. */
#ifndef RV_LAB_H5IMAGE_H
#define RV_LAB_H5IMAGE_H

#include "base/status.h"

#include <hdf5.h>

typedef rv_status rv_h5_fill_fn(void *user, hid_t file);

/* fill() writes the contents; the file then replaces `path` (temporary file, sync, rename). libhdf5
 * prints nothing meanwhile. */
rv_status rv_h5_write_file(const char *path, rv_h5_fill_fn *fill, void *user);

rv_status rv_h5_failed(const char *what); /* RV_ERR_IO "HDF5: writing <what> failed" */
/* A scalar attribute. */
rv_status rv_h5_attribute(hid_t object, const char *name, hid_t type, const void *value);

#endif
