# Everything that is run on this project is a target here; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/engram
export ENGRAM_CACHE := $(CACHE)
export CARGO_TARGET_DIR ?= $(CACHE)/target
BIN := $(CARGO_TARGET_DIR)/release
CARGO := cargo
# Tests are asked for with --workspace: with -p, cargo would build the dependencies anew with other
# features.
# Prints how long a suite took: $(call timed,name,command)
timed = start=$$(date +%s); $(2); end=$$(date +%s); \
	printf '== %s: %d.%d minutes\n' '$(1)' $$(( (end-start)/60 )) $$(( ((end-start)%60)/6 ))

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: setup
setup: ## Install what building needs (Debian, Ubuntu)
	@.ci/setup

.PHONY: build
build: setup ## Build everything
	@$(call timed,build,$(CARGO) build --release --workspace --all-targets)

.PHONY: run
run: setup ## Build, and serve on 127.0.0.1:2379 with data in ./data
	@$(CARGO) build --release --workspace --bin engram
	@.ci/serve $(BIN)/engram

.PHONY: tools
tools: ## Build the real etcd, Kubernetes and our Go programs (into the cache)
	@$(call timed,tools,e2e/tools/build.sh all)

.PHONY: fmt
fmt: ## Format the code
	$(CARGO) fmt --all

.PHONY: check
check: ## Formatting and lints
	@$(CARGO) fmt --all --check
	@.ci/patched
	@$(call timed,clippy,$(CARGO) clippy --release --workspace --all-targets -- -D warnings)

.PHONY: unit
unit: ## Unit and property tests
	@$(call timed,unit tests,$(CARGO) test --release --workspace --lib --bins --test engramctl --test fuzz)

# CI repeats one seed, so that a red run means a change; `make differential` takes new ones.
ENGRAM_DIFF_SEED ?= 514673994528715412

.PHONY: clients-quick
clients-quick: setup
	@.ci/setup clients
	@$(call timed,clients in three languages,e2e/clients/build.sh quick)

.PHONY: one-member
one-member: tools clients-quick ## One member against the real etcd's clients and answers
	@$(call timed,one member,ENGRAM_DIFF_SEED=$(ENGRAM_DIFF_SEED) $(CARGO) test --release --workspace --test one_member -- --nocapture --test-threads=1)

.PHONY: etcd-common
etcd-common: build tools ## etcd's own tests/v3/common on Engram (ENGRAM_ETCD_COMMON_FULL=1: all TLS cases)
	@$(call timed,etcd-common,e2e/etcd-common/run.sh $(BIN)/engram)

.PHONY: cluster
cluster: tools ## Three members under faults: kills, splits, replacement, histories (six minutes)
	@$(call timed,cluster,$(CARGO) test --release --workspace --test cluster -- --nocapture --test-threads=1)

.PHONY: faults-ci
faults-ci: tools ## Slow, full, lost disks, paused leaders, clients and peers that misbehave: CI's form (four minutes)
	@$(call timed,faults,$(CARGO) test --release --workspace --test faults -- --nocapture --test-threads=1)

.PHONY: backup
backup: tools ## Backups and restores: directory, S3, snapshots from and to etcd, engramctl's verbs
	@$(call timed,backup,$(CARGO) test --release --workspace --test backup -- --nocapture --test-threads=1)

.PHONY: backup-clouds
backup-clouds: tools ## Backups in Azurite, Microsoft's emulator of Azure's storage, from npm's registry
	@e2e/clients/build.sh azurite
	@$(call timed,backup-clouds,$(CARGO) test --release --workspace --test backup azurite -- --ignored --nocapture --test-threads=1)

.PHONY: archive
archive: tools ## The log archive's long form: 20 random revisions and times, 50 faults of the store, 50 kills of who uploads
	@$(call timed,archive,ENGRAM_ARCHIVE_FULL=1 $(CARGO) test --release --workspace --test backup archive -- --nocapture --test-threads=1)

