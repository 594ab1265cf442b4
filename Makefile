# Every common task is one target. Each first prepares .venv, which costs nothing once it stands.

PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3 python; do \
	$$name -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$name && break; \
	done)
PORT ?= 8000
PROMETHEUS_PORT ?= 9090
CHECKPOINT ?=
BIN := .venv/bin
PARALLEL := --numprocesses logical --maxprocesses 4

.DEFAULT_GOAL := help
.PHONY: help setup serve stack dashboards pictures test test-fast lint format bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what is missing into .venv (PYTHON=python3.11 DEVICE=cpu|gpu WHEELS=folder)
	@python="$(PYTHON)"; test -n "$$python" || { \
		echo "no Python 3.11, 3.12 or 3.13 on the PATH: make PYTHON=/path/to/python3.11" >&2; exit 1; }; \
		"$$python" tools/bootstrap.py

serve: setup ## serve a checkpoint (PORT=8000 CHECKPOINT=folder, by default the bundled one)
	exec $(BIN)/stepgrpo serve $(if $(CHECKPOINT),"$(CHECKPOINT)" )--port $(PORT)

stack: setup ## serve with a real Prometheus beside it, without Docker (PORT=8000 PROMETHEUS_PORT=9090 CHECKPOINT=folder)
	exec $(BIN)/python tools/stack.py --port $(PORT) --prometheus-port $(PROMETHEUS_PORT) $(if $(CHECKPOINT),--checkpoint "$(CHECKPOINT)")

dashboards: setup ## write the Grafana dashboards from their Python
	cd tools && ../$(BIN)/python -m dashboards

pictures: setup ## draw the pictures in docs/ from running servers under load (minutes; needs prometheus, chromium)
	$(BIN)/python tools/pictures.py

test: setup ## run all tests: those that share nothing on up to four cores, then those of servers and browsers
	$(BIN)/python -m pytest tests/unit tests/property $(PARALLEL)
	$(BIN)/python -m pytest tests/integration/training $(PARALLEL) --dist worksteal
	$(BIN)/python -m pytest --ignore tests/unit --ignore tests/property --ignore tests/integration/training

test-fast: setup ## run the unit and property tests, which start no engine: those of training beside the others
	@$(MAKE) --no-print-directory --jobs 2 --output-sync fast-training fast-others

.PHONY: fast-training fast-others
fast-training:
	$(BIN)/python -m pytest tests/unit/training tests/property -m "not integration"

fast-others:
	$(BIN)/python -m pytest tests/unit --ignore tests/unit/training -m "not integration"

lint: setup ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## fix and format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## measure the segmenter's cost per token
	$(BIN)/python -m reasoning.bench

clean: ## remove the environment, caches and build products
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
