# The environment comes from requirements.lock; then the ordinary commands run in it. PRESET=quick or paper for more.
PYTHON ?= python3
BIN = .venv/bin
TARGETS = tables beyond test test-long test-lowest lint lock clean-env

.PHONY: $(TARGETS)

tables: .venv/complete
	$(BIN)/python -m snakemake --cores all $(if $(PRESET),--config preset=$(PRESET))

# What goes beyond the paper's tables, or of it what TABLES="table_2_4 table_5_4" names.
comma := ,
empty :=
space := $(empty) $(empty)
CHOSEN = $(if $(TABLES),'[$(subst $(space),$(comma),$(strip $(TABLES)))]',beyond)
beyond: .venv/complete
	$(BIN)/python -m snakemake --cores all --config groups=$(CHOSEN) $(if $(PRESET),preset=$(PRESET)) -- tables

test: .venv/complete
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not long"

# What takes half a minute or more by itself: the benchmarks, interruptions and damage at random, compiled code.
test-long: .venv/complete
	$(BIN)/python -m pytest -n auto --dist loadfile -m long

# The core at the lowest versions that pyproject.toml allows, with the newest of what only tests need. PYTHON: 3.11 or 3.12.
test-lowest: .venv/complete
	$(BIN)/python -m uv venv --quiet --clear --python $(PYTHON) .venv-lowest
	$(BIN)/python -m uv pip install --quiet --python .venv-lowest --resolution lowest-direct .
	$(BIN)/python -m uv pip freeze --quiet --python .venv-lowest --exclude surrodiff > .venv-lowest/constraints.txt
	$(BIN)/python -m uv pip install --quiet --python .venv-lowest --constraint .venv-lowest/constraints.txt '.[test,efficientnet,flow]'
	PYTHONPATH=src .venv-lowest/bin/python -m pytest -n auto --dist loadfile -m "not long" \
	  --ignore tests/workflow --ignore tests/test_params_layout.py

lint: .venv/complete
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check .

.venv/complete: requirements.lock requirements-uv.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	$(BIN)/python -m uv pip sync --quiet --require-hashes --compile-bytecode --python $(BIN)/python requirements.lock
	$(BIN)/python -m uv pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python --editable .
	$(BIN)/surrodiff plots-page
	touch $@

# After a change of pyproject.toml's dependencies.
lock:
	$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --all-extras --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header pyproject.toml -o requirements.lock
	echo 'uv' | $(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header --constraint requirements.lock - -o requirements-uv.lock

clean-env:
	rm -rf .venv .venv-lowest