.PHONY: kubernetes
kubernetes: tools ## The real kube-apiserver and kube-controller-manager on one member and on three
	@$(call timed,kubernetes,$(CARGO) test --release --workspace --test kubernetes -- --nocapture --test-threads=1)

.PHONY: alerts
alerts: e2e-tools ## Each alert of the operator's chart fires on a real Prometheus (two minutes)
	@$(call timed,alerts,$(CARGO) test --release --workspace --test alerts -- --nocapture --test-threads=1)

# On kind. ENGRAM_KIND_OFFLINE=1: with a node image built here, nothing pulled; without it kind's
# published one. KEEP=1 leaves the clusters up, TEST=name runs one story.
KIND_STORIES = $(CARGO) test --release --workspace --test kind -- --nocapture --test-threads=1 $(TEST)

.PHONY: e2e
e2e: build e2e-tools ## On kind: what CI runs (KEEP=1, TEST=name, ENGRAM_KIND_OFFLINE=1)
	@$(call timed,e2e,$(KIND_STORIES))

.PHONY: e2e-full
e2e-full: build e2e-tools ## On kind: everything
	@$(call timed,e2e in full,ENGRAM_E2E_FULL=1 $(KIND_STORIES))

.PHONY: e2e-tools
e2e-tools:
	@.ci/setup e2e
	@e2e/kind/tools.sh

.PHONY: kind-up
kind-up: build e2e-tools ## A kind cluster of three nodes with the operator and a sample cluster
	@e2e/kind/demo.sh

.PHONY: kind-down
kind-down: ## Delete it
	@e2e/kind/down.sh

.PHONY: image
image: build ## The image as an archive, with nothing pulled (image/Dockerfile is the other way)
	@image/build.sh

.PHONY: charts
charts: build e2e-tools ## Check the charts and their alerts, and that nothing generated is stale
	@.ci/generated $(BIN)/engram-operator
	@$(call timed,charts,charts/check.sh)

.PHONY: test
test: build check unit sim charts one-member etcd-common backup cluster faults-ci kubernetes e2e ## What proves the product on one machine

SEEDS ?= 200
FIRST ?= 1

.PHONY: sim
sim: ## Whole members on one thread, in virtual time, under faults drawn from seeds (SEEDS=n FIRST=n)
	@$(call timed,simulator,$(CARGO) test --release --workspace --test sim -- $(SEEDS) $(FIRST))

.PHONY: sim-long
sim-long: ## The same on and on, whatever fails: which did is said in the end (SEEDS=n FIRST=n)
	@$(call timed,simulator,$(CARGO) test --release --workspace --test sim -- long $(SEEDS) $(FIRST))

.PHONY: sim-one
sim-one: ## One seed again, with the members' logs if ENGRAM_SIM_LOG=1 (SEED=n)
	@$(CARGO) test --release --workspace --test sim -- one $(SEED)

.PHONY: sim-mutants
sim-mutants: ## The simulator judged: it has to find every planted fault
	@$(call timed,mutants,$(CARGO) test --release --workspace --features engram-sim/mutants --test sim -- mutants)

MINUTES ?= 60
FUZZ_REPORT = docs/evidence/fuzz-$(shell date +%F).md

.PHONY: fuzz
fuzz: setup ## libFuzzer on every target (MINUTES=60 each, JOBS=1 at once, TARGET=name: one); writes docs/evidence/fuzz-DATE.md
	@$(call timed,fuzz,JOBS=$(JOBS) server/fuzz/run $(MINUTES) $(FUZZ_REPORT) $(TARGET))

.PHONY: fuzz-quick
fuzz-quick: ## Each fuzz target over its corpus and some thousand inputs that a seed makes of it (a minute)
	@$(call timed,fuzz targets,$(CARGO) test --release --workspace --test fuzz)

CLIENTS_REPORT = docs/evidence/clients-$(shell date +%F).md

