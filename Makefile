# Plain GNU make. `make run` and `make check` install what they need (Debian) and do everything.
# BUILD=dir builds elsewhere; SANITIZE=1 builds with ASan and UBSan; STEPS=1 builds with what the
# tests of kills and power cuts need.

BUILD ?= build
CC = gcc
AR = gcc-ar
PKG_CONFIG ?= pkg-config
VERSION = 0.1.0
PACKAGES = libuv libcurl json-c yaml-0.1 libsodium sqlite3 libpq libpcre2-8 openssl

warnings = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wconversion -Werror
hardening = -fPIE -fstack-protector-strong -fstack-clash-protection
hardening_link = -pie -Wl,-z,relro,-z,now,-z,noexecstack
ifneq ($(filter x86_64 i%86,$(shell uname -m)),)
hardening += -fcf-protection=full
endif
# Budgets are words of 16 bytes.
ifeq ($(shell uname -m),x86_64)
processor = -mcx16
endif
ifdef SANITIZE
optimize = -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
sanitize_link = -fsanitize=address,undefined
else
optimize = -O2 -g -D_FORTIFY_SOURCE=3
endif

# Debian 12 has llhttp as sources only; where a package exists, take that.
llhttp_sources = /usr/share/llhttp
llhttp_packaged := $(shell $(PKG_CONFIG) --exists libllhttp 2>/dev/null && echo yes)
ifeq ($(llhttp_packaged),yes)
PACKAGES += libllhttp
else
llhttp_flags = -isystem /usr/share/include/llhttp -DLLHTTP_STRICT_MODE=1
llhttp_archive = $(BUILD)/libllhttp.a
endif

package_flags = $(patsubst -I%,-isystem %,$(shell $(PKG_CONFIG) --cflags $(PACKAGES)))
package_libs = $(shell $(PKG_CONFIG) --libs $(1))

CPPFLAGS += -D_GNU_SOURCE -DPROMPTGATE_VERSION='"$(VERSION)"' -I. -I$(BUILD)/gen
ifdef STEPS
CPPFLAGS += -DPROMPTGATE_STEPS
endif
CFLAGS += -std=gnu11 $(processor) $(optimize) $(hardening) $(warnings)
LDFLAGS += $(hardening_link) $(sanitize_link)

shared_sources := $(sort $(wildcard shared/*.c shared/*/*.c))
worker_sources := $(sort $(wildcard worker/*.c worker/*/*.c))
master_sources := $(filter-out master/main.c,$(sort $(wildcard master/*.c master/*/*.c)))
objects = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

shared_libs = libuv json-c libsodium libpcre2-8 openssl $(if $(llhttp_packaged),libllhttp)
worker_libs = $(shared_libs) libcurl
master_libs = $(worker_libs) yaml-0.1 sqlite3 libpq

# The end-to-end tests' own node and packages, as the lock file names them.
e2e_modules = test/e2e/node_modules/.installed
e2e_node = $$(echo test/e2e/node_modules/node-linux-*/bin/node)
peers = test/e2e/peers

.PHONY: all
all: $(BUILD)/promptgate

$(BUILD)/promptgate: $(call objects,master/main.c) $(BUILD)/libmaster.a $(BUILD)/libworker.a \
		$(BUILD)/libshared.a $(llhttp_archive)
	$(CC) $(LDFLAGS) -o $@ $^ $(call package_libs,$(master_libs))

$(BUILD)/libshared.a: $(call objects,$(shared_sources)) $(BUILD)/obj/gen/metaschemas.o
$(BUILD)/libworker.a: $(call objects,$(worker_sources))
$(BUILD)/libmaster.a: $(call objects,$(master_sources)) $(BUILD)/obj/gen/migrations.o
$(BUILD)/lib%.a:
	@rm -f $@
	$(AR) rcs $@ $^

