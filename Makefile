PYTHON ?= $(firstword $(foreach v,python3.11 python3.12 python3.13 python3,$(if $(shell command -v $(v) 2>/dev/null),$(v))))
PORT ?= 8000
CHECKPOINT ?= checkpoints/step-grpo
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup serve test test-fast lint format bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what is missing into .venv (WHEELS=folder with torch's CPU wheel)
	@$(PYTHON) tools/bootstrap.py

serve: setup ## serve a checkpoint (PORT=8000 CHECKPOINT=checkpoints/step-grpo)
	@$(BIN)/stepgrpo serve $(CHECKPOINT) --port $(PORT)

test: setup ## all tests that a bare machine can run
	@$(BIN)/python -m pytest

test-fast: setup ## unit and property tests, no engine
	@$(BIN)/python -m pytest tests/unit tests/property

lint: setup ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: setup ## let ruff fix and format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup ## cost of the segmenter per token
	@$(BIN)/python -m reasoning.bench

clean: ## remove the environment and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
