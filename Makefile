# Each target makes .venv if it is missing, installs the package into it, and runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: demo test test-slow check format tables peers clean

demo: $(VENV)/.package
	$(BIN)/treering demo

test: check
	$(BIN)/python -m pytest --numprocesses logical

test-slow: $(VENV)/.tools
	$(BIN)/python -m pytest --numprocesses logical -m slow

check: $(VENV)/.tools
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.tools
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

tables: $(VENV)/.tools
	PYTHONPATH=tests $(BIN)/python -m conformance.features

peers: $(VENV)/.tools
	$(PIP) torchrecurrent minGRU-pytorch
	PYTHONPATH=tests $(BIN)/python -m peers

$(VENV)/.package: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(PIP) --editable .
	touch $@

$(VENV)/.tools: $(VENV)/.package
	$(PIP) --group dev
	touch $@

clean:
	rm -rf $(VENV) build dist runs .pytest_cache .ruff_cache .hypothesis