.PHONY: clients
clients: build tools ## etcd's clients in Go, Rust, Python, Node and Java, from their registries, beside a real etcd
	e2e/clients/build.sh
	@$(call timed,clients,ENGRAM_CLIENTS_REPORT=$(CURDIR)/$(CLIENTS_REPORT) $(CARGO) test --release --workspace --test one_member every_client -- --ignored --nocapture)

.PHONY: kube-bench
kube-bench: tools ## kube-bench's section on etcd, on kubeadm's command line (KUBE_BENCH=directory of the program and its cfg)
	@$(call timed,kube-bench,ENGRAM_KUBE_BENCH=$(or $(KUBE_BENCH),$(error KUBE_BENCH is the directory of kube-bench and its cfg)) $(CARGO) test --release --workspace --test one_member kube_bench -- --ignored --nocapture)

CONFORMANCE_REPORT = docs/evidence/conformance-$(shell date +%F).md

.PHONY: conformance
conformance: build tools ## etcd's own tests, examples and clients in full (a quarter of an hour); writes docs/evidence/conformance-DATE.md
	e2e/clients/build.sh
	@$(call timed,conformance,e2e/conformance.sh $(BIN)/engram $(CONFORMANCE_REPORT))

.PHONY: adopt-versions
adopt-versions: build tools ## Directories that etcd 3.5 and 3.6 made, adopted in place (builds both)
	e2e/tools/build.sh old
	@$(call timed,older etcds,$(CARGO) test --release --workspace --test backup adopt::versions -- --ignored --nocapture --test-threads=1)

DAMAGE_REPORT = docs/evidence/damage-$(shell date +%F).md

.PHONY: damage
damage: ## Every byte of a log of a mebibyte changed, and the log cut at each (twenty minutes); writes docs/evidence/damage-DATE.md
	@printf '# A damaged log: every byte of a mebibyte\n\n%s, commit %s, `make damage` on %s cores.\n\n| what | result | logs read | refused by name | cut, and said so | nothing was changed | took |\n|---|---|---|---|---|---|---|\n' \
		"$$(date +%F)" "$$(git rev-parse --short HEAD)" "$$(nproc)" > $(DAMAGE_REPORT)
	@$(call timed,damage,ENGRAM_DAMAGE_REPORT=$(CURDIR)/$(DAMAGE_REPORT) $(CARGO) test --release --workspace --lib mebibyte -- --ignored --nocapture)

.PHONY: differential
differential: build tools ## Random operations against a real etcd, a new seed each time (endless: stop it)
	while $(CARGO) test --release --workspace --test one_member random_operations -- --nocapture; do :; done

.PHONY: crash
crash: build tools ## 2,000 kills under load, each audited (half an hour)
	ENGRAM_CRASH_ROUNDS=2000 $(CARGO) test --release --workspace --test one_member crash_audit -- --nocapture

.PHONY: chaos
chaos: build tools ## The same at full length, on five members too, and a control plane (half an hour)
	@$(call timed,chaos,ENGRAM_CHAOS=1 $(CARGO) test --release --workspace --test cluster -- --include-ignored --skip robustness:: --nocapture --test-threads=1)
	@$(call timed,chaos: kubernetes,ENGRAM_CHAOS=1 $(CARGO) test --release --workspace --test kubernetes -- survives moves_from_etcd is_a_user --include-ignored --nocapture --test-threads=1)

# Every story at full length goes on whatever became of the one before; what was seen is written down.
FAULTS_REPORT = docs/evidence/faults-$(shell date +%F)-$(shell git rev-parse --short HEAD).md

.PHONY: faults
faults: build tools ## All faults at full length (an hour); writes docs/evidence/faults-DATE-COMMIT.md
	@printf '# Faults: what the long form found\n\n%s, commit %s, `make faults` on %s cores.\n\n| case | result | took | seen |\n|---|---|---|---|\n' \
		"$$(date +%F)" "$$(git rev-parse --short HEAD)" "$$(nproc)" > $(FAULTS_REPORT)
	@$(call timed,faults in full,ENGRAM_FAULTS=1 ENGRAM_FAULTS_REPORT=$(CURDIR)/$(FAULTS_REPORT) $(CARGO) test --release --workspace --test faults -- --include-ignored --nocapture --test-threads=1)

