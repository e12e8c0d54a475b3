# Everything is done by these targets; `make` alone lists them.
#
# Variables, given on the command line:
#   PYTHON=python3.12        the interpreter that makes the environment (3.11 or newer)
#   VENV="$CONDA_PREFIX"     the active conda environment instead of .venv
#   PIP_ARGS="..."           more arguments for pip, such as an index with torch's CPU build
#   WORKERS=2                runs to train at a time, one core each
#   PYTEST_ARGS="-k toy"     more arguments for pytest
#   TEST_PROCESSES=8         processes of `make test`, a core and 2 GB each
#   HF_HUB_OFFLINE=0         let `make book` fetch a model that a notebook's parameters name
#   TRAIN_ARGS="--again"     more arguments of `addends train` and `addends measure`, for `make toy` and `make european`

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
PIP_ARGS ?=
PYTEST_ARGS ?=
VENV = .venv

# One of two environments: .venv, which make makes, or the conda environment that is active.
ifneq ($(VENV),.venv)
ifneq ($(VENV),$(or $(CONDA_PREFIX),no environment))
$(error VENV='$(VENV)': the environment is .venv, or, after `conda activate addends`, VENV="$$CONDA_PREFIX")
endif
endif
ENVIRONMENT := $(abspath $(VENV))
ifneq ($(words $(ENVIRONMENT)),1)
$(error '$(ENVIRONMENT)' has a space in it, and make cannot work there. Move the repository, or the environment)
endif
BIN := $(ENVIRONMENT)/bin
INSTALLED := $(ENVIRONMENT)/.addends-installed

# The environment's own programs and its own kernel, whatever else the user has installed.
export PATH := $(BIN):$(PATH)
export JUPYTER_PREFER_ENV_PATH := 1

.PHONY: help env book test quick lab lint bench toy european coverage replicate figure clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

env: $(INSTALLED)  ## Make .venv and install what constraints.txt pins (done once, and again when the pins change)

# A conda environment is installed into. .venv is made, and made again where its making was cut off or its Python is
# gone (it is then a virtual environment without pip). The stamp is written last: an install that was interrupted is
# taken up again.
$(INSTALLED): pyproject.toml constraints.txt
	@fail() { echo "$$@" >&2; exit 1; }; python="$(BIN)/python"; \
	if ! "$$python" -m pip --version >/dev/null 2>&1; then \
	  python="$(PYTHON)"; \
	  [ "$(VENV)" = .venv ] || fail "pip does not run in $(VENV). Add it: conda install --prefix $(VENV) python pip"; \
	  [ ! -e .venv ] || [ -e .venv/pyvenv.cfg ] || fail ".venv holds something else than an environment. Move it away."; \
	fi; \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  fail "addends needs Python 3.11 or newer; '$$python' is $$("$$python" --version 2>&1 || true)." \
	    "Name another one: make $(or $(MAKECMDGOALS),env) PYTHON=python3.11"; \
	[ "$$python" = "$(BIN)/python" ] || "$$python" -m venv --clear .venv || \
	  fail "'$$python -m venv' failed. Some systems package it apart from Python (python3-venv)."
	@echo "Installing into $(VENV): a few minutes the first time."
	"$(BIN)/python" -m pip install --disable-pip-version-check --quiet --constraint constraints.txt $(PIP_ARGS) \
	  --editable '.[models,replication,cluster,book,test]'
	@touch "$@"

# The book. Jupyter Book keeps the outputs of executed notebooks in _build/.jupyter_cache, by the notebooks' own text,
# and the pages it has read in _build/.doctrees. Neither sees what a notebook reads, so both go when that has changed:
# `inputs` is one line that stands for all of it.
inputs = { find lib data book/_extensions _config.yml constraints.txt -type f ! -path '*/__pycache__/*' ! -path '*.egg-info/*' \
  -print0 | LC_ALL=C sort -z | xargs -0 sha256sum; echo "ADDENDS_DATA=$${ADDENDS_DATA:-}"; } | sha256sum

