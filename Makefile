# Everything is done by these targets; `make` alone lists them.
#
# Variables, given on the command line:
#   PYTHON=python3.12        the interpreter that makes the environment (3.11 or newer)
#   VENV=/path               another environment than .venv (conda users: VENV="$CONDA_PREFIX")
#   PIP_ARGS="..."           more arguments for pip, such as an index with torch's CPU build
#   JOBS=2                   runs to train at a time, one core each
#   PYTEST_ARGS="-k toy"     more arguments for pytest
#   HF_HUB_OFFLINE=0         let `make book` fetch a model that a notebook's parameters name
#   RUNS_ARGS="--again"      more arguments for `make toy` and `make european`

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
PIP_ARGS ?=
PYTEST_ARGS ?=
VENV = .venv

# Checked before anything else: `make book VENV="$CONDA_PREFIX"` without an active environment gives an empty VENV.
ifneq ($(words $(VENV)),1)
$(error VENV='$(VENV)' is empty or has a space in it; a folder is wanted. \
  For VENV="$$CONDA_PREFIX", run `conda activate addends` first)
endif
ENVIRONMENT := $(abspath $(VENV))
ifneq ($(words $(ENVIRONMENT)),1)
$(error '$(CURDIR)' has a space in it, and make cannot work there. Move the repository)
endif
ifneq ($(filter $(or $(realpath $(ENVIRONMENT)),$(ENVIRONMENT)),/ $(realpath $(CURDIR)) $(realpath $(HOME))),)
$(error VENV=$(VENV) is $(ENVIRONMENT), which holds more than an environment. Name a folder of its own, such as .venv)
endif
BIN := $(ENVIRONMENT)/bin
INSTALLED := $(ENVIRONMENT)/.addends-installed
OWN := $(ENVIRONMENT)/.addends-made

# The environment's own programs and its own kernel, whatever else the user has installed.
export PATH := $(BIN):$(PATH)
export JUPYTER_PREFER_ENV_PATH := 1

.PHONY: help env book test lab lint bench toy european figure clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

env: $(INSTALLED)  ## Make .venv and install what constraints.txt pins (done once, and again when the pins change)

# Nothing that this Makefile did not make is ever cleared. An environment that has pip, a conda one too, is installed
# into. A new folder gets a mark, `OWN`, before anything else; only one with that mark, or .venv at the root, is made
# again from nothing, and only if it is a virtual environment in which pip is missing (its making was cut off, or its
# Python is gone). Everything else is left alone, with a message.
#
# The stamp is written last: an install that was interrupted is taken up again.
$(INSTALLED): pyproject.toml constraints.txt
	@if ! "$(BIN)/python" -m pip --version >/dev/null 2>&1; then \
	  fail() { echo "$$@" >&2; exit 1; }; \
	  folder="$(ENVIRONMENT)"; real="$$(realpath -m "$$folder")"; own=""; \
	  if [ -e "$(OWN)" ] || [ "$$real" = "$$(realpath .)/.venv" ]; then own=yes; fi; \
	  if [ -d "$$folder/conda-meta" ]; then \
	    fail "$$folder is a conda environment without Python or pip. Add them with" \
	      "'conda install --prefix $$folder python pip', then run make again."; \
	  fi; \
	  clear=""; \
	  if [ -e "$$folder/pyvenv.cfg" ]; then \
	    [ "$$own" ] || fail "$$folder is a virtual environment in which pip does not run, and it was not made by make." \
	      "Mend it ('$(BIN)/python -m ensurepip'), delete it yourself, or name another folder with VENV=."; \
	    clear=--clear; \
	  elif [ -e "$$folder" ] && [ ! -e "$(OWN)" ] && { [ ! -d "$$folder" ] || [ "$$(ls -A "$$folder")" ]; }; then \
	    fail "$$folder holds something else than an environment, and is left as it is." \
	      "Name a new or empty folder with VENV=."; \
	  fi; \
	  "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	    fail "addends needs Python 3.11 or newer; '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1 || true)." \
	      "Name another one: make $(or $(MAKECMDGOALS),env) PYTHON=python3.11"; \
	  mkdir -p "$$folder"; touch "$(OWN)"; \
	  "$(PYTHON)" -m venv $$clear "$$folder" || \
	    fail "'$(PYTHON) -m venv' failed. Some systems package it apart from Python (python3-venv)."; \
	  touch "$(OWN)"; \
	fi
	@"$(BIN)/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(VENV) holds $$("$(BIN)/python" --version), and addends needs Python 3.11 or newer:" \
	       "name another folder with VENV=, and a newer Python with PYTHON=python3.11." >&2; exit 1; }
	@echo "Installing into $(VENV): a few minutes the first time."
	"$(BIN)/python" -m pip install --disable-pip-version-check --quiet --constraint constraints.txt $(PIP_ARGS) \
	  --editable '.[models,book,test]'
	@touch "$@"

# The book. Jupyter Book keeps the outputs of executed notebooks in _build/.jupyter_cache, by the notebooks' own text,
# and the pages it has read in _build/.doctrees. Neither sees what a notebook reads, so both go when that has changed:
# `inputs` is one line that stands for all of it.
inputs = { find lib data _config.yml constraints.txt -type f ! -path '*/__pycache__/*' ! -path '*.egg-info/*' \
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

test: $(INSTALLED)  ## Run all tests
	"$(BIN)/python" -m pytest $(PYTEST_ARGS)

# Books and tests use what is in the repository: no model is looked for elsewhere, unless HF_HUB_OFFLINE=0 is given.
book test: export HF_HUB_OFFLINE ?= 1

lab: $(INSTALLED)  ## Open JupyterLab on notebooks/
	"$(BIN)/python" -m jupyterlab --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/notebooks

lint: $(INSTALLED)  ## Check style: ruff, stripped notebooks, YAML (the same hooks as pre-commit)
	"$(BIN)/python" -m pre_commit run --all-files --show-diff-on-failure

# Ratios to a plain forward pass, and memory. Let nothing else run meanwhile.
bench: $(INSTALLED)  ## Measure speed and memory anew, for the book's page on performance (10 minutes on a quiet machine)
	"$(BIN)/python" tests/benchmarks/bench_decomposition.py --output data/performance
	"$(BIN)/python" tests/benchmarks/bench_measure.py --output data/performance
	"$(BIN)/python" tests/benchmarks/bench_mixed.py --output data/performance/mixed.parquet

# Runs. One whose tables are in data/ is left alone, one that was cut off goes on; checkpoints are in runs/.
JOBS ?= 2
RUNS_ARGS ?=

toy: $(INSTALLED)  ## Train and measure the runs on made-up languages (no data needed, a few minutes)
	"$(BIN)/python" -m addends.runs toy --jobs $(JOBS) $(RUNS_ARGS)

european: $(INSTALLED)  ## Train and measure the runs on real text (needs ADDENDS_DATA; an hour or more)
	"$(BIN)/python" -m addends.runs european --jobs $(JOBS) --ship fra-i1-o1 $(RUNS_ARGS)

figure: $(INSTALLED)  ## Take the README's figure anew from the book, which must be built
	"$(BIN)/python" -c "from addends.provenance import save_figure; save_figure( \
	  '_build/jupyter_execute/notebooks/01_decompose_one_sentence.ipynb', 'figure-importance-by-token', \
	  'book/_static/one_sentence.png')"

clean:  ## Remove what book, test and lint made; .venv stays
	rm -rf _build .pytest_cache .ruff_cache
	find lib tests notebooks book -name __pycache__ -o -name .ipynb_checkpoints | xargs -r rm -rf