ROBUSTNESS_REPORT = docs/evidence/robustness-$(shell date +%F).md
# One run again, which is not written down; or all of them.
ROBUSTNESS = $(if $(RUN),ENGRAM_ROBUSTNESS_FIRST=$(RUN) ENGRAM_ROBUSTNESS_RUNS=1,ENGRAM_ROBUSTNESS_RUNS=$(or $(RUNS),100) \
	ENGRAM_ROBUSTNESS_REPORT=$(CURDIR)/$(ROBUSTNESS_REPORT)) $(if $(SEED),ENGRAM_ROBUSTNESS_SEED=$(SEED))

.PHONY: robustness
robustness: build tools ## etcd's robustness traffic and validators under all faults at once (RUNS=100 SEED=s; an hour); writes docs/evidence/. RUN=n SEED=s: one run again
	@$(if $(RUN),,printf '# What etcd says of its own traffic under our faults\n\n%s, commit %s, `make robustness` on %s cores.\n\n| run | traffic | result | took | seen |\n|---|---|---|---|---|\n' \
		"$$(date +%F)" "$$(git rev-parse --short HEAD)" "$$(nproc)" > $(ROBUSTNESS_REPORT))
	@$(call timed,robustness,$(ROBUSTNESS) $(CARGO) test --release --workspace --test cluster $(if $(RUN),all_faults_at_once,robustness) -- --include-ignored --nocapture --test-threads=1)

.PHONY: sim-operator
sim-operator: setup ## The operator's planner in simulated Kubernetes: RUNS histories (100,000; half an hour and more), from SEED on; without SEED a fiftieth as many with recoveries, too
	@$(call timed,sim-operator,ENGRAM_SIM_RUNS=$(or $(RUNS),100000) $(if $(SEED),ENGRAM_SIM_SEED=$(SEED)) $(CARGO) test --release --workspace --lib every_law_is_kept_for_long -- --ignored --nocapture)

.PHONY: bench
bench: build tools ## Side by side with the real etcd; writes bench/RESULTS.md (an hour)
	bench/run.sh

.PHONY: bench-growth
bench-growth: build tools ## The same on stores of 10 k to 5 M keys; writes bench/GROWTH.md and its drawings
	bench/run.sh --growth

.PHONY: bench-backups
bench-backups: build tools ## Backups and restores beside etcd's (GB=10 ROUNDS=1), with two and a half times the room
	bench/backups.py --apart $(or $(GB),10) $(or $(ROUNDS),1)

BENCH_OPERATOR = docs/evidence/operator-$(shell date +%F)-$(shell git rev-parse --short HEAD).md

.PHONY: bench-operator
bench-operator: build tools ## 500 clusters of three on one operator, kube-apiserver on Engram, members played (ten minutes)
	@printf '# One operator and many clusters\n\n%s, commit %s, `make bench-operator` on %s cores, which the datastore, kube-apiserver and\nthe played members share.\n\n' \
		"$$(date +%F)" "$$(git rev-parse --short HEAD)" "$$(nproc)" > $(BENCH_OPERATOR)
	@$(call timed,bench of the operator,ENGRAM_BENCH_REPORT=$(CURDIR)/$(BENCH_OPERATOR) $(CARGO) test --release --workspace --test kubernetes one_operator -- --ignored --nocapture)

.PHONY: manifests
manifests: e2e-tools ## Write CRDs, the charts' copies and manifests/ anew from the operator's types
	@$(CARGO) build --release --workspace
	@mkdir -p manifests/crds
	@$(BIN)/engram-operator crdgen manifests/crds
	@charts/render.sh

.PHONY: loc
loc: ## Lines of code by room
	@wc -l $$(git ls-files 'server/*.rs') | sort -rn | head -40
