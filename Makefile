# make demo   set everything up, make a data set, train four networks, evaluate, report   (CPU, minutes)
# make test   set everything up, run the tests
# make bench  set everything up, measure against the alternatives   (some 35 minutes on two cores)
.PHONY: demo test lint bench clean

PYTHON ?= python3
BIN := .venv/bin

# The environment is made once per change of these files.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: .venv/installed
	$(BIN)/stmulnet demo --out runs/demo

test: .venv/installed
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

lint: .venv/installed
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy

bench: .venv/installed
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv runs build dist
