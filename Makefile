# The environment comes from requirements.lock; then the ordinary commands run in it. PRESET=quick or paper for more.
PYTHON ?= python3
BIN = .venv/bin
TARGETS = tables test lint lock clean-env

.PHONY: $(TARGETS)

tables: .venv/complete
	$(BIN)/python -m snakemake --cores all $(if $(PRESET),--config preset=$(PRESET))

test: .venv/complete
	$(BIN)/python -m pytest -n auto --dist loadfile

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
	rm -rf .venv