# Other people's code: no warnings of ours. The flags are the same in every unit that sees the
# header, for the struct's layout depends on them.
$(BUILD)/libllhttp.a: $(patsubst %,$(BUILD)/obj/llhttp/%.o,api http llhttp)
$(BUILD)/obj/llhttp/%.o: $(llhttp_sources)/%.c
	@mkdir -p $(@D)
	$(CC) -std=gnu11 $(optimize) $(hardening) $(llhttp_flags) -w -c -o $@ $<

$(BUILD)/obj/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(package_flags) $(llhttp_flags) $(CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/obj/gen/%.o: $(BUILD)/gen/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# Rebuild when flags change.
.PHONY: force
$(BUILD)/flags: force
	@mkdir -p $(BUILD)
	@echo '$(CC) $(CPPFLAGS) $(CFLAGS) $(llhttp_flags)' | cmp -s - $@ || \
		echo '$(CC) $(CPPFLAGS) $(CFLAGS) $(llhttp_flags)' > $@

# What is embedded is made anew when a file comes or goes, too.
migrations := $(sort $(wildcard sql/*/*.sql))
$(BUILD)/gen/migrations.list: force
	@mkdir -p $(@D)
	@echo '$(migrations)' | cmp -s - $@ || echo '$(migrations)' > $@
.SECONDARY: $(BUILD)/gen/migrations.c
$(BUILD)/gen/migrations.c: sql/embed.awk $(migrations) $(BUILD)/gen/migrations.list
	@mkdir -p $(@D)
	awk -f sql/embed.awk $(migrations) > $@.new && mv $@.new $@

metaschemas := $(sort $(wildcard shared/schema/metaschemas/*.json shared/schema/metaschemas/*/*.json \
	shared/schema/metaschemas/*/*/*.json))
$(BUILD)/gen/metaschemas.c: shared/schema/embed.awk $(metaschemas)
	@mkdir -p $(@D)
	awk -f shared/schema/embed.awk $(metaschemas) > $@.new && mv $@.new $@

unit_tests := $(patsubst test/unit/%.c,%,$(sort $(wildcard test/unit/test_*.c)))
unit_binaries = $(patsubst %,$(BUILD)/unit/%,$(unit_tests))

# A unit test links what its name's first part needs: only master's may pull in SQLite and YAML.
unit_archives = $(if $(filter master_%,$(1)),$(BUILD)/libmaster.a) \
	$(if $(filter master_% worker_%,$(1)),$(BUILD)/libworker.a) $(BUILD)/libshared.a
unit_libs = $(if $(filter master_%,$(1)),$(master_libs),$(if $(filter worker_%,$(1)),$(worker_libs),$(shared_libs)))

.SECONDEXPANSION:
.SECONDARY:
$(BUILD)/unit/test_%: $(BUILD)/obj/test/unit/test_%.o $$(call unit_archives,$$*) $(llhttp_archive)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^ -lcmocka $(call package_libs,$(call unit_libs,$*))

.PHONY: unit
unit: $(unit_binaries)
	@for test in $(unit_binaries); do $$test || exit 1; done

# Tests that need points to switch at: real functions in every order, killed before each step. They
# stand for themselves in builds with STEPS=1.
schedule_tests := $(patsubst test/steps/%.c,%,$(sort $(wildcard test/steps/test_*.c)))
schedule_binaries = $(patsubst %,$(BUILD)/steps/%,$(schedule_tests))
schedule_objects = $(patsubst %,$(BUILD)/obj/test/steps/%.o,interleave abandoned)
schedule_wraps = -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=free

$(BUILD)/steps/test_master_log: $(BUILD)/obj/test/steps/log_world.o
$(BUILD)/steps/test_%: $(BUILD)/obj/test/steps/test_%.o $$(schedule_objects) \
		$$(call unit_archives,$$*) $(llhttp_archive)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) $(schedule_wraps) -o $@ $(filter %.o,$^) $(filter %.a,$^) -lcmocka \
		$(call package_libs,$(call unit_libs,$*))

$(BUILD)/steps/list: $(BUILD)/obj/test/steps/list.o $(BUILD)/libmaster.a $(BUILD)/libworker.a \
		$(BUILD)/libshared.a $(llhttp_archive)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $< -Wl,--whole-archive $(filter %.a,$^) -Wl,--no-whole-archive \
		$(call package_libs,$(master_libs))

