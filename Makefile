# Everything is done by these targets; `make` alone lists them.
#
# Variables, given on the command line:
#   PYTHON=python3.12        the interpreter that makes the environment (3.11 or newer)
#   VENV=/path               another environment than .venv (conda users: VENV="$CONDA_PREFIX")
#   PIP_ARGS="..."           more arguments for pip, such as an index with torch's CPU build
#   JOBS=2                   runs to train at a time, one core each
#   PYTEST_ARGS="-k toy"     more arguments for pytest

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
PIP_ARGS ?=
PYTEST_ARGS ?=
VENV = .venv

ENVIRONMENT := $(abspath $(VENV))
BIN := $(ENVIRONMENT)/bin
INSTALLED := $(ENVIRONMENT)/.addends-installed

# The environment's own programs and its own kernel, whatever else the user has installed.
export PATH := $(BIN):$(PATH)
export JUPYTER_PREFER_ENV_PATH := 1

.PHONY: help env book test lab lint toy european figure clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

env: $(INSTALLED)  ## Make .venv and install what constraints.txt pins (done once, and again when the pins change)

# The stamp is written last: an install that was interrupted is taken up again.
$(INSTALLED): pyproject.toml constraints.txt
	@if ! "$(BIN)/python" -m pip --version >/dev/null 2>&1; then \
	  "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "addends needs Python 3.11 or newer; '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1 || true)." \
	         "Name another one: make $(or $(MAKECMDGOALS),env) PYTHON=python3.11" >&2; exit 1; }; \
	  "$(PYTHON)" -m venv --clear "$(ENVIRONMENT)" || { \
	    echo "'$(PYTHON) -m venv' failed. Some systems package it apart from Python (python3-venv)." >&2; exit 1; }; \
	fi
	@"$(BIN)/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(VENV) holds $$("$(BIN)/python" --version), and addends needs Python 3.11 or newer:" \
	       "remove $(VENV) and run make again with PYTHON=python3.11." >&2; exit 1; }
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

# Books and tests use what is in the repository: no model is looked for elsewhere.
book test: export HF_HUB_OFFLINE = 1

lab: $(INSTALLED)  ## Open JupyterLab on notebooks/
	"$(BIN)/python" -m jupyterlab --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/notebooks

lint: $(INSTALLED)  ## Check style: ruff, stripped notebooks, YAML (the same hooks as pre-commit)
	"$(BIN)/python" -m pre_commit run --all-files --show-diff-on-failure

# Runs. What is finished is left alone, what was cut off goes on; checkpoints are in runs/, tables in data/.
JOBS ?= 2

toy: $(INSTALLED)  ## Train and measure the runs on made-up languages (no data needed, a few minutes)
	"$(BIN)/python" -m addends.runs toy --jobs $(JOBS)

european: $(INSTALLED)  ## Train and measure the runs on real text (needs ADDENDS_DATA; an hour or more)
	"$(BIN)/python" -m addends.runs european --jobs $(JOBS) --ship fra-i1-o1

figure: $(INSTALLED)  ## Take the README's figure anew from the book, which must be built
	"$(BIN)/python" -c "from addends.figures.provenance import save_figure; save_figure( \
	  '_build/jupyter_execute/notebooks/01_decompose_one_sentence.ipynb', 'figure-importance-by-token', \
	  'book/_static/one_sentence.png')"

clean:  ## Remove what book, test and lint made; .venv stays
	rm -rf _build .pytest_cache .ruff_cache
	find lib tests notebooks book -name __pycache__ -o -name .ipynb_checkpoints | xargs -r rm -rf
