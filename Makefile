# make setup   the environment, in .venv
# make setup-dev   with what tests, linters and the API reference need (python docs/api.py api)
# make demo    all figures from real handwritten digits, in minutes
# make test    every test, and the linters
# make test-fast   the linters, and the tests that take seconds, with fewer random examples: no Slurm, the workflow runs once
# make engine  the event-driven engine compiled for the usual widths of weights, if it is not yet: a minute, once on a machine
# make fuzz   3,000 mutations of every file format that is read, some minutes; part of them are among the tests
# make benchmark   the engines side by side; docs/performance.md
PYTHON ?= python3
CORES ?= 2
BIN := .venv/bin
CONSTRAINTS := envs/constraints.txt
# one process a core; the groups and their order: tests/conftest.py
PYTEST := $(BIN)/pytest -n $(CORES)

.PHONY: setup setup-dev demo test test-fast lint engine fuzz benchmark clean
.DELETE_ON_ERROR:

setup: .venv/setup

setup-dev: .venv/setup-dev

demo: .venv/setup
	$(BIN)/snakemake --cores $(CORES) --configfile presets/digits.yaml
	@echo "Figures: results/digits/figs/"

# the engine is compiled beside the linters: many tests need it at once, and each would compile it
test: .venv/setup-dev
	$(MAKE) -j 2 lint engine
	$(PYTEST)

test-fast: .venv/setup-dev
	$(MAKE) -j 2 lint engine
	FEWER_EXAMPLES=1 $(PYTEST) -m "not slow"

engine: .venv/setup-dev
	$(BIN)/python tests/compile_engine.py

lint: .venv/setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint --configfile presets/digits.yaml
	$(BIN)/snakemake --lint --snakefile workflow/Snakefile

fuzz: .venv/setup-dev
	$(BIN)/python tests/test_fuzz.py 1 3000

benchmark: .venv/setup
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv

.venv/python:
	@command -v $(PYTHON) >/dev/null || \
		{ echo "there is no $(PYTHON) here; name a Python of 3.11 or newer that is: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "negspike needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

.venv/setup: .venv/python pyproject.toml $(CONSTRAINTS)
	$(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) -e '.[workflow]'
	touch $@

.venv/setup-dev: .venv/setup pyproject.toml $(CONSTRAINTS)
	$(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) -e '.[workflow,dev]'
	touch $@