steps_seen = $(abspath $(BUILD))/steps/seen
.PHONY: schedules schedules-run
schedules-run: $(schedule_binaries)
	@mkdir -p $(steps_seen)
	@for test in $(schedule_binaries); do PROMPTGATE_STEPS_SEEN=$(steps_seen) $$test || exit 1; done
schedules:
	+@$(MAKE) --no-print-directory STEPS=1 BUILD=$(BUILD)-steps schedules-run

# Known mistakes, each built into a copy of the sources: one that turns no test red is a test that
# is missing. A few minutes.
.PHONY: mutations
mutations: $(e2e_modules)
	@$(e2e_node) test/mutations/run.mjs $(BUILD)/mutations

# Each fuzz target runs its corpus through replay.c; `make fuzz` builds the same with libFuzzer.
FUZZ_SECONDS ?= 60
fuzz_names := $(patsubst test/fuzz/fuzz_%.c,%,$(sort $(wildcard test/fuzz/fuzz_*.c)))
fuzz_binaries = $(patsubst %,$(BUILD)/fuzz/%,$(fuzz_names))
fuzz_main = $(if $(LIBFUZZER),,$(BUILD)/obj/test/fuzz/replay.o)

$(BUILD)/fuzz/%: $(BUILD)/obj/test/fuzz/fuzz_%.o $$(fuzz_main) $$(call unit_archives,$$*) \
		$(llhttp_archive)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) $(if $(LIBFUZZER),-fsanitize=fuzzer) -o $@ $^ \
		$(call package_libs,$(call unit_libs,$*))

.PHONY: fuzz-binaries fuzz-replay fuzz
fuzz-binaries: $(fuzz_binaries)
fuzz-replay: $(fuzz_binaries)
	@for name in $(fuzz_names); do \
		$(BUILD)/fuzz/$$name test/fuzz/corpus/$$name || exit 1; done

# The corpus is copied, for libFuzzer adds to it. What it finds lands beside, as crash-*.
libfuzzer = $(BUILD)/libfuzzer
libfuzzer_flags = -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined \
	-fno-sanitize-recover=all
fuzz:
	$(MAKE) BUILD=$(libfuzzer) LIBFUZZER=1 CC=clang optimize='$(libfuzzer_flags)' \
		sanitize_link='-fsanitize=address,undefined' fuzz-binaries
	@for name in $(fuzz_names); do \
		mkdir -p $(libfuzzer)/corpus && cp -r test/fuzz/corpus/$$name $(libfuzzer)/corpus/ && \
		echo "fuzzing $$name for $(FUZZ_SECONDS) s" && \
		$(libfuzzer)/fuzz/$$name -max_total_time=$(FUZZ_SECONDS) -timeout=10 -verbosity=0 \
			-print_final_stats=1 -artifact_prefix=$(libfuzzer)/$$name- \
			$(libfuzzer)/corpus/$$name || exit 1; done

# Mixed traffic, reloads and kills for MINUTES (2); SEED=n repeats a run.
$(BUILD)/counters-dump: $(BUILD)/obj/test/soak/counters_dump.o $(BUILD)/libshared.a
	$(CC) $(LDFLAGS) -o $@ $^ $(call package_libs,libsodium)

.PHONY: soak
soak: $(BUILD)/promptgate $(BUILD)/counters-dump $(e2e_modules)
	PROMPTGATE=$(abspath $(BUILD)/promptgate) SANITIZE=$(SANITIZE) STORE=$(STORE) \
		MINUTES=$(or $(MINUTES),2) SEED=$(SEED) \
		$(e2e_node) --disable-warning=ExperimentalWarning test/soak/soak.mjs

preloaded = $(CC) -shared -fPIC -O2 -Wall -Wextra -Werror -o $@ $<
$(BUILD)/alloc-counts.so: test/soak/alloc_counts.c | $(BUILD)/promptgate
	$(preloaded)
