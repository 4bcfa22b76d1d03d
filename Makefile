# Everything runs in .venv, or in the environment that is active.  `make setup` is instant once done.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: help setup test slow e2e fuzz cases chaos soak robustness check format lint types bench quickstart demo clean

VENV ?= $(if $(VIRTUAL_ENV),$(VIRTUAL_ENV),.venv)
BIN := $(VENV)/bin
PYTHON ?= python3
STAMP := $(VENV)/.avsync-zoo
# So many test files at a time: those that start Ray wait more than they compute.
JOBS ?= 2
N ?= 50000
SEED ?= 1
OUT ?= fuzz-out
# Chromium has been seen to spin in the kernel beside other heavy tests, so it runs alone.
IN_BROWSER := tests/e2e/test_demo_page.py

help:
	@echo "make setup       install into $(VENV)"
	@echo "make test        setup, then all tests but the slow ones (two files at a time: JOBS=2)"
	@echo "make check       format, lint, types, import layers, spelling, tests"
	@echo "make e2e         tests of the command line and of training"
	@echo "make slow        tests that take minutes"
	@echo "make fuzz        N=50000 mutated files (SEED=1) through all that reads clips, counted in a table"
	@echo "make cases       hard media files with known answers: read, measured, copied, judged in tables (SALT=1, OUT=cases-out)"
	@echo "make chaos       trainings and searches that lose workers, drivers, machines and disks"
	@echo "make soak        a demo with 32 visitors, a tenth of them malicious (MINUTES=30)"
	@echo "make robustness  cases, fuzz, chaos and soak, reading in one pass, thousands of clips: hours"
	@echo "make bench       every script of benchmarks/"
	@echo "make quickstart  clips, both stages, two heads, a prediction"
	@echo "make demo        setup, then a web page at http://127.0.0.1:7860"

setup: $(STAMP)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make setup PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

test: setup
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --ignore $(IN_BROWSER)
	$(BIN)/python -m pytest $(IN_BROWSER)

slow: setup
	$(BIN)/python -m pytest -m slow --timeout=1800

e2e: setup
	$(BIN)/python -m pytest tests/e2e

fuzz: setup
	$(BIN)/python -m tests.fuzz.run --files $(N) --seed $(SEED) --workers $(JOBS) --out $(OUT)

cases: OUT = cases-out
cases: setup
	$(BIN)/python -m tests.cases.reading --out $(OUT)/reading $(if $(SALT),--salt $(SALT)); read=$$?; \
	$(BIN)/python -m tests.cases.copies --out $(OUT)/copies $(if $(SALT),--salt $(SALT)) && exit $$read

check: lint types test

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/codespell

types: setup
	$(BIN)/mypy

chaos: setup
	$(BIN)/python -m pytest tests/chaos/chaos_training.py tests/chaos/chaos_search.py

soak: setup
	PYTHONPATH=.:tests:tests/e2e $(BIN)/python tests/chaos/soak_demo.py --minutes $(or $(MINUTES),30)

robustness: cases fuzz chaos soak
	$(BIN)/python benchmarks/one_pass.py
	$(BIN)/python benchmarks/many_clips.py

bench: setup
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script; done; \
	$(BIN)/python -m benchmarks.common.tables

quickstart: setup
	$(BIN)/zoo quickstart

demo: setup
	$(BIN)/zoo demo

clean:
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache dist
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
