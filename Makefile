# Each target makes .venv if it is missing, installs the package into it, and runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt
NATIVE := src/treering/kernels/native

.PHONY: demo test test-slow check format tables peers bench native clean

demo: $(VENV)/.native
	$(BIN)/treering demo

test: check $(VENV)/.native
	$(BIN)/python -m pytest --numprocesses logical

test-slow: $(VENV)/.tools $(VENV)/.native
	$(BIN)/python -m pytest --numprocesses logical -m slow

check: $(VENV)/.tools
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.tools
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

tables: $(VENV)/.tools $(VENV)/.native
	PYTHONPATH=tests $(BIN)/python -m conformance.features

peers: $(VENV)/.tools
	$(PIP) torchrecurrent minGRU-pytorch
	PYTHONPATH=tests $(BIN)/python -m peers

bench: $(VENV)/.package $(VENV)/.native
	$(PIP) --group bench
	$(BIN)/treering bench table crossover growth

# The C++ kernels, compiled where the editable install finds them.
native:
	$(PYTHON) hatch_build.py

$(VENV)/.native: $(VENV)/.package hatch_build.py $(wildcard $(NATIVE)/*.cpp $(NATIVE)/*.h)
	$(BIN)/python hatch_build.py
	touch $@

$(VENV)/.package: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	TREERING_BUILD=0 $(PIP) --editable .
	touch $@

$(VENV)/.tools: $(VENV)/.package
	$(PIP) --group dev
	touch $@

clean:
	rm -rf $(VENV) build dist runs .pytest_cache .ruff_cache .hypothesis $(NATIVE)/*.so
