# RuvLTRA lab. `make help` lists the targets.
#
#   VARIANT=release|debug|asan|ubsan|tsan|coverage   (default release; others build under build/VARIANT)
#   CC=gcc|clang   V=1 shows commands   WERROR=1 turns warnings into errors

VARIANT ?= release
ifeq ($(VARIANT),release)
B ?= build
else
B ?= build/$(VARIANT)
endif
ifeq ($(origin CC),default)
CC := gcc
endif
Q := $(if $(V),,@)
ARCH := $(shell $(CC) -dumpmachine | cut -d- -f1)

OPT_release := -O2 -DNDEBUG
OPT_debug := -O0
OPT_asan := -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
OPT_ubsan := -O1 -fsanitize=undefined -fno-sanitize-recover=all
OPT_tsan := -O1 -fsanitize=thread
OPT_coverage := -O0 --coverage
OPT := $(OPT_$(VARIANT))
ifeq ($(OPT),)
$(error VARIANT=$(VARIANT): expected release, debug, asan, ubsan, tsan or coverage)
endif

# -ffp-contract=off: the compiler must not fuse or split a sum by itself (invariance contract).
CFLAGS_ALL = -std=gnu11 -g $(OPT) -fPIC -fvisibility=default -ffp-contract=off -fno-math-errno \
	-Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
	$(if $(WERROR),-Werror) $(CFLAGS)
PKGS := jansson hwloc libutf8proc libsodium zlib sqlite3
LAB_PKGS := hdf5 gsl libseccomp
# Recursive on purpose: asked only when a recipe runs, after the packages are there.
CPPFLAGS_ALL = -I. -Ilib -D_GNU_SOURCE $(shell pkg-config --cflags $(PKGS) $(LAB_PKGS)) $(CPPFLAGS)
LIBS = $(shell pkg-config --libs $(PKGS)) -lopenblas -lm -lpthread
LAB_LIBS = $(shell pkg-config --libs $(LAB_PKGS)) $(if $(wildcard /usr/lib/*/hdf5/serial),-lhdf5_hl)

# ---- sources: a folder is a room; lower rooms come later in link order ----
ROOMS := cli lab eval learn memory engine model base
KERNEL_SRCS := $(wildcard kernels/*.c kernels/ref/*.c)
ifneq ($(filter x86_64,$(ARCH)),)
KERNEL_SRCS += $(wildcard kernels/x86/*.c)
endif
ifneq ($(filter aarch64,$(ARCH)),)
KERNEL_SRCS += $(wildcard kernels/arm/*.c)
endif

obj = $(patsubst %.c,$(B)/obj/%.o,$(1))
room_srcs = $(filter-out lib/cli/main.c,$(wildcard lib/$(1)/*.c))
room_lib = $(B)/lib/$(1).a
KERNEL_LIB := $(B)/lib/kernels.a
ALL_ROOM_LIBS := $(foreach r,$(ROOMS),$(call room_lib,$(r)))

# Each feature level has its own files and its own flags.
LEVEL_FLAGS = $(if $(filter %_avx2.c,$(1)),-mavx2 -mfma -mf16c -mbmi2) \
	$(if $(filter %_avx512.c,$(1)),-mavx2 -mfma -mf16c -mbmi2 -mavx512f -mavx512bw -mavx512dq -mavx512vl) \
	$(if $(filter %_vnni.c,$(1)),-mavx2 -mfma -mf16c -mbmi2 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni) \
	$(if $(filter %_dotprod.c,$(1)),-march=armv8.2-a+dotprod) \
	$(if $(filter %_i8mm.c,$(1)),-march=armv8.2-a+dotprod+i8mm) \
	$(if $(filter kernels/ref/%,$(1)),-fno-tree-vectorize)

.PHONY: all
all: $(B)/bin/ruvltra experiments-build ## build everything

.PHONY: experiments-build
EXPERIMENTS := $(patsubst experiments/%.c,%,$(wildcard experiments/exp_*.c))
experiments-build: $(EXPERIMENTS:%=$(B)/bin/%)

$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC      $<")
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(call LEVEL_FLAGS,$<) -MMD -MP -c $< -o $@

define ROOM_RULE
$(call room_lib,$(1)): $(call obj,$(call room_srcs,$(1)))
	@mkdir -p $$(@D)
	$(Q)rm -f $$@ && ar rcs $$@ $$^
endef
$(foreach r,$(ROOMS),$(eval $(call ROOM_RULE,$(r))))
$(KERNEL_LIB): $(call obj,$(KERNEL_SRCS))
	@mkdir -p $(@D)
	$(Q)rm -f $@ && ar rcs $@ $^

$(B)/bin/ruvltra: $(call obj,lib/cli/main.c) $(ALL_ROOM_LIBS) $(KERNEL_LIB)
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LD      $@")
	$(Q)$(CC) $(OPT) $(LDFLAGS) -o $@ $(call obj,lib/cli/main.c) $(ALL_ROOM_LIBS) $(KERNEL_LIB) $(LAB_LIBS) $(LIBS)
$(B)/bin/exp_%: $(B)/obj/experiments/exp_%.o $(ALL_ROOM_LIBS) $(KERNEL_LIB)
	@mkdir -p $(@D)
	$(Q)$(CC) $(OPT) $(LDFLAGS) -o $@ $< $(ALL_ROOM_LIBS) $(KERNEL_LIB) $(LAB_LIBS) $(LIBS)

# ---- tests: tests/<room>/test_*.c links its room and the rooms below, nothing above ----
below_kernels :=
below_base := base
below_model := model base
below_engine := engine model base
below_memory := memory engine model base
below_learn := learn memory engine model base
below_eval := eval learn memory engine model base
below_lab := lab eval learn memory engine model base
below_cli := $(ROOMS)
TEST_SRCS := $(wildcard tests/*/test_*.c)
TESTS := $(TEST_SRCS:%.c=$(B)/%)

define TEST_RULE
$(B)/tests/$(1)/%: $(B)/obj/tests/$(1)/%.o $(foreach r,$(below_$(1)),$(call room_lib,$(r))) $(KERNEL_LIB)
	@mkdir -p $$(@D)
	$(Q)$(CC) $(OPT) $(LDFLAGS) $$(TEST_LDFLAGS_$$*) -o $$@ $$(filter %.o,$$^) $$(filter %.a,$$^) -lcmocka $(if $(filter kernels,$(1)),-lm,$(if $(filter lab eval cli,$(1)),$$(LAB_LIBS)) $$(LIBS))
endef
$(foreach r,kernels $(ROOMS),$(eval $(call TEST_RULE,$(r))))
.PRECIOUS: $(B)/obj/%.o

.PHONY: tests-build
tests-build: $(TESTS)

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
