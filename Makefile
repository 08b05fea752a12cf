# Two commands on a fresh machine: `make demo` and `make test`. Both set themselves up; uv is used where it is found.
.PHONY: demo test lint format types layers bench clean setup

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up

setup: $(STAMP)

$(STAMP): pyproject.toml
	@if command -v uv >/dev/null 2>&1; then \
		test -x $(BIN)/python || uv venv --quiet --python '>=3.11' $(VENV); \
		uv pip install --quiet --compile-bytecode --python $(BIN)/python -e '.[dev]'; \
	else \
		test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'; \
	fi
	@touch $(STAMP)

demo: $(STAMP)
	@$(BIN)/holdfast demo

# The tests start hundreds of processes, each of which would compile what has not been compiled yet.
test: $(STAMP)
	@$(BIN)/python -m compileall -q src
	@$(BIN)/pytest -n 6 --dist load --maxschedchunk 1

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(STAMP)
	@$(BIN)/pyright

layers: $(STAMP)
	@$(BIN)/lint-imports

format: $(STAMP)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(STAMP)
	@$(BIN)/holdfast bench

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build dist
