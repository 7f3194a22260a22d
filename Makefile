# Every verb is complete in itself: it installs what it needs into .venv the first time, and nothing the second.
# Without make: see "Plain commands" in README.md.

PYTHON ?= python3
PY := .venv/bin/python
INSTALL := $(PYTHON) tools/install.py

.DEFAULT_GOAL := help
.PHONY: help setup fetch tour lab app test quick notebooks claim bench clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## install ftkit and JupyterLab into .venv
	@$(INSTALL) lab

fetch:  ## bring every pinned model and data set into the cache
	@$(INSTALL)
	@$(PY) -m ftkit fetch --all

tour:  ## run the first lesson from start to end: its page and figures go to build/
	@$(INSTALL)
	@$(PY) -m ftkit tour

lab:  ## open the first lesson in JupyterLab
	@$(INSTALL) lab
	@$(PY) -m jupyterlab notebooks/00_start_here.ipynb

app:  ## plan, train and judge in panels alone: an application, on this machine only
	@$(INSTALL) app
	@$(PY) tools/app.py

test:  ## every check: style, layout, modules, lessons, browser, Binder
	@$(INSTALL) lab test
	@$(PY) -m ftkit fetch --all
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check
	@$(PY) -m pytest

quick:  ## the everyday tests: seconds, no files, no browser
	@$(INSTALL) lab test
	@$(PY) -m ruff check --quiet
	@$(PY) -m pytest -q -m "not slow and not browser and not needs_assets"

notebooks:  ## run every lesson with its real parameters and store what it shows
	@$(INSTALL) lab
	@$(PY) tools/lessons.py

claim:  ## measure again what the README claims
	@$(INSTALL) lab test
	@$(PY) -m benchmarks.diagnoses

bench:  ## time and weigh ftkit beside other tools, about an hour: benchmarks/results/speed.md
	@$(INSTALL) bench
	@.venv-bench/bin/python -m benchmarks.speed

clean:  ## remove .venv, .venv-bench, build/ and what tools leave behind; the cache of models and data stays
	rm -rf .venv .venv-bench build dist .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
