# make run    sets everything up and runs the quick start
# make test   sets everything up and runs all tests
# make check  what CI runs: linters, types, layers, all tests
# make soak   hours: the whole fault matrix, and 2,000 trials with random failures
# make quick  linters and the tests that need no model, in under 30 seconds

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
RUN ?= runs/quickstart

export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: run test check soak quick lint setup

setup: $(READY)

# torch first and pinned: unpinned, pip may take a build with gigabytes of CUDA packages.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)

run: $(READY)
	@if [ -e $(RUN)/study.sqlite3 ]; then \
		$(BIN)/milp-search resume $(RUN); \
	else \
		$(BIN)/milp-search run experiments/quickstart.yaml --out $(RUN); \
	fi

# Two at a time, each file in one process: many tests wait for processes of their own.
test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: lint test

lint: $(READY)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/pydoclint --quiet milp_search scripts benchmarks
	$(BIN)/lint-imports

soak: $(READY)
	MILP_SOAK=1 $(BIN)/python -m pytest tests/faults
	$(BIN)/python benchmarks/soak/run.py

quick: $(READY)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/python -m pytest -q -x -m 'not slow and not gpu' \
		tests/architecture tests/data tests/metrics tests/space tests/study
