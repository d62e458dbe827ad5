# make setup   the environment, in .venv
# make demo    all three figures from real handwritten digits, in minutes
# make test    every test, and the linters
# make benchmark   the engines side by side; docs/performance.md
PYTHON ?= python3
CORES ?= 2
BIN := .venv/bin
CONSTRAINTS := envs/constraints.txt

.PHONY: setup demo test lint benchmark clean
.DELETE_ON_ERROR:

setup: .venv/setup

demo: .venv/setup
	$(BIN)/snakemake --cores $(CORES) --configfile presets/digits.yaml
	@echo "Figures: results/digits/figs/"

test: .venv/setup-dev lint
	$(BIN)/pytest

lint: .venv/setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint --configfile presets/digits.yaml

benchmark: .venv/setup
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv

.venv/python:
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