# Sphinx reads a page again, and warns about it again, only when the page has changed. A build that failed or was
# killed leaves _build/.unfinished behind, and the next one reads every page (executed notebooks stay in the cache).
book: $(INSTALLED)  ## Execute the notebooks and build the site to _build/html; any warning is an error
	@mkdir -p _build
	@inputs=$$($(inputs)); \
	if [ "$$inputs" != "$$(cat _build/.inputs 2>/dev/null || true)" ]; then \
	  rm -rf _build/.jupyter_cache _build/.doctrees _build/html; \
	fi; \
	if [ -e _build/.unfinished ]; then rm -rf _build/.doctrees _build/html; fi; \
	echo "$$inputs" > _build/.inputs; \
	touch _build/.unfinished
	"$(BIN)/python" "$(BIN)/jupyter-book" build . --warningiserror --keep-going
	@rm _build/.unfinished
	@echo; echo "The book is built. Open it in a browser: file://$(CURDIR)/_build/html/index.html"

# Two processes with one thread each. A file's tests stay in one of them: what they share is made once.
TEST_PROCESSES ?= 2
test: $(INSTALLED)  ## Run all tests
	OMP_NUM_THREADS=1 "$(BIN)/python" -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile $(PYTEST_ARGS)

# Three pages, executed as they stand, and the tests that are quick.
QUICK_TESTS = $(filter-out %/test_coverage.py,$(wildcard tests/crossed/test_*.py)) tests/figures tests/statistics $(wildcard tests/test_*.py) \
  $(patsubst %,tests/decomposition/test_%.py,parts by_sublayer indicators linear)
QUICK = notebooks/02_decompose_one_sentence.ipynb notebooks/08_split_run_and_sentence.ipynb book/performance.ipynb

quick: $(INSTALLED)  ## Execute three pages and run the fast tests, side by side (less than two minutes)
	@mkdir -p _build/quick
	@"$(BIN)/python" -m nbconvert --execute --to html --output-dir _build/quick --log-level ERROR $(QUICK) & pages=$$!; \
	"$(BIN)/python" -m pytest -q -m "not slow" $(QUICK_TESTS) $(PYTEST_ARGS); wait $$pages
	@echo "The pages are in _build/quick."

# Books and tests use what is in the repository: no model is looked for elsewhere, unless HF_HUB_OFFLINE=0 is given.
book test quick: export HF_HUB_OFFLINE ?= 1

lab: $(INSTALLED)  ## Open JupyterLab on notebooks/
	"$(BIN)/python" -m jupyterlab --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/notebooks

lint: $(INSTALLED)  ## Check style and types: ruff, mypy, stripped notebooks, YAML (the hooks of pre-commit)
	"$(BIN)/python" -m pre_commit run --all-files --show-diff-on-failure

# Ratios to a plain forward pass, and memory. Let nothing else run meanwhile.
bench: $(INSTALLED)  ## Measure speed and memory anew, for the book's page on performance (10 minutes on a quiet machine)
	"$(BIN)/addends" bench

# Runs. One whose tables are in data/ is left alone, one that was cut off goes on; checkpoints are in runs/.
WORKERS ?= 2
TRAIN_ARGS ?=

toy: $(INSTALLED)  ## Train and measure the runs on made-up languages (no data needed, a few minutes)
	"$(BIN)/addends" train toy --workers $(WORKERS) $(TRAIN_ARGS)
	"$(BIN)/addends" measure toy --workers $(WORKERS) $(TRAIN_ARGS)

european: $(INSTALLED)  ## Train and measure the runs on real text (needs ADDENDS_DATA; a day on two cores)
	"$(BIN)/addends" train european --workers $(WORKERS) --ship fra-i1-o1 $(TRAIN_ARGS)
	"$(BIN)/addends" measure european --workers $(WORKERS) $(TRAIN_ARGS)

coverage: $(INSTALLED)  ## Simulate anew how often intervals hold the truth, for the book's pages on intervals and on the number of runs
	"$(BIN)/addends" coverage

replicate: $(INSTALLED)  ## Derive the published results anew (downloads them, or reads ADDENDS_DATA; ten minutes)
	"$(BIN)/addends" replicate

figure: $(INSTALLED)  ## Take the README's figure anew from the book, which must be built
	"$(BIN)/python" -c "from addends.provenance import save_figure; save_figure( \
	  '_build/jupyter_execute/notebooks/02_decompose_one_sentence.ipynb', 'figure-importance-by-token', \
	  'book/_static/one_sentence.svg')"

clean:  ## Remove what book, test and lint made; .venv stays
	rm -rf _build build dist .pytest_cache .ruff_cache .mypy_cache
	find lib tests notebooks book -name __pycache__ -o -name .ipynb_checkpoints | xargs -r rm -rf