$(BUILD)/clock-shim.so: test/drill/clock_shim.c | $(BUILD)/promptgate
	$(preloaded)

# The same traffic and nothing else for MINUTES (60): memory, descriptors and allocations stay as they
# are. Not with SANITIZE=1, which allocates in its own way; below 20 minutes the means are too rough.
.PHONY: soak-steady
soak-steady: $(BUILD)/promptgate $(BUILD)/counters-dump $(BUILD)/alloc-counts.so $(e2e_modules)
	PROMPTGATE=$(abspath $(BUILD)/promptgate) STORE=$(STORE) MINUTES=$(or $(MINUTES),60) SEED=$(SEED) \
		$(e2e_node) --disable-warning=ExperimentalWarning test/soak/steady.mjs

# Every fault in turn under mixed traffic; FAULTS=a,b and STORES=sqlite only these.
.PHONY: drill-faults
drill-faults: $(BUILD)/promptgate $(BUILD)/counters-dump $(BUILD)/clock-shim.so $(e2e_modules)
	PROMPTGATE=$(abspath $(BUILD)/promptgate) SANITIZE=$(SANITIZE) \
		$(e2e_node) --disable-warning=ExperimentalWarning test/drill/drill.mjs

# ROUNDS, SECONDS and CONNECTIONS='1 8' change the runs.
nginx = $(peers)/usr/sbin/nginx

$(BUILD)/bench-mock: $(BUILD)/obj/test/bench/mock.o
	$(CC) $(LDFLAGS) -o $@ $^

$(BUILD)/bench-streams: $(BUILD)/obj/test/bench/streams.o
	$(CC) $(LDFLAGS) -o $@ $^

$(BUILD)/bench-schema: $(BUILD)/obj/test/bench/schema.o $(BUILD)/libshared.a
	$(CC) $(LDFLAGS) -o $@ $^ $(call package_libs,$(shared_libs))

$(BUILD)/bench-insert: $(BUILD)/obj/test/bench/insert.o
	$(CC) $(LDFLAGS) -o $@ $^ $(call package_libs,sqlite3 libpq)

$(BUILD)/bench-limits: $(BUILD)/obj/test/bench/limits.o $(BUILD)/libshared.a
	$(CC) $(LDFLAGS) -o $@ $^ $(call package_libs,libsodium)

$(BUILD)/bench-sessions: $(BUILD)/obj/test/bench/sessions.o $(BUILD)/libmaster.a \
		$(BUILD)/libworker.a $(BUILD)/libshared.a $(llhttp_archive)
	$(CC) $(LDFLAGS) -o $@ $^ $(call package_libs,$(master_libs))

# A turn of a session of 100 messages beside the bare INSERT of its bytes.
.PHONY: bench-sessions
bench-sessions: $(BUILD)/bench-sessions
	@$(BUILD)/bench-sessions

# Instructions of a request's limits and budgets, counted by valgrind.
.PHONY: bench-limits
bench-limits: $(BUILD)/bench-limits
	@command -v valgrind > /dev/null || packaging/install-deps.sh valgrind
	@for accounts in 1 100 10000; do sh test/bench/limits.sh $(BUILD)/bench-limits $$accounts; done

bench_run = PROMPTGATE=$(abspath $(BUILD)/promptgate) ROUNDS=$(ROUNDS) SECONDS=$(SECONDS) \
	$(e2e_node) --disable-warning=ExperimentalWarning
.PHONY: bench bench-store bench-idle
bench: $(BUILD)/promptgate $(BUILD)/load $(BUILD)/counters-dump $(BUILD)/bench-mock $(peers)/.there \
		$(e2e_modules)
	@NGINX=$(abspath $(nginx)) CONNECTIONS='$(CONNECTIONS)' $(bench_run) test/bench/bench.mjs
	+@$(MAKE) --no-print-directory bench-streams
	+@$(MAKE) --no-print-directory bench-failover
	+@$(MAKE) --no-print-directory bench-schema
	+@$(MAKE) --no-print-directory bench-limits
	+@$(MAKE) --no-print-directory bench-sessions
	+@$(MAKE) --no-print-directory bench-store
	+@$(MAKE) --no-print-directory STORE=postgres bench-store
	+@$(MAKE) --no-print-directory CONNECTIONS= bench-idle

