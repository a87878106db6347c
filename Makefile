# Each target works when it is run first, on a machine that has nothing but Python 3.11 or newer:
# it makes .venv, installs what it needs, and does that again only when pyproject.toml or TORCH changes.
#
#   make test                                   run everything a change must pass
#   make test ARGS="-k sorting -x"              hand arguments to pytest
#   make test PYTHON=python3.12                 another interpreter
#   make test TORCH="torch==2.13.0 --index-url URL"   another build of torch (CPU only, CUDA, ROCm)

PYTHON ?= python3
TORCH ?= torch==2.13.0
WORKERS ?= 2
ARGS ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# One thread for each test worker: two workers with two threads each fight over two cores.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help quickstart test lint types format bench golden base-given clean FORCE

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 21

quickstart: .venv/installed-all ## train on built-in digits, compare sub-networks, export one (a few minutes)
	$(BIN)/onceforall quickstart $(ARGS)

test: lint types ## lint, types, import order and all tests
	$(ONE_THREAD) $(BIN)/pytest -n $(WORKERS) --dist worksteal $(ARGS)

lint: .venv/installed-dev ## style, format and the order of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	PYTHONPATH=src $(BIN)/lint-imports --no-logo

types: .venv/installed-dev ## check types
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

format: .venv/installed-dev ## mend style and format where a machine can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: .venv/installed-dev ## run every script of benchmarks/
	@[ -e runs/quickstart/run.json ] || $(BIN)/onceforall quickstart
	@for script in benchmarks/*.py; do \
		[ "$$script" != benchmarks/common.py ] || continue; \
		echo "== $$script"; $(BIN)/python "$$script" $(ARGS) || exit 1; \
	done

golden: base-given .venv/installed-dev ## BASE=commit [HEAD=commit]: do 20 steps of each schedule give the same losses?
	$(ONE_THREAD) $(BIN)/python tests/golden/compare.py $(BASE) $(HEAD) $(ARGS)

base-given:
	@[ -n "$(BASE)" ] || { echo "usage: make golden BASE=<commit> [HEAD=<commit>]   (without HEAD: the working tree)"; exit 2; }

clean: ## remove the environment, caches and builds
	rm -rf .venv build dist src/*.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage htmlcov
	find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# -- the environment ---------------------------------------------------------------------------------------------

.venv/installed-all: .venv/torch pyproject.toml
	$(PIP) install --quiet -e ".[all]"
	@touch $@

.venv/installed-dev: .venv/torch pyproject.toml
	$(PIP) install --quiet -e ".[all,dev]"
	@touch $@ .venv/installed-all

# Holds the text of TORCH, and is rewritten (so: newer) only when that text changes.
.venv/torch: FORCE
	@if [ "$$(cat $@ 2>/dev/null)" != '$(TORCH)' ]; then \
		$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
			echo "onceforall needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)."; \
			echo "Name another one: make PYTHON=python3.12 ..."; exit 1; }; \
		[ -x $(BIN)/pip ] || $(PYTHON) -m venv .venv || { \
			echo "'$(PYTHON) -m venv' failed: on Debian and Ubuntu install the package python3-venv."; exit 1; }; \
		echo "Installing $(TORCH) and what onceforall needs into .venv (once, some minutes) ..."; \
		$(PIP) install --quiet $(TORCH) || exit 1; \
		echo '$(TORCH)' > $@; \
	fi
