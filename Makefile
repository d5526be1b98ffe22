# make backflip and make test set everything up themselves; make alone lists the targets.
#
# To choose the interpreter:      make setup PYTHON=/path/to/python3.12
# To pass options on to pip:      make setup PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
#   (that one installs PyTorch's CPU build, a tenth of the size; prefrl needs no GPU)
# Another seed, length or folder: make backflip SEED=1 STEPS=2e6 RUN=runs/backflip-1

PYTHON ?=
PIP_ARGS ?=
SEED ?= 0
STEPS ?=
RUN ?= runs/backflip
# Tests run a process more than there are cores, as many wait for a process of their own; four at most: each loads
# PyTorch.
PYTEST_ARGS ?= --numprocesses $(shell expr $$(nproc) + 1) --maxprocesses 4 --dist worksteal

# pip and apt-get, and later the tests and mypy, work side by side.
MAKEFLAGS += --jobs=2

BIN := .venv/bin
CANDIDATES := $(or $(PYTHON),python3.11 python3.12 python3.13 python3 python)
SUITABLE := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))

.DEFAULT_GOAL := help
.PHONY: help setup system backflip test lint

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1: /p' $(MAKEFILE_LIST) | awk -F': ' '{ printf "make %-10s %s\n", $$1, $$2 }'

setup: .venv/.installed .venv/.rendering ## create .venv with the tested versions, so that .venv/bin/prefrl works

system: .venv/.installed ## check that MuJoCo can render videos; as root, install the libraries it lacks
	@$(BIN)/python scripts/rendering.py

backflip: setup ## teach a hopper the backflip from 900 comparisons; video and report in runs/backflip
	$(BIN)/prefrl train hopper-backflip --labels 900 --seed $(SEED) $(if $(STEPS),--steps $(STEPS) )--run-dir $(RUN)

test: setup .venv/.postgresql .venv/.chromium ## run the tests
	$(BIN)/pytest $(PYTEST_ARGS)

lint: setup ## check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

.venv/bin/python:
	@for python in $(CANDIDATES); do \
	  if "$$python" -c '$(SUITABLE)' 2>/dev/null; then echo "creating .venv with $$python"; exec "$$python" -m venv .venv; fi; \
	done; \
	echo "no Python 3.11, 3.12 or 3.13 with its venv module among: $(CANDIDATES); type apt-get install python3-venv," \
	  "or name one with make setup PYTHON=/path/to/python3.12" >&2; exit 1

# pip compiles on one core; a few of the packages hold templates that are no Python, and don't compile. prefrl is
# compiled too, for those who have PYTHONDONTWRITEBYTECODE set: each command would compile it anew.
.venv/.installed: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing prefrl and what it needs into .venv; this takes some minutes"
	@$(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check --no-input $(PIP_ARGS) --constraint constraints.txt --editable '.[test]'
	@$(BIN)/python -m compileall -qq -j 0 .venv/lib prefrl || true
	@touch $@

# Without PostgreSQL the tests of a store by URL are skipped, each run with a line that says so.
.venv/.postgresql: | .venv/bin/python
	@if $(BIN)/python scripts/postgresql.py; then touch $@; fi

# Without Chromium the tests of the labelling page are skipped, each run with a line that says so.
.venv/.chromium: | .venv/bin/python
	@if $(BIN)/python scripts/chromium.py; then touch $@; fi

# Without rendering there are no videos, but everything else works: no reason to fail. Asked again at the next make.
.venv/.rendering: .venv/.installed
	@if $(BIN)/python scripts/rendering.py; then touch $@; fi