# Streams beside nginx, and STREAMS of them at once.
.PHONY: bench-streams
bench-streams: $(BUILD)/promptgate $(BUILD)/bench-streams $(peers)/.there $(e2e_modules)
	@NGINX=$(abspath $(nginx)) STREAMS=$(STREAMS) $(bench_run) test/bench/streams.mjs

# The JSON Schema engine beside ajv.
.PHONY: bench-schema
bench-schema: $(BUILD)/promptgate $(BUILD)/bench-schema $(e2e_modules)
	@$(bench_run) test/bench/schema.mjs

# What a dead first target adds once it is left alone.
.PHONY: bench-failover
bench-failover: $(BUILD)/promptgate $(e2e_modules)
	@$(bench_run) test/bench/failover.mjs

# Other clients' latency beside 4,000 slow ones.
.PHONY: bench-slow
bench-slow: $(BUILD)/promptgate $(BUILD)/load $(peers)/.there $(e2e_modules)
	@CROWD=$(CROWD) $(bench_run) test/bench/slow.mjs

# What an idle connection costs.
bench-idle: $(BUILD)/promptgate $(e2e_modules)
	@CONNECTIONS=$(CONNECTIONS) $(bench_run) test/bench/idle.mjs

# Rows alone, with either store; FILL=10000000 has that many in the store first, and reads and
# expires some of them meanwhile.
bench-store: $(BUILD)/promptgate $(BUILD)/load $(BUILD)/counters-dump $(BUILD)/bench-insert \
		$(e2e_modules)
	@STORE=$(STORE) FILL=$(FILL) $(bench_run) test/bench/store.mjs

.PHONY: lint lint-selftest
lint: $(BUILD)/libshared.a $(BUILD)/libworker.a $(BUILD)/libmaster.a
	@test/lint/run.sh $(BUILD)
lint-selftest:
	@CC='$(CC)' AR='$(AR)' test/lint/selftest.sh

$(BUILD)/load: $(BUILD)/obj/test/bench/load.o
	$(CC) $(LDFLAGS) -o $@ $^

$(e2e_modules): test/e2e/package.json test/e2e/package-lock.json
	@for pause in 2 10 0; do \
		(cd test/e2e && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) && break; \
		test $$pause != 0 || exit 1; sleep $$pause; \
	done
	@touch $@

# Reverse proxies, unpacked and not installed: their packages would start servers.
$(peers)/.there: packaging/unpack.sh
	@mkdir -p $(peers)
	@for pause in 2 10 0; do packaging/unpack.sh $(peers) nginx haproxy slowhttptest && break; \
		test $$pause != 0 || exit 1; sleep $$pause; done
	@touch $@

$(BUILD)/schema-pairs: $(BUILD)/obj/test/e2e/schema_pairs.o $(BUILD)/libshared.a
	$(CC) $(LDFLAGS) -o $@ $^ $(call package_libs,$(shared_libs))

$(BUILD)/notify-listen: $(BUILD)/obj/test/e2e/notify_listen.o
	$(CC) $(LDFLAGS) -o $@ $^

