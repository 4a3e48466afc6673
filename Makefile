# Two commands do everything: `make repro` and `make test`. Both make .venv from requirements.lock when it is not there.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	>/dev/null 2>&1 && { command -v $$p; break; }; done)

.PHONY: help repro test lint lock clean-venv
.DEFAULT_GOAL := help

help:  ## List the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 14

repro: $(VENV)/.installed  ## Run the whole pipeline on the sample: data, fine-tuned model, figures.
	PATH="$(CURDIR)/$(BIN):$$PATH" dvc repro

test: $(VENV)/.installed  ## Lint, type check and test (at most 15 minutes on 2 cores).
	$(MAKE) --no-print-directory lint
	PATH="$(CURDIR)/$(BIN):$$PATH" pytest

lint: $(VENV)/.installed  ## ruff and mypy.
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

lock:  ## Resolve requirements.lock anew from pyproject.toml (needs the program uv).
	uv pip compile pyproject.toml --extra dev --universal --generate-hashes --no-header --no-annotate \
		--python-version 3.11 --upgrade -o requirements.lock

clean-venv:  ## Remove the virtual environment.
	rm -rf $(VENV)

# The lock is complete, so nothing is resolved here; a run that broke off leaves no stamp and is taken up again.
$(VENV)/.installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: jaegpt needs Python 3.11, 3.12 or 3.13; found $$(python3 --version 2>&1)." \
		"Install one, or name it: make PYTHON=/path/to/python3.11 repro" >&2; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@echo "Installing the locked packages into $(VENV) (about 8 GB on Linux x86-64; a few minutes)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m jaegpt.experiments.plots_page
	@touch $@
