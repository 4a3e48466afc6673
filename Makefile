# Two commands do everything: `make repro` and `make test`. Both make .venv from requirements.lock when it is not there.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
FITS := -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p $(FITS) >/dev/null 2>&1 && { command -v $$p; break; }; done)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps
# uv, where there is one, fetches and unpacks wheels side by side; it reads no settings of pip, hence the way back to pip.
UV := $(shell command -v uv)
LOCKED := --require-hashes -r requirements.lock

# Whole files go to each process, in the order of tests/conftest.py. Each process takes up to 3 GB.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# DVC reads export.path before any stage does, and says of null or a number only that it did not expect it.
EXPORT_IS_NAMED := from jaegpt.errors import run; from jaegpt.params import Params; \
	from jaegpt.exports.config import ExportConfig; run(lambda: Params().section('export', ExportConfig).paths and None)

.PHONY: help venv repro test test-fast lint families lock bench-data bench-train bench-gpu tpu clean-venv
.DEFAULT_GOAL := help

help:  ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(VENV)/.installed  ## Make the environment alone.

repro: $(VENV)/.installed  ## Run the whole pipeline on the sample: data, fine-tuned model, figures.
	@test -s dvc.lock || test ! -e dvc.lock || { echo "error: dvc.lock: empty, as a kill leaves it while DVC writes it." \
		"Type \`git checkout dvc.lock\`, then \`make repro\`." >&2; exit 1; }
	@$(BIN)/python -c "$(EXPORT_IS_NAMED)"
	umask 077; began=$$(date +%s); PATH="$(CURDIR)/$(BIN):$$PATH" dvc repro && $(BIN)/python -m jaegpt.runs.times $$began

test: $(VENV)/.installed lint  ## Lint, type check and test (about 12 minutes on 2 cores).
	JAEGPT_MUTATIONS=2000 PATH="$(CURDIR)/$(BIN):$$PATH" pytest $(PARALLEL)

test-fast: $(VENV)/.installed lint  ## The same without browser, pipeline, sweep and other long tests.
	PATH="$(CURDIR)/$(BIN):$$PATH" pytest $(PARALLEL) -m "not slow"

lint: $(VENV)/.installed  ## ruff and mypy.
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

families: $(VENV)/.installed  ## Measure which base models can be trained, and write docs/families.md (up to 27 minutes).
	PYTHONPATH=tests $(BIN)/python -W ignore -m helpers.families

bench-data: $(VENV)/.installed  ## Measure the data stages: speed against plain Python and orjson, memory, readers (6 minutes).
	$(BIN)/python -m benchmarks.bench_data

bench-train: $(VENV)/.installed  ## Measure training: packed against padded, and against the machine's limit (4 minutes).
	PATH="$(CURDIR)/$(BIN):$$PATH" dvc repro encode
	$(BIN)/python -m benchmarks.bench_train

bench-gpu: $(VENV)/.installed  ## Measure training on a CUDA GPU: packed against padded, speed, memory (8 minutes).
	$(BIN)/python -m benchmarks.bench_gpu

tpu: $(VENV)/.installed  ## Add the TPU compiler, for `dvc repro -f tpu_report` and for real TPUs (Linux x86-64).
	$(PIP) --require-hashes -r requirements-tpu.lock

lock:  ## Resolve requirements.lock again from pyproject.toml (needs the program uv).
	uv pip compile pyproject.toml --extra dev --universal --generate-hashes --no-header --no-annotate \
		--python-version 3.11 --upgrade -o requirements.lock
	uv pip compile pyproject.toml --extra tpu --universal --generate-hashes --no-header --no-annotate \
		--python-version 3.11 --constraint requirements.lock -o requirements-tpu.lock

clean-venv:  ## Remove the virtual environment.
	rm -rf $(VENV)

# The lock is complete, so nothing is resolved here. A run that broke off leaves no stamp: it is taken up again, and an
# environment without pip, or of another Python, is made again.
$(VENV)/.installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" && "$(PYTHON)" $(FITS) || { echo "error: jaegpt needs Python 3.11, 3.12 or 3.13; found" \
		"$$($(or $(PYTHON),python3) --version 2>&1 | head -n 1). Install one, or name it: make PYTHON=/path/to/python3.11 repro" >&2; \
		exit 1; }
	@$(BIN)/python $(FITS) 2>/dev/null && $(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV)
	@echo "Installing the locked packages into $(VENV) (about 8 GB on Linux x86-64; a few minutes)"
	$(if $(UV),$(UV) pip install --quiet --python $(BIN)/python --no-deps $(LOCKED) || )$(PIP) $(LOCKED)
	$(PIP) --no-build-isolation -e .
	@touch $@