# One file at a time: some of them measure. TESTS=test/e2e/NAME.test.mjs runs a part. With
# STORE=postgres each file starts a PostgreSQL, and gateways have a database there.
TESTS ?= test/e2e/*.test.mjs
.PHONY: e2e
e2e: $(BUILD)/promptgate $(BUILD)/load $(BUILD)/counters-dump $(BUILD)/notify-listen \
		$(BUILD)/schema-pairs \
		$(peers)/.there $(e2e_modules) $(if $(STEPS),$(BUILD)/steps/list)
	PROMPTGATE=$(abspath $(BUILD)/promptgate) LOAD=$(abspath $(BUILD)/load) SANITIZE=$(SANITIZE) \
		STORE=$(STORE) STEPS=$(STEPS) $(if $(STEPS),PROMPTGATE_STEPS_SEEN=$(steps_seen)) \
		$(e2e_node) --disable-warning=ExperimentalWarning --test --test-concurrency=1 \
		--test-timeout=$(if $(SANITIZE),1200000,600000) $(TESTS)

# Of `make e2e STORE=postgres`, what is most about the store.
postgres_tests = $(patsubst %,test/e2e/%.test.mjs,audit deaths processes logs db sessions idempotency conversation-kills)
.PHONY: e2e-postgres
e2e-postgres:
	+@$(MAKE) --no-print-directory STORE=postgres TESTS='$(postgres_tests)' e2e

# Those that need a build with STEPS=1; the others skip them. POWERCUTS=n: more power cuts than 5.
steps_tests = $(patsubst %,test/e2e/%.test.mjs,powercut endless steps)
.PHONY: e2e-steps
e2e-steps:
	@mkdir -p $(BUILD)-steps/steps/seen
	+@$(MAKE) --no-print-directory STEPS=1 BUILD=$(BUILD)-steps TESTS='$(steps_tests)' e2e

# The points of PostgreSQL's driver alone; `make e2e-steps STORE=postgres` meets all others again.
.PHONY: e2e-steps-postgres
e2e-steps-postgres:
	+@STEP=postgres_ $(MAKE) --no-print-directory STORE=postgres \
		steps_tests=test/e2e/steps.test.mjs e2e-steps

# Everything that needs the points, from the start; each point must be reached on the way.
.PHONY: steps steps-reached
steps:
	@rm -rf $(BUILD)-steps/steps/seen
	+@$(MAKE) --no-print-directory schedules
	+@$(MAKE) --no-print-directory e2e-steps
	+@$(MAKE) --no-print-directory e2e-steps-postgres
	@$(MAKE) --no-print-directory STEPS=1 BUILD=$(BUILD)-steps steps-reached
steps-reached: $(BUILD)/steps/list
	@test/steps/reached.sh $(BUILD)/steps

# Every fault in its turn, whose table is in promptgate-operations(7); then the long versions of what
# `make check` does in short. Some hours.
DRILL_MINUTES ?= 5
.PHONY: drill
drill: drill-faults
	+@OUTAGE_SECONDS=180 $(MAKE) --no-print-directory TESTS=test/e2e/postgres.test.mjs e2e
	+@RATE_MINUTES=3 $(MAKE) --no-print-directory TESTS=test/e2e/rates.test.mjs e2e
	+@RELOAD_SECONDS=60 $(MAKE) --no-print-directory TESTS=test/e2e/reload.test.mjs e2e
	+@CONVERSATIONS=1000 $(MAKE) --no-print-directory TESTS=test/e2e/conversation-kills.test.mjs e2e
	+@$(MAKE) --no-print-directory STORE=postgres e2e
	+@POWERCUTS=50 $(MAKE) --no-print-directory steps_tests=test/e2e/powercut.test.mjs e2e-steps
	+@$(MAKE) --no-print-directory STORE=postgres e2e-steps
	+@$(MAKE) --no-print-directory MINUTES=$(DRILL_MINUTES) soak
	+@$(MAKE) --no-print-directory STORE=postgres MINUTES=$(DRILL_MINUTES) soak
	+@$(MAKE) --no-print-directory soak-steady

# Below DESTDIR: binary, manual pages, completions for shells, systemd unit and user, and the commented
# configuration where there is none yet.
prefix ?= /usr/local
sysconfdir ?= /etc
sbindir = $(prefix)/sbin
mandir = $(prefix)/share/man
systemdir = $(prefix)/lib/systemd/system
sysusersdir = $(prefix)/lib/sysusers.d
bashdir = $(prefix)/share/bash-completion/completions
zshdir = $(prefix)/share/zsh/vendor-completions
fishdir = $(prefix)/share/fish/vendor_completions.d
completions = awk -v shell=$(1) -f packaging/completions.awk man/promptgate.8
configdir = $(DESTDIR)$(sysconfdir)/promptgate
# Nothing else that may lie there: it may be somebody's own, with keys.
installed_etc = etc/promptgate.yaml etc/models.yaml $(wildcard etc/*/*.example)
.PHONY: install uninstall
install: $(BUILD)/promptgate
	install -d $(addprefix $(DESTDIR),$(sbindir) $(systemdir) $(sysusersdir) $(bashdir) $(zshdir) $(fishdir))
	install -m 755 $(BUILD)/promptgate $(DESTDIR)$(sbindir)/promptgate.new
	mv -f $(DESTDIR)$(sbindir)/promptgate.new $(DESTDIR)$(sbindir)/promptgate
	sed 's|/usr/sbin/|$(sbindir)/|; s|/etc/promptgate|$(sysconfdir)/promptgate|' \
		packaging/systemd/promptgate.service > $(DESTDIR)$(systemdir)/promptgate.service
	install -m 644 packaging/systemd/promptgate.sysusers $(DESTDIR)$(sysusersdir)/promptgate.conf
	$(call completions,bash) > $(DESTDIR)$(bashdir)/promptgate
	$(call completions,zsh) > $(DESTDIR)$(zshdir)/_promptgate
	$(call completions,fish) > $(DESTDIR)$(fishdir)/promptgate.fish
	for page in man/*.[1-9]; do \
		install -D -m 644 -t $(DESTDIR)$(mandir)/man$${page##*.} $$page || exit 1; done
	install -d -m 750 $(configdir)
	for file in $(patsubst etc/%,%,$(installed_etc)); do [ -e $(configdir)/$$file ] || \
		install -D -m 640 etc/$$file $(configdir)/$$file || exit 1; done
# Debian's package, in BUILD/deb; needs debhelper.
.PHONY: deb
deb:
	packaging/deb.sh $(BUILD)

# Configuration and state stay.
uninstall:
	rm -f $(DESTDIR)$(sbindir)/promptgate $(DESTDIR)$(systemdir)/promptgate.service \
		$(DESTDIR)$(sysusersdir)/promptgate.conf $(DESTDIR)$(bashdir)/promptgate \
		$(DESTDIR)$(zshdir)/_promptgate $(DESTDIR)$(fishdir)/promptgate.fish
	for page in man/*.[1-9]; do rm -f $(DESTDIR)$(mandir)/man$${page##*.}/$${page##*/}; done

