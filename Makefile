# Every target brings its own .venv along; nothing but Python 3.11+, git and make is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := .venv-peers/.installed
# Tests wait for servers more than they compute. A file stays with one process: its tests share
# what they build. In the order of the folders, for the longest ones must not come last.
PARALLEL := --numprocesses 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo up test test-all lint format bench lock clean

help:  ## Show this list.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, $$($(PYTHON) --version) was found: make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || { echo "Making $(VENV) ..."; $(PYTHON) -m venv $(VENV); }
	@echo "Installing the locked dependencies (the first time takes a minute or two) ..."
	@if $(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.8" 2>$(VENV)/pip.log; then \
		$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock && \
		$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable . ; \
	else \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable . ; \
	fi
	@touch $(STAMP)

demo: $(STAMP)  ## Real data through the whole platform, without keys: the place to begin.
	@$(BIN)/scizor demo

up: $(STAMP)  ## Serve the Dagster UI on http://127.0.0.1:3000 until Ctrl-C.
	@$(BIN)/scizor up

test: $(STAMP)  ## All tests but the slow ones.
	@$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

test-all: $(STAMP)  ## All tests.
	@$(BIN)/python -m pytest $(PARALLEL)

lint: $(STAMP)  ## Formatting, lint, types.
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: $(STAMP)  ## Bring the code into the one format.
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

# What SCIZOR is measured against has an environment of its own: it needs other versions.
$(PEERS): Makefile
	@test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check cryptofeed==2.4.1 numpy || \
		echo "cryptofeed cannot be installed here: its figures will be missing."
	@touch $(PEERS)

bench: $(STAMP) $(PEERS)  ## Measure; results go to benchmarks/results.json.
	@$(BIN)/python -m benchmarks.run

lock: $(STAMP)  ## Write requirements.lock anew from pyproject.toml.
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header --extra dev pyproject.toml -o requirements.lock

clean:  ## Remove the virtual environment and caches; data in .scizor stays.
	@rm -rf $(VENV) .venv-peers .pytest_cache .mypy_cache .ruff_cache
