#include "lab/h5image.h"

#include "base/file.h"
#include "base/mem.h"

rv_status rv_h5_failed(const char *what) {
	return rv_fail(RV_ERR_IO, "HDF5: writing %s failed", what);
}

rv_status rv_h5_attribute(hid_t object, const char *name, hid_t type, const void *value) {
	hid_t space = H5Screate(H5S_SCALAR);
	hid_t attr = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
	int ok = attr >= 0 && H5Awrite(attr, type, value) >= 0;
	if (attr >= 0)
		H5Aclose(attr);
	if (space >= 0)
		H5Sclose(space);
	return ok ? RV_OK : rv_h5_failed(name);
}

/* The file as libhdf5 leaves it, in rv_free'd memory. */
static rv_status take_image(hid_t file, const char *path, char **image, size_t *size) {
	ssize_t n = H5Fflush(file, H5F_SCOPE_GLOBAL) >= 0 ? H5Fget_file_image(file, NULL, 0) : -1;
	if (n <= 0)
		return rv_fail(RV_ERR_IO, "%s: HDF5 gives no file image", path);
	char *data = NULL;
	RV_TRY(RV_ALLOC(&data, n, "HDF5 file"));
	if (H5Fget_file_image(file, data, (size_t)n) != n) {
		rv_free(data);
		return rv_fail(RV_ERR_IO, "%s: HDF5 gives no file image", path);
	}
	*image = data;
	*size = (size_t)n;
	return RV_OK;
}

static rv_status build_image(const char *path, rv_h5_fill_fn *fill, void *user, char **image,
                             size_t *size) {
	hid_t access = H5Pcreate(H5P_FILE_ACCESS), file = H5I_INVALID_HID;
	if (access >= 0 && H5Pset_fapl_core(access, (size_t)1 << 20, 0) >= 0)
		file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access);
	if (access >= 0)
		H5Pclose(access);
	if (file < 0)
		return rv_fail(RV_ERR_IO, "%s: cannot create HDF5 file", path);
	rv_status status = fill(user, file);
	if (status == RV_OK)
		status = take_image(file, path, image, size);
	H5Fclose(file);
	return status;
}

rv_status rv_h5_write_file(const char *path, rv_h5_fill_fn *fill, void *user) {
	char *image = NULL;
	size_t size = 0;
	/* libhdf5 prints its errors by default: they become ours instead */
	H5E_auto2_t print = NULL;
	void *print_data = NULL;
	H5Eget_auto2(H5E_DEFAULT, &print, &print_data);
	H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
	rv_status status = build_image(path, fill, user, &image, &size);
	H5Eset_auto2(H5E_DEFAULT, print, print_data);
	if (status == RV_OK)
		status = rv_file_write(path, image, size);
	rv_free(image);
	return status;
}
