# Each target works as the only command on a machine that has make and Python 3.11 or newer.
#
#   make demo          a lab of real qcow2 images in a scratch folder, opened in the UI
#   make test          lint, then the tests (CI=true: the slow ones too)
#   make test-slow     the tests, the slow ones too
#   make lint          format, style, types, import contracts
#   make screenshots   write screenshots/*.svg from the real program
#   make bench         time maps, plans, operations and the screen beside QEMU's tools (ARGS="--list" says what)

SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint format screenshots bench clean

BIN := .venv/bin
QUICK := $(if $(CI),,-m "not slow")
PYTEST := $(BIN)/python -m pytest -n auto --dist loadgroup

help:
	@sed -n 's/^#   //p' Makefile

.venv/.program: pyproject.toml
	.ci/environment
	@touch $@

.venv/.tools: pyproject.toml
	.ci/environment --group dev
	@touch $@ .venv/.program

demo: .venv/.program
	$(BIN)/backchain demo

test: lint
	.ci/qemu-tools
	$(PYTEST) $(QUICK) $(ARGS)

test-slow: .venv/.tools
	.ci/qemu-tools
	$(PYTEST) $(ARGS)

lint: .venv/.tools
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: .venv/.tools
	$(BIN)/ruff check --no-cache --fix .
	$(BIN)/ruff format .

screenshots: .venv/.tools
	$(BIN)/python -m tests.screenshots

bench: .venv/.tools
	.ci/qemu-tools
	$(BIN)/python -m tests.bench $(ARGS)

clean:
	rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache dist snapshot_report.html
