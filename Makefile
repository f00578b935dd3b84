# `make` alone lists the targets. Needs Go, make and git, and gcc for the race
# detector; nothing is installed, root is not needed, no fixed port is used.
#
# ARGS goes to the program:   make playground ARGS="--members 5"
# PKG and RUN narrow tests:   make tests PKG=./internal/gtid/... RUN=Parse ARGS=-v

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

GO      ?= go
MODULE  := github.com/perdure/perdure
PKG     ?= ./...
RUN     ?= .
VERSION := $(shell git describe --tags --always --dirty --match 'v*' 2>/dev/null || echo dev)

# Two sets of compiled packages are enough for everything below: this one, and
# the race detector's. Flags of the environment stay in force.
export CGO_ENABLED := 0
export GOFLAGS     := $(strip $(GOFLAGS) -trimpath)

# One version for everybody. It is compiled here, so that what is checked does
# not depend on what happens to be installed.
LINT_VERSION := v2.15.0
LINT         := .cache/tools/golangci-lint-$(LINT_VERSION)/golangci-lint

# Packages whose tests start servers run two at a time, however many processors
# there are: each starts up to nine of them, and the machine's memory is the limit.
TEST_P       ?= 2
TEST_TIMEOUT ?= 30m
FUZZTIME     ?= 10s

# ---- use -------------------------------------------------------------------

.PHONY: help
help: ## list the targets
	@echo "make TARGET, where TARGET is one of"
	@sed -nE 's/^([a-z][a-z-]*):[^#]*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

.PHONY: build
build: ## build bin/perdure
	@# The compiler collects its own garbage less often: a seventh less CPU where nothing was compiled before.
	GOGC=400 $(GO) build -ldflags '-s -w -X main.version=$(VERSION)' -o bin/perdure ./cmd/perdure

.PHONY: mysql
mysql: ## find a MySQL server fit for Group Replication, or fetch one into a private directory
	@scripts/get-mysql >/dev/null

.PHONY: playground
playground: ## run a real cluster on this machine (ARGS="--members 5 --mode single-primary")
	@$(MAKE) -j2 --output-sync=none mysql build
	@exec bin/perdure playground $(ARGS)

# ---- check -----------------------------------------------------------------

.PHONY: test
test: ## everything that has to pass: lint, vet, and all tests on real servers
	@begin=$$SECONDS; \
	$(MAKE) -j2 --output-sync=none $(LINT) mysql build; \
	$(MAKE) lint vet; \
	$(MAKE) tests; \
	echo "passed in $$((SECONDS - begin)) s: lint, vet, and the tests of $$($(GO) list $(PKG) | wc -l) packages, on $$($$(scripts/get-mysql) --no-defaults --version | sed -E 's/.*Ver ([^ ]+).*/MySQL \1/')"

.PHONY: tests
tests: mysql ## all tests; a missing server is a failure (PKG=, RUN=)
	PERDURE_REQUIRE_MYSQL=1 $(GO) test -p $(TEST_P) -timeout $(TEST_TIMEOUT) -run '$(RUN)' $(ARGS) $(PKG)

# Not part of test: it compiles everything a second time and makes the tests on
# real servers two to five times slower, past fifteen minutes on two processors.
.PHONY: race
race: mysql ## the same with the race detector, which takes gcc and its time
	PERDURE_REQUIRE_MYSQL=1 CGO_ENABLED=1 $(GO) test -race -p $(TEST_P) -timeout 60m -run '$(RUN)' $(ARGS) $(PKG)

.PHONY: unit
unit: ## only the tests that start no server, without the race detector (RUN=)
	@$(GO) test -run '$(RUN)' $$($(GO) list -f '{{.ImportPath}} {{.TestImports}} {{.XTestImports}}' ./... | \
	  grep -vE '[[ ]$(MODULE)/internal/(mysqltest|mysql/mysqld|playground)[] ]' | cut -d' ' -f1)

.PHONY: lint
lint: $(LINT) ## golangci-lint and gofumpt, at the pinned version
	@$(LINT) run

.PHONY: vet
vet: ## go vet
	@$(GO) vet ./...

.PHONY: fmt
fmt: $(LINT) ## format all Go files
	@$(LINT) fmt

.PHONY: docs
docs: ## write the generated parts of docs/ anew
	@$(GO) test ./internal/arch -run 'Reference' -count 1 -update

$(LINT):
	@echo "building golangci-lint $(LINT_VERSION), once for this clone" >&2
	@GOBIN='$(abspath $(@D))' $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION) || { \
	  echo "golangci-lint $(LINT_VERSION) could not be built. Lint is not skipped: check that the Go module proxy ($$($(GO) env GOPROXY)) answers, or put the program at $(LINT)" >&2; exit 1; }

# ---- longer ----------------------------------------------------------------

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME each (default 10s)
	@grep -rl --include='*_test.go' '^func Fuzz' cmd internal | sort | while read -r file; do \
	  for target in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' "$$file"); do \
	    echo "$$(dirname "$$file") $$target"; \
	    $(GO) test "./$$(dirname "$$file")" -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME); \
	  done; \
	done

.PHONY: bench
bench: ## every benchmark, six times, for benchstat
	@$(GO) test -run '^$$' -bench . -benchmem -count 6 $$(grep -rl --include='*_test.go' '^func Benchmark' cmd internal | xargs -n1 dirname | sort -u | sed 's,^,./,')

.PHONY: bench-queue
bench-queue: mysql ## the write queue next to the same writes sent directly, and its log next to a bare file
	PERDURE_REQUIRE_MYSQL=1 PERDURE_BENCH=queue $(GO) test -count 1 ./internal/queue -run 'TestBench$$' -v -timeout 30m
	PERDURE_REQUIRE_MYSQL=1 PERDURE_BENCH=three $(GO) test -count 1 ./internal/queue -run 'TestBenchThree$$' -v -timeout 30m
	PERDURE_BENCH=log $(GO) test -count 1 ./internal/queue -run 'TestBenchLog$$' -v -timeout 30m

