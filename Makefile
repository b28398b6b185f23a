# RuvLTRA lab. `make help` lists the targets.
#
#   VARIANT=release|debug|asan|ubsan|tsan|coverage   (default release; others build under build/VARIANT)
#   CC=gcc|clang   CFLAGS= CPPFLAGS= LDFLAGS=   V=1 shows commands   WERROR=1 turns warnings into errors
#
# A changed flag rebuilds what it affects. Missing Debian packages are installed by scripts/setup.sh
# before the first compile.

VERSION := 0.1.0
VARIANT ?= release
ifeq ($(VARIANT),release)
B ?= build
else
B ?= build/$(VARIANT)
endif
ifeq ($(origin CC),default)
CC := gcc
endif
PREFIX ?= /usr/local
Q := $(if $(V),,@)
say = $(if $(V),,@echo "  $(1)")
ARCH := $(shell { $(CC) -dumpmachine || uname -m; } 2>/dev/null | cut -d- -f1)
# All processors unless -j says otherwise.
ifeq ($(filter -j% --jobserver%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(shell nproc)
endif

OPT_release := -O2 -DNDEBUG
OPT_debug := -O0
OPT_asan := -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
OPT_ubsan := -O1 -fsanitize=undefined -fno-sanitize-recover=all
OPT_tsan := -O1 -fsanitize=thread
OPT_coverage := -O0 --coverage
OPT_fuzz := -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
OPT := $(OPT_$(VARIANT))
ifeq ($(OPT),)
$(error VARIANT=$(VARIANT): expected release, debug, asan, ubsan, tsan, coverage or fuzz)
endif

# -ffp-contract=off: the compiler must not fuse or split a sum by itself (invariance contract).
CFLAGS_ALL = -std=gnu11 -g $(OPT) -fPIC -fvisibility=default -ffp-contract=off -fno-math-errno \
	-Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
	$(if $(WERROR),-Werror) $(CFLAGS)
PKGS := jansson hwloc libutf8proc libsodium zlib sqlite3
LAB_PKGS := hdf5 gsl libseccomp
# pkg-config is asked once, by the first recipe that needs an answer: the packages are there by then.
pkg = $(shell pkg-config $(1))
PKG_CFLAGS = $(eval PKG_CFLAGS := $$(call pkg,--cflags $(PKGS) $(LAB_PKGS)))$(PKG_CFLAGS)
PKG_LIBS = $(eval PKG_LIBS := $$(call pkg,--libs $(PKGS)))$(PKG_LIBS)
PKG_LAB_LIBS = $(eval PKG_LAB_LIBS := $$(call pkg,--libs $(LAB_PKGS)))$(PKG_LAB_LIBS)
CPPFLAGS_ALL = -I. -Ilib -D_GNU_SOURCE $(PKG_CFLAGS) $(CPPFLAGS)
LIBS = $(PKG_LIBS) -lm -lpthread
LAB_LIBS = $(PKG_LAB_LIBS) $(if $(wildcard /usr/lib/*/hdf5/serial),-lhdf5_hl)

# ---- sources: a folder is a room; lower rooms come later in link order ----
ROOMS := cli lab eval learn memory engine model base
CORE_ROOMS := learn memory engine model base
LAB_ROOMS := lab eval
KERNEL_SRCS := $(wildcard kernels/*.c kernels/ref/*.c kernels/quant/*.c)
ifneq ($(filter x86_64,$(ARCH)),)
KERNEL_SRCS += $(wildcard kernels/x86/*.c)
endif
ifneq ($(filter aarch64,$(ARCH)),)
KERNEL_SRCS += $(wildcard kernels/arm/*.c)
endif

obj = $(patsubst %.c,$(B)/obj/%.o,$(1))
room_srcs = $(filter-out lib/cli/main.c $(if $(filter x86_64,$(ARCH)),,lib/%_avx2.c lib/%_avx512.c lib/%_bf16.c),$(wildcard lib/$(1)/*.c))
room_lib = $(B)/lib/$(1).a
KERNEL_LIB := $(B)/lib/kernels.a
ALL_ROOM_LIBS := $(foreach r,$(ROOMS),$(call room_lib,$(r)))
CORE_OBJS := $(foreach r,$(CORE_ROOMS),$(call obj,$(call room_srcs,$(r)))) $(call obj,$(KERNEL_SRCS))
LAB_OBJS := $(foreach r,$(LAB_ROOMS),$(call obj,$(call room_srcs,$(r))))

# Each feature level has its own files and its own flags.
LEVEL_FLAGS = $(if $(filter %_avx2.c,$(1)),-mavx2 -mfma -mf16c -mbmi2) \
	$(if $(filter %_avx512.c,$(1)),-mavx2 -mfma -mf16c -mbmi2 -mavx512f -mavx512bw -mavx512dq -mavx512vl) \
	$(if $(filter %_vnni.c,$(1)),-mavx2 -mfma -mf16c -mbmi2 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni) \
	$(if $(filter %_dotprod.c,$(1)),-march=armv8.2-a+dotprod) \
	$(if $(filter %_i8mm.c,$(1)),-march=armv8.2-a+dotprod+i8mm) \
	$(if $(filter kernels/ref/%,$(1)),-fno-tree-vectorize) \
	$(if $(filter kernels/quant/%,$(1)),$(if $(filter release,$(VARIANT)),-O3)) \
	$(if $(filter %_bf16.c,$(1)),-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512bf16) \
	$(if $(filter lib/memory/codec_%,$(1)),$(if $(filter release,$(VARIANT)),-O3)) \
	$(if $(filter lib/learn/train_ops_%,$(1)),$(if $(filter release,$(VARIANT)),-O3 -ffp-contract=fast))

.PHONY: all
all: $(B)/bin/ruvltra $(B)/bin/corpus libs experiments-build ## build everything

.PHONY: FORCE
FORCE:

# ---- what a build depends on besides sources ----

.PHONY: packages
packages:
	@scripts/setup.sh --check $(if $(filter test asan ubsan tsan coverage fuzz,$(MAKECMDGOALS)),test,build)

# Rewritten only when a flag, the compiler or a library's flags change.
$(B)/gen/flags: FORCE | packages
	@mkdir -p $(@D)
	@printf '%s\n' '$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(LDFLAGS) $(LIBS) $(LAB_LIBS)' >$@.tmp
	@if cmp -s $@.tmp $@; then rm -f $@.tmp; else mv -f $@.tmp $@; fi

$(B)/gen/rv_build_gen.h: FORCE | packages
	@scripts/build-info.sh $@ '$(CC)' '$(filter-out -W%,$(CFLAGS_ALL)) $(CPPFLAGS)' '$(VERSION)'
$(B)/obj/lib/base/build_info.o: $(B)/gen/rv_build_gen.h
$(B)/obj/lib/base/build_info.o: EXTRA_CPPFLAGS = -I$(B)/gen

$(B)/obj/%.o: %.c $(B)/gen/flags
	@mkdir -p $(@D)
	$(call say,CC      $<)
	$(Q)$(CC) $(CPPFLAGS_ALL) $(EXTRA_CPPFLAGS) $(CFLAGS_ALL) $(call LEVEL_FLAGS,$<) -MMD -MP -c $< -o $@

# ---- libraries ----
# An archive depends on the list of its members too, so that a removed source leaves it.
define ARCHIVE_RULE
$(1).list: FORCE
	@mkdir -p $$(@D)
	@echo '$(2)' | cmp -s - $$@ || echo '$(2)' >$$@
$(1): $(2) $(1).list
	@mkdir -p $$(@D)
	$(Q)rm -f $$@ && ar rcs $$@ $$(filter %.o,$$^)
endef
$(foreach r,$(ROOMS),$(eval $(call ARCHIVE_RULE,$(call room_lib,$(r)),$(call obj,$(call room_srcs,$(r))))))
$(eval $(call ARCHIVE_RULE,$(KERNEL_LIB),$(call obj,$(KERNEL_SRCS))))
$(eval $(call ARCHIVE_RULE,$(B)/lib/libruvltra.a,$(CORE_OBJS)))
$(eval $(call ARCHIVE_RULE,$(B)/lib/libruvlab.a,$(LAB_OBJS)))

# libruvltra is for embedding: no GSL, no HDF5 (checked by tests/scripts/libraries.sh).
LIB_VERSION := $(firstword $(subst ., ,$(VERSION)))
SHARED = $(CC) -shared $(OPT) $(LDFLAGS) -Wl,-soname,$(notdir $@).$(LIB_VERSION) \
	-Wl,--version-script=scripts/libruvltra.map $(if $(findstring sanitize,$(OPT)),,-Wl,--no-undefined)
$(B)/lib/libruvltra.so: $(CORE_OBJS) $(B)/lib/libruvltra.a.list scripts/libruvltra.map
	$(call say,LD      $@)
	$(Q)$(SHARED) -o $@ $(CORE_OBJS) -Wl,--as-needed $(LIBS)
	@ln -sf $(@F) $@.$(LIB_VERSION)
$(B)/lib/libruvlab.so: $(LAB_OBJS) $(B)/lib/libruvlab.a.list $(B)/lib/libruvltra.so
	$(call say,LD      $@)
	$(Q)$(SHARED) -o $@ $(LAB_OBJS) -L$(B)/lib -lruvltra -Wl,--as-needed $(LAB_LIBS) $(LIBS)
	@ln -sf $(@F) $@.$(LIB_VERSION)

.PHONY: libs
libs: $(foreach l,libruvltra libruvlab,$(B)/lib/$(l).a $(B)/lib/$(l).so) ## the libraries, static and shared

# ---- programs ----
PROGRAM_LIBS = $(ALL_ROOM_LIBS) $(KERNEL_LIB)
$(B)/bin/ruvltra: $(call obj,lib/cli/main.c) $(PROGRAM_LIBS)
	@mkdir -p $(@D)
	$(call say,LD      $@)
	$(Q)$(CC) $(OPT) $(LDFLAGS) -o $@ $(filter %.o %.a,$^) $(LAB_LIBS) $(LIBS)

.PHONY: experiments-build
EXPERIMENTS := $(patsubst experiments/%.c,%,$(wildcard experiments/exp_*.c))
experiments-build: $(EXPERIMENTS:%=$(B)/bin/%) ## the experiment programs
$(B)/bin/exp_%: $(B)/obj/experiments/exp_%.o $(PROGRAM_LIBS)
	@mkdir -p $(@D)
	$(call say,LD      $@)
	$(Q)$(CC) $(OPT) $(LDFLAGS) -o $@ $(filter %.o %.a,$^) $(LAB_LIBS) $(LIBS)

# Writes the training text and the evaluation sets of datasets/.
$(B)/bin/corpus: $(call obj,$(wildcard datasets/corpus/*.c)) $(call room_lib,base)
	@mkdir -p $(@D)
	$(call say,LD      $@)
	$(Q)$(CC) $(OPT) $(LDFLAGS) -o $@ $(filter %.o %.a,$^) $(LIBS)

$(B)/bin/report: $(B)/obj/experiments/report.o $(PROGRAM_LIBS)
	@mkdir -p $(@D)
	$(call say,LD      $@)
	$(Q)$(CC) $(OPT) $(LDFLAGS) -o $@ $(filter %.o %.a,$^) $(LAB_LIBS) $(LIBS)

# Models made for experiments are cached by content; what they hold also depends on this code.
MODEL_CODE = lib/model/*.c lib/model/*.h kernels/*.c kernels/*.h kernels/*.def kernels/*/*.c
$(B)/gen/rv_model_code.h: FORCE
	@mkdir -p $(@D)
	@echo "#define RV_MODEL_CODE \"$$(cat $(wildcard $(MODEL_CODE)) | sha256sum | cut -c1-16)\"" >$@.tmp
	@if cmp -s $@.tmp $@; then rm -f $@.tmp; else mv -f $@.tmp $@; fi
$(B)/obj/lib/lab/models.o: $(B)/gen/rv_model_code.h
$(B)/obj/lib/lab/models.o: EXTRA_CPPFLAGS = -I$(B)/gen

# Indexes made for experiments are cached by content too.
MEMORY_CODE = lib/memory/hnsw*.c lib/memory/hnsw*.h lib/memory/codec*.c lib/memory/codec*.h
$(B)/gen/rv_memory_code.h: FORCE
	@mkdir -p $(@D)
	@echo "#define RV_MEMORY_CODE \"$$(cat $(wildcard $(MEMORY_CODE)) | sha256sum | cut -c1-16)\"" >$@.tmp
	@if cmp -s $@.tmp $@; then rm -f $@.tmp; else mv -f $@.tmp $@; fi
$(B)/obj/lib/lab/vector_index.o: $(B)/gen/rv_memory_code.h
$(B)/obj/lib/lab/vector_index.o: EXTRA_CPPFLAGS = -I$(B)/gen

# Answers of models are kept by content; they also depend on this code.
ANSWER_CODE = $(MODEL_CODE) lib/engine/*.c lib/engine/*.h lib/eval/*.c lib/eval/*.h
$(B)/gen/rv_answer_code.h: FORCE
	@mkdir -p $(@D)
	@echo "#define RV_ANSWER_CODE \"$$(cat $(wildcard $(ANSWER_CODE)) | sha256sum | cut -c1-16)\"" >$@.tmp
	@if cmp -s $@.tmp $@; then rm -f $@.tmp; else mv -f $@.tmp $@; fi
$(B)/obj/lib/lab/quality.o: $(B)/gen/rv_answer_code.h
$(B)/obj/lib/lab/quality.o: EXTRA_CPPFLAGS = -I$(B)/gen

.PHONY: experiments report
experiments: experiments-build $(B)/bin/report ## measure, draw, report [PROFILE=quick MODEL=F.gguf ONLY=T1,.. ARGS=..]
	@PROFILE='$(PROFILE)' MODEL='$(MODEL)' ONLY='$(ONLY)' ARGS='$(ARGS)' scripts/run-experiments.sh $(B) run
report: $(B)/bin/report ## draw the plots and write the report again from what was measured
	@scripts/run-experiments.sh $(B) report

.PHONY: train
train: $(B)/bin/ruvltra $(B)/bin/corpus ## corpus, vocabulary, training [PROFILE=smoke|full STAGES='nano pico' ARGS=..]
	@STAGES='$(STAGES)' ARGS='$(ARGS)' scripts/train.sh $(B) $(or $(PROFILE),full)

# What stands in datasets/models is what was trained, and its cards what these commands print.
.PHONY: model-cards
model-cards: $(B)/bin/ruvltra $(B)/bin/corpus ## take over the trained models, evaluate them, write their cards [TRAINING=build/train/full]
	@scripts/model-cards.py $(B) $(or $(TRAINING),$(B)/train/full)

# The lab's own check: of two runs of one commit, taken in turns so that both see the machine's slow
# changes, 95 % of the points agree within their intervals.
.PHONY: check-agreement
check-agreement: experiments-build $(B)/bin/report ## run the experiments twice: do the two agree? [PROFILE ONLY MODEL]
	@rm -rf $(B)/agreement
	@for n in 4 8 12 16 20; do for run in a b; do PROFILE='$(PROFILE)' MODEL='$(MODEL)' ONLY='$(ONLY)' \
		ARGS="--repetitions $$n" RESULTS=$(B)/agreement/$$run \
		scripts/run-experiments.sh $(B) run || exit 1; done; done
	@$(B)/bin/report --results $(B)/agreement/a --agree $(B)/agreement/b \
		$$(cd $(B)/agreement/a/data && ls *.json | sed 's/\.json$$//')

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
TEST_SCRIPTS := $(wildcard tests/*/*.sh)
TESTS := $(TEST_SRCS:%.c=$(B)/%)

# Faults are injected by wrapping the calls the library makes.
wrap = $(1:%=-Wl,--wrap=%)
TEST_LDFLAGS_test_mem := $(call wrap,aligned_alloc free)
TEST_LDFLAGS_test_file := $(call wrap,aligned_alloc free open read write fsync rename close mmap)
TEST_LDFLAGS_test_threads := $(call wrap,aligned_alloc pthread_create hwloc_set_cpubind)
TEST_LDFLAGS_test_pool := $(call wrap,aligned_alloc)
TEST_LDFLAGS_test_prefix_tree := $(call wrap,aligned_alloc)
TEST_LDFLAGS_test_json := $(call wrap,aligned_alloc)
TEST_LDFLAGS_test_embed := $(call wrap,aligned_alloc)
TEST_LDFLAGS_test_alloc := $(call wrap,aligned_alloc free mmap munmap)
TEST_LDFLAGS_test_scheduler := $(call wrap,rv_context_eval rv_context_logits)
TEST_LDFLAGS_test_scheduler_cases := $(TEST_LDFLAGS_test_scheduler)
TEST_LDFLAGS_test_scheduler_live := $(call wrap,aligned_alloc)
TEST_LDFLAGS_test_options := $(call wrap,aligned_alloc)
TEST_LDFLAGS_test_codec_file := $(call wrap,aligned_alloc)
TEST_LDFLAGS_test_tokenizer_faults := $(call wrap,aligned_alloc)
TEST_LDFLAGS_test_kill := $(call wrap,rv_calibrate)
TEST_LDFLAGS_test_child := $(call wrap,rv_calibrate)
TEST_LDFLAGS_test_h5probe := $(call wrap,rv_calibrate)
TEST_LIBS_test_pretokenize := -lpcre2-8
TEST_LIBS_test_extract := -lpcre2-8

define TEST_RULE
$(B)/tests/$(1)/%: $(B)/obj/tests/$(1)/%.o $(foreach r,$(below_$(1)),$(call room_lib,$(r))) $(KERNEL_LIB)
	@mkdir -p $$(@D)
	$(Q)$(CC) $(OPT) $(LDFLAGS) $$(TEST_LDFLAGS_$$*) -o $$@ $$(filter %.o,$$^) $$(filter %.a,$$^) $(if $(filter kernels,$(1)),-lm,-lcmocka $(if $(filter lab eval cli,$(1)),$$(LAB_LIBS)) $$(LIBS)) $$(TEST_LIBS_$$*)
endef
$(foreach r,kernels $(ROOMS),$(eval $(call TEST_RULE,$(r))))
# The kernel checker is several files; it links kernels/ and libc alone.
$(B)/tests/kernels/test_kernels: $(call obj,$(wildcard tests/kernels/check_*.c) $(addprefix tests/kernels/,controls.c harness.c))
.PRECIOUS: $(B)/obj/%.o

# T="text ..." keeps the tests whose path holds one of the words.
TESTS_ASKED := $(foreach t,$(TESTS) $(TEST_SCRIPTS),$(if $(strip $(if $(T),$(foreach w,$(T),$(findstring $(w),$(t))),all)),$(t)))
TESTS_BUILT := $(filter $(TESTS),$(TESTS_ASKED))
.PHONY: tests-build test
tests-build: $(TESTS)
test: $(TESTS_BUILT) $(if $(filter %.sh,$(TESTS_ASKED)),all) ## run all tests, or those whose path holds a word of T='text ...'
	@RV_BUILD=$(B) RV_VARIANT=$(VARIANT) CC='$(CC)' scripts/run-tests.py $(TEST_FLAGS) $(TESTS_ASKED)

# Tests that count or fail allocations.
TEST_LDFLAGS_test_gguf_bad := -Wl,--wrap=aligned_alloc
TEST_LDFLAGS_test_capture := -Wl,--wrap=aligned_alloc
TEST_LDFLAGS_test_data_alloc := -Wl,--wrap=aligned_alloc
TEST_LDFLAGS_test_train_alloc := -Wl,--wrap=aligned_alloc -Wl,--wrap=free
TEST_LDFLAGS_test_fastgrnn := -Wl,--wrap=aligned_alloc -Wl,--wrap=malloc
TEST_LDFLAGS_test_gguf_alloc := -Wl,--wrap=aligned_alloc -Wl,--wrap=free
TEST_LDFLAGS_test_bank_alloc := -Wl,--wrap=aligned_alloc
TEST_LDFLAGS_test_records_alloc := -Wl,--wrap=aligned_alloc

# The same tests under a sanitizer, in a build folder of its own.
VARIANT_B = $(if $(filter command,$(origin B)),$(B),build)/$@
.PHONY: asan ubsan tsan
asan ubsan tsan: ## all tests with AddressSanitizer + UBSan (asan), UBSan, or ThreadSanitizer
	@$(MAKE) --no-print-directory VARIANT=$@ B=$(VARIANT_B) test

# ---- fuzzing: tests/fuzz/fuzz_NAME.c, seeds and regression inputs in tests/fuzz/corpus/NAME/ ----
# SIMD kernels see no untrusted bytes here, and take clang many minutes when instrumented.
FUZZ_SECONDS ?= 60
ifeq ($(VARIANT),fuzz)
$(B)/obj/kernels/x86/%.o $(B)/obj/kernels/arm/%.o: OPT := -O1
endif
FUZZERS := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
.PHONY: fuzz fuzz-build
fuzz: ## fuzz every parser for FUZZ_SECONDS (60) in all, under ASan + UBSan
	@$(MAKE) --no-print-directory VARIANT=fuzz CC=clang B=$(VARIANT_B) fuzz-build
	@scripts/fuzz.sh $(VARIANT_B)/fuzz $(FUZZ_SECONDS) $(FUZZERS)
fuzz-build: $(FUZZERS:%=$(B)/fuzz/%)
$(B)/fuzz/%: $(B)/obj/tests/fuzz/%.o $(foreach r,$(below_learn),$(call room_lib,$(r))) $(KERNEL_LIB)
	@mkdir -p $(@D)
	$(call say,LD      $@)
	$(Q)$(CC) -fsanitize=fuzzer,address,undefined $(LDFLAGS) -o $@ $(filter %.o %.a,$^) $(LIBS)

.PHONY: coverage
coverage: ## line coverage of lib/ and kernels/ under the tests, a table a room
	@rm -rf $(VARIANT_B)
	@-$(MAKE) --no-print-directory VARIANT=coverage B=$(VARIANT_B) test
	@scripts/coverage.py $(VARIANT_B)

.PHONY: check-layers
check-layers: $(ALL_ROOM_LIBS) $(KERNEL_LIB) ## no file uses anything of a room above it
	@scripts/check-layers.sh . $(B)

.PHONY: format format-check
FORMATTED = $(shell git ls-files '*.c' '*.h')
format-check: ## is all C code as .clang-format wants it?
	@clang-format --dry-run -Werror $(FORMATTED)

# ---- kernels ----
$(B)/bin/bench_kernels: $(call obj,$(addprefix tests/kernels/,bench_kernels.c bench_plain.c roofline.c)) $(KERNEL_LIB)
	@mkdir -p $(@D)
	$(call say,LD      $@)
	$(Q)$(CC) $(OPT) $(LDFLAGS) -o $@ $(filter %.o %.a,$^) -lm

.PHONY: bench-kernels check-avx512-emulated
bench-kernels: $(B)/bin/bench_kernels ## time every kernel of every level (BENCH_FLAGS='--quick --only matmul')
	@$< $(BENCH_FLAGS)
check-avx512-emulated: ## the kernel checker on the AVX-512 levels, emulated by SIMDe
	@CC='$(CC)' scripts/check-avx512-emulated.sh $(B)

# ---- training ----
$(B)/bin/bench_train $(B)/bin/bench_sona: $(B)/bin/%: $(B)/obj/tests/learn/%.o $(foreach r,$(below_learn),$(call room_lib,$(r))) $(KERNEL_LIB)
	@mkdir -p $(@D)
	$(call say,LD      $@)
	$(Q)$(CC) $(OPT) $(LDFLAGS) -o $@ $(filter %.o %.a,$^) $(LIBS)

.PHONY: bench-train bench-sona
bench-train: $(B)/bin/bench_train ## training speed beside that of its matrix products alone (BENCH_FLAGS='--seqs 32')
	@$< $(BENCH_FLAGS)
bench-sona: $(B)/bin/bench_sona ## what learning while serving costs (BENCH_FLAGS='-m medium.gguf --rank 2')
	@$< -m datasets/models/nano.gguf $(BENCH_FLAGS)

# ---- installation ----
.PHONY: install
CORE_HEADERS := $(wildcard kernels/*.h kernels/*.def $(CORE_ROOMS:%=lib/%/*.h))
install: $(B)/bin/ruvltra libs ## install command, libruvltra, headers to PREFIX (/usr/local) under DESTDIR
	@scripts/install.sh '$(DESTDIR)' '$(PREFIX)' '$(B)' '$(VERSION)' $(CORE_HEADERS)

.PHONY: clean
clean: ## remove build/
	rm -rf $(B)

.PHONY: help
help: ## this list
	@sed -n 's/^#   //p;/^VERSION/q' Makefile
	@echo
	@sed -n 's/^\([a-z][a-z -]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 22

# Which tables exist decides which levels are in the build.
$(B)/obj/kernels/registry.o: $(wildcard kernels/x86/table_*.c kernels/arm/table_*.c)

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
