# `make` alone lists the targets. Everything runs in .venv, which the first target prepares.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types layers unit faults bench bench-queue bench-embed bench-views format clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)$$/  make \1|\2/' | column -t -s '|'

setup: $(READY) ## prepare .venv with docyard and all it needs

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "docyard needs Python 3.11 or newer, this is $$($(PYTHON) --version). Name another with: make PYTHON=python3.12 …"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "This Python has no venv module. On Debian or Ubuntu: apt-get install python3-venv"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

demo: $(READY) ## ingest, embed and search thousands of real texts on an embedded Postgres
	@$(BIN)/python -m docyard.demo

test: lint types layers unit ## lint, types, layers and tests

lint: $(READY) ## ruff: style, mistakes, formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## mypy --strict
	$(BIN)/mypy

layers: $(READY) ## imports only point down
	$(BIN)/lint-imports

unit: $(READY) ## the tests, on a real Postgres
	$(BIN)/python -m pytest -n auto --dist worksteal

faults: $(READY) ## every fault of docs/faults.md injected, the storms in full length: some minutes
	FAULTS=long $(BIN)/python -m pytest -m fault -n auto --dist worksteal

bench: bench-queue bench-embed bench-views ## all benchmarks: tables here, JSON in benchmarks/results

bench-queue: $(READY) ## the queue beside other queues: five minutes, and the network for the first time
	$(BIN)/python -m benchmarks.queue

bench-embed: $(READY) ## a folder's vectors: requests, time, memory; ten minutes
	$(BIN)/python -m benchmarks.embed

bench-views: $(READY) ## the views over six million jobs: two minutes
	$(BIN)/python -m benchmarks.views

format: $(READY) ## rewrite the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove .venv, caches and the demo's database
	rm -rf $(VENV) .docyard .pytest_cache .mypy_cache .ruff_cache .hypothesis
