# Every target sets up what it needs: an environment of its own in .venv, nothing outside the checkout.
#
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu     a machine without a GPU (smaller download)
#   make install PYTHON=/opt/python3.12/bin/python3                another interpreter

SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NATIVE := $(VENV)/.native
TORCH_INDEX ?=
TORCH := $(shell grep '^torch==' constraints.txt)
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then command -v $$p; break; fi; done)
ARGS ?=

export OMP_NUM_THREADS ?= 1
export RAY_USAGE_STATS_ENABLED ?= 0

.DEFAULT_GOAL := help
.PHONY: missing help install demo test slow lint format types layers docs clean

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## */\1\t/' | while IFS=$$'\t' read -r name text; \
	do printf '  make %-8s %s\n' "$$name" "$$text"; done

install: $(NATIVE) ## the environment alone (.venv)
	@$(BIN)/python -m caloray.flows.backends

$(STAMP): pyproject.toml constraints.txt hatch_build.py
	@if [ -z "$(PYTHON)" ]; then echo "caloray needs Python 3.11 or newer (set PYTHON=...)" >&2; exit 69; fi
	@if [ ! -x $(BIN)/python ]; then "$(PYTHON)" -m venv $(VENV); fi
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) '$(TORCH)'
	CALORAY_NATIVE_BUILD=0 $(BIN)/python -m pip install --quiet -c constraints.txt --group dev -e .
	@touch $(STAMP)

# The native library, again when a source has changed. Without a compiler everything works, but samples slowly.
$(NATIVE): $(STAMP) $(if $(wildcard caloray/native/libcaloray_native.so),,missing) $(wildcard caloray/native/src/*) caloray/native/build.py
	@if [ "$(CALORAY_NATIVE_BUILD)" = 0 ]; then echo "CALORAY_NATIVE_BUILD=0: the native library is not built"; \
	elif $(BIN)/python caloray/native/build.py; then touch $@; \
	else echo "caloray goes without its native library" >&2; test "$(CALORAY_NATIVE_BUILD)" != require; fi

demo: $(NATIVE) ## data to showers to figures in about ten minutes; results in runs/demo
	$(BIN)/caloray run configs/demo.yaml $(ARGS)

test: $(NATIVE) ## the tests, without the slow ones
	$(BIN)/python -m pytest $(ARGS)

slow: $(NATIVE) ## all tests, the slow ones too
	$(BIN)/python -m pytest -m "slow or not slow" $(ARGS)

lint: $(STAMP) ## style, spelling, formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell caloray configs docs jobs tests *.md

format: $(STAMP) ## put formatting right
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

types: $(STAMP) ## mypy, strict
	$(BIN)/mypy

layers: $(STAMP) ## which room may import which
	$(BIN)/lint-imports

docs: $(STAMP) ## pages that are made from the code
	$(BIN)/python docs/build_errors.py

clean: ## caches and build products (keeps .venv and runs)
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find caloray tests jobs -name __pycache__ -type d -prune -exec rm -rf {} +
