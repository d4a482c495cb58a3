# Everything starts from Python 3.11+ and make. `make test` and `make demo` set up .venv themselves.

PYTHON ?= python3
VENV := .venv
BENCH := .venv-bench
WEB := .venv/.installed-web
LOWEST := .venv-lowest
BIN := $(VENV)/bin
ENV := $(VENV)/.installed
DOCS := $(VENV)/.installed-docs
BENCH_ENV := $(BENCH)/.installed
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
CODE := src tests benchmarks .ci

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env test test-all test-web test-lowest coverage lint demo docs bench bench-env bench-json \
	torture format clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(ENV)  ## create .venv and install rung3 with its development tools

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "rung3 needs Python 3.11 or newer; name one with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(ENV): pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python $(PIP_INSTALL) -c constraints.txt -e '.[dev]'
	@touch $@

$(DOCS): $(ENV)
	$(BIN)/python $(PIP_INSTALL) -c constraints.txt -e '.[dev,docs]'
	@touch $@

$(BENCH_ENV): pyproject.toml benchmarks/constraints.txt
	test -x $(BENCH)/bin/python || $(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python $(PIP_INSTALL) -c benchmarks/constraints.txt -e '.[bench]'
	@touch $@

$(WEB): $(ENV)
	$(BIN)/python $(PIP_INSTALL) -c constraints.txt -e '.[dev,web,web-test]'
	@touch $@

lint: $(ENV)  ## ruff, mypy, and the order of the packages
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: lint  ## linters, types and the quick tests, one process a core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test-all: lint  ## the same with the slow tests
	$(BIN)/python -m pytest -m "slow or not slow"

coverage: $(ENV)  ## the quick tests, with the lines and branches that they reach (report in htmlcov/)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --cov --cov-report=term --cov-report=html

test-lowest: pyproject.toml constraints.txt  ## the quick tests with the oldest dependencies that are promised
	test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(PYTHON) .ci/lowest.py > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python $(PIP_INSTALL) -c $(LOWEST)/constraints.txt -e '.[attributions,medical,web]' \
		pytest pytest-xdist hypothesis beartype
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -n auto --dist loadfile

test-web: $(WEB)  ## the page in headless Chromium (system path), with screenshots into docs/explorer/
	RUNG3_SCREENSHOTS=docs/explorer $(BIN)/python -m pytest tests/web tests/explorer/test_server.py

demo: $(ENV)  ## the main job on the built-in digits world, ending in runs/digits/report.html
	OMP_NUM_THREADS=1 $(BIN)/rung3 run studies/digits.yaml

docs: $(DOCS)  ## run the examples of the pages, and build them into site/
	$(BIN)/python -m pytest --quiet tests/tour/test_docs.py
	$(BIN)/zensical build --strict --clean

bench-env: $(BENCH_ENV)  ## create .venv-bench: rung3 beside DoWhy

bench: $(BENCH_ENV)  ## side-by-side timings
	for script in benchmarks/bench_*.py; do $(BENCH)/bin/python $$script || exit 1; done

bench-json: $(ENV)  ## time what is compared from one commit to the next, into bench.json
	for name in import calls graph; do \
		OMP_NUM_THREADS=1 $(BIN)/python benchmarks/bench_$$name.py --json bench.json || exit 1; done

torture: $(ENV)  ## break runs and models many times over, and print what was right (an hour or so)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/check_torture.py

format: $(ENV)  ## put the code in the project's format
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

clean:  ## remove environments, caches and built pages (runs/ is yours: it stays)
	rm -rf $(VENV) $(BENCH) $(LOWEST) htmlcov .coverage .coverage.* .cache site build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