.PHONY: man-lint
man-lint:
	mandoc -T lint -W warning $(sort $(wildcard man/*.[1-9]))

.PHONY: deps deps-run deps-check
deps:
	@packaging/install-deps.sh build
deps-run:
	@packaging/install-deps.sh run
deps-check:
	@packaging/install-deps.sh check

# A demo gateway on 127.0.0.1:PORT with the built-in provider. The inner make starts anew, so it
# sees what was just installed.
PORT ?= 8080
.PHONY: run
run: deps-run
	+@$(MAKE) --no-print-directory all
	@packaging/demo.sh $(BUILD) $(PORT)

.PHONY: check check-asan
check: deps-check
	+@$(MAKE) --no-print-directory all
	+@$(MAKE) --no-print-directory lint lint-selftest man-lint
	+@$(MAKE) --no-print-directory unit fuzz-replay
	+@$(MAKE) --no-print-directory e2e
	+@$(MAKE) --no-print-directory e2e-postgres
	+@$(MAKE) --no-print-directory steps
check-asan: deps-check
	+@$(MAKE) --no-print-directory SANITIZE=1 BUILD=$(BUILD)-asan all
	+@$(MAKE) --no-print-directory SANITIZE=1 BUILD=$(BUILD)-asan unit fuzz-replay
	+@$(MAKE) --no-print-directory SANITIZE=1 BUILD=$(BUILD)-asan e2e
	+@$(MAKE) --no-print-directory SANITIZE=1 BUILD=$(BUILD)-asan steps

.PHONY: format
format:
	clang-format -i $(shell git ls-files '*.c' '*.h')

.PHONY: clean
clean:
	rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-steps $(BUILD)-asan-steps

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
