# `make run` and `make test` do all their own set-up; nothing but Python 3.11+ and make is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Processes at a time, of the tests and of whatever else runs side by side.
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup run demo record reference test api-check check format clean import-time failures bench scale postgres-versions model simulate torture fuzz sweeps mutants frameworks hole

help:
	@echo "make run          the gateway with the practice model (no key needed)"
	@echo "make demo         half a minute: a model call hangs, a process dies, the sessions go on"
	@echo "make record       record the demo into docs/demo.svg"
	@echo "make reference    write the reference in docs from the code"
	@echo "make bench        measure beside peers and floors, write docs/benchmarks.md; QUICK=1: rehearse"
	@echo "make scale        what a turn costs PostgreSQL, and a plan from it: docs/design/scale.md"
	@echo "make postgres-versions  the tests on a database with other versions of the server"
	@echo "make test         the tests"
	@echo "make api-check    the gateway against its description: thousands of requests, minutes"
	@echo "make failures     the failure suite with its faults; writes docs/failures.md"
	@echo "make model        every state of the lock's protocol, and its mutants (needs spin, gcc)"
	@echo "make simulate     schedules of a simulated machine: SEEDS=n START=s, SEED=s to replay one,"
	@echo "                  MUTANTS=1 to plant races and find each"
	@echo "make torture      parts that take longer than tests may: PART=name; without one, their list"
	@echo "make fuzz         hostile inputs for whatever reads, by what they reach in the code: TARGET=name,"
	@echo "                  SECONDS=60 for each target, SEED=n; BITES=1: plant faults, find each"
	@echo "make sweeps       kill, stop, cut, refuse at every file call, and chaos: PART=kill|stop|power|"
	@echo "                  errno|chaos, SEED=n, QUICK=1 for a few of all points"
	@echo "make mutants      plant faults in the code, and see which test catches each: ARGS=part"
	@echo "make frameworks   what plugs into agent frameworks, against their oldest and newest versions:"
	@echo "                  FRAMEWORK=name, AGE=oldest|newest"
	@echo "make hole         run the examples without and with Turnlock, write docs/frameworks.md: ARGS=name"
	@echo "make check        format, lint, strict types"
	@echo "make format       rewrite the files in the project's format"
	@echo "make import-time  CPU time of 'import turnlock'"

setup: $(READY)

$(READY): pyproject.toml requirements/dev.txt
	@scripts/make-venv "$(PYTHON)" "$(VENV)"
	@touch $@

run: setup
	@$(BIN)/turnlock gateway --state-dir "$${TURNLOCK_STATE_DIR:-.state}"

demo: setup
	@$(BIN)/turnlock demo

record: setup
	$(BIN)/python scripts/record_demo.py docs/demo.svg

reference: setup
	$(BIN)/python scripts/reference.py

bench: .bench/.ready
	.bench/venv/bin/python -m bench $(if $(QUICK),--quick) $(ARGS)

scale: .bench/.ready
	.bench/venv/bin/python -m bench.scale $(if $(QUICK),--quick)

.bench/.ready: pyproject.toml requirements/bench.txt scripts/make-bench
	@scripts/make-bench "$(PYTHON)"
	@touch $@

postgres-versions: setup
	@scripts/postgres-versions $(BIN)/python $(ARGS)

test: setup
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

hole: setup
	$(BIN)/python scripts/hole_page.py $(ARGS)

api-check: setup
	$(BIN)/python scripts/api_check.py $(ARGS)

failures: setup
	$(BIN)/python -m tests.failures --jobs $(JOBS) $(ARGS)

SEEDS ?= 20000
START ?= 0

torture: setup
	$(BIN)/python scripts/torture.py $(PART)

simulate: setup
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS) --start $(START) --jobs $(JOBS) \
		$(if $(SEED),--seed $(SEED)) $(if $(MUTANTS),--mutants)

SECONDS ?= 60

ifdef BITES
fuzz: setup
	$(BIN)/python -m pytest -m bites tests/fuzz $(ARGS)
else
fuzz: .fuzz/.ready
	@.fuzz/venv/bin/python -m tests.fuzz --seconds $(SECONDS) \
		$(if $(TARGET),--target $(TARGET)) $(if $(SEED),--seed $(SEED)) $(ARGS)
endif

.fuzz/.ready: pyproject.toml requirements/fuzz.txt scripts/make-fuzz
	@scripts/make-fuzz "$(PYTHON)"
	@touch $@

sweeps: setup
	@$(BIN)/python -m tests.sweeps --jobs $(JOBS) $(if $(PART),--part $(PART)) \
		$(if $(SEED),--seed $(SEED)) $(if $(QUICK),--quick) $(ARGS)

mutants: setup
	@$(BIN)/python -m tests.mutants --jobs $(JOBS) $(ARGS)

frameworks:
	@scripts/frameworks "$(PYTHON)" $(JOBS) $(FRAMEWORK) $(AGE)

check: setup
	$(BIN)/ruff format --check src tests scripts bench examples
	$(BIN)/ruff check src tests scripts bench examples
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format src tests scripts bench examples
	$(BIN)/ruff check --fix src tests scripts bench examples

model: setup
	$(BIN)/python scripts/model.py $(ARGS)

import-time: setup
	$(BIN)/python scripts/import_time.py

clean:
	rm -rf $(VENV) .bench .frameworks .fuzz .postgres build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