.PHONY: bench-proxy
bench-proxy: mysql ## the proxy next to HAProxy and MySQL Router: CPU per query, latency, connections (PERDURE_BENCH_ONLY=rate,full,tls,pooling,storm)
	PERDURE_REQUIRE_MYSQL=1 PERDURE_BENCH="$$(scripts/get-peers)" $(GO) test -count 1 ./internal/proxy -run 'TestBench$$' -v -timeout 30m

SOAK_SECONDS ?= 600

.PHONY: soak-queue
soak-queue: mysql ## kill everything of the write queue at random and count what was lost or done twice (SOAK_SECONDS=600)
	PERDURE_REQUIRE_MYSQL=1 PERDURE_SOAK=$(SOAK_SECONDS) PERDURE_SOAK_NODES=1 $(GO) test -count 1 ./internal/queue -run 'TestSoak$$' -v -timeout $$(($(SOAK_SECONDS) + 1200))s
	PERDURE_REQUIRE_MYSQL=1 PERDURE_SOAK=$(SOAK_SECONDS) PERDURE_SOAK_NODES=3 $(GO) test -count 1 ./internal/queue -run 'TestSoak$$' -v -timeout $$(($(SOAK_SECONDS) + 1200))s
	PERDURE_REQUIRE_MYSQL=1 PERDURE_SOAK=$(SOAK_SECONDS) PERDURE_SOAK_GROUP=1 $(GO) test -count 1 ./internal/queue -run 'TestSoak$$' -v -timeout $$(($(SOAK_SECONDS) + 1200))s
	PERDURE_REQUIRE_MYSQL=1 PERDURE_SOAK_OUTAGE=$(SOAK_SECONDS) $(GO) test -count 1 ./internal/queue -run 'TestOutage$$' -v -timeout $$(($(SOAK_SECONDS) + 1800))s

FAULTS ?= 10

.PHONY: soak-proxy
soak-proxy: mysql ## every fault FAULTS times under load through the proxy, and 50 rounds of changes of schema (default 10)
	PERDURE_REQUIRE_MYSQL=1 PERDURE_FAULTS=$(FAULTS) PERDURE_ROUNDS=50 $(GO) test -count 1 ./internal/proxy -run 'TestFaultsUnderReadWriteLoad|TestChangesOfSchema' -parallel 1 -v -timeout 90m

SCHEDULES    ?= 100
SOAK_FAULTS  ?= 300
SEED         ?=

KILLS ?= 10

.PHONY: soak-nodes
soak-nodes: mysql ## three nodes: the acting one killed KILLS times, two lost, ways cut (root), events through 50 kills and a full disk (default 10)
	PERDURE_SOAK=50 $(GO) test -count 1 ./internal/jet -run 'EveryPromisedEvent' -v -timeout 20m
	PERDURE_REQUIRE_MYSQL=1 PERDURE_SOAK=$(KILLS) $(GO) test -count 1 ./internal/node -run 'TestThreeNodesLose|TestTheActingNodeIs|TestWaysBetweenNodes|TestAFullDiskOfEvents|TestANodeWhoseDiskIsFull|TestANodeIsReplaced|TestANodeGoesOnAlone' -parallel 1 -v -timeout 60m

.PHONY: bench-nodes
bench-nodes: mysql ## what a node costs at rest, and what events cost
	PERDURE_REQUIRE_MYSQL=1 PERDURE_BENCH=rest $(GO) test -count 1 ./internal/node -run TestWhatANodeCosts -v -timeout 10m
	PERDURE_BENCH=events $(GO) test -count 1 ./internal/jet -run AHundredEvents -v -timeout 5m

.PHONY: soak-heal
soak-heal: mysql ## SCHEDULES random schedules of faults, SOAK_FAULTS seconds each, and a judge after each (default 100 of 300; SEED= repeats)
	PERDURE_REQUIRE_MYSQL=1 PERDURE_SOAK_HEAL=$(SCHEDULES) PERDURE_SOAK_SECONDS=$(SOAK_FAULTS) PERDURE_SEED=$(SEED) $(GO) test -count 1 ./internal/node -run 'TestHealingSoak$$' -v -timeout $$(($(SCHEDULES) * ($(SOAK_FAULTS) + 600) + 600))s

ROUNDS ?= 10

.PHONY: bench-heal
bench-heal: mysql ## ROUNDS losses of a member by kill -9 and by SIGSTOP under 32 writers, next to MySQL alone; rolling plans; what is no fault
	PERDURE_REQUIRE_MYSQL=1 PERDURE_BROWNOUT=$(ROUNDS) $(GO) test -count 1 ./internal/node -run 'TestBrownOut$$' -v -timeout 90m
	PERDURE_REQUIRE_MYSQL=1 PERDURE_ROLLING=$(ROUNDS) $(GO) test -count 1 ./internal/node -run 'TestRollingPlans' -v -timeout 90m
	PERDURE_REQUIRE_MYSQL=1 PERDURE_ROLLING=2 PERDURE_THINK=0s $(GO) test -count 1 ./internal/node -run 'TestRollingPlans' -v -timeout 30m
	PERDURE_REQUIRE_MYSQL=1 PERDURE_FALSE_ALARMS=1 PERDURE_DRILLS=1 $(GO) test -count 1 ./internal/node -run 'TestNothingIsDone|TestDrillsAreGotOver' -parallel 1 -v -timeout 60m

.PHONY: clean
clean: ## remove what was built here; the MySQL server in the user's cache stays
	rm -rf bin .cache
