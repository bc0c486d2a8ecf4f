# make demo    install into .venv, then compress a real clip, find objects in the compressed features, show the result
# make test    install into .venv, then all checks and all tests in two processes; PYTEST_ARGS='--slow -n 0': in one
# make check   format, lint, types, import rules
# make fuzz    decode 100,000 damaged streams of every codec: half an hour; FUZZ_ARGS="--first 100000" for others
# make clean   remove .venv and everything that was built
# PYTHON=...   use this interpreter; EXTRAS=... install these extras

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.PHONY: install demo test check format fuzz clean

EXTRAS ?= ray,s3,demo,train,bench,dev
PYTEST_ARGS ?= --slow
FUZZ_ARGS ?=
BIN := .venv/bin

install: .venv/.installed

demo: .venv/.installed
	$(BIN)/python -m framevault.pipeline.jobs.demo

test: check
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: .venv/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

fuzz: .venv/.installed
	$(BIN)/python -m tests.fuzz $(FUZZ_ARGS)

clean:
	rm -rf .venv dist build demo-output .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A name on PATH may be a shim that starts nothing, or lack venv: so each candidate has to prove itself.
# The second variable pins the build backend (pip 25.3 and later; older ones use the first for it).
.venv/.installed: pyproject.toml constraints.txt
	@for candidate in $(PYTHON) python3.12 python3.11 python3; do \
	    if "$$candidate" -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' \
	        2> /dev/null; then python="$$candidate"; break; fi; \
	done; \
	if [ -z "$${python:-}" ]; then \
	    echo "framevault needs Python 3.11 or 3.12 with its venv module; none of these is: $(strip $(PYTHON) python3.12)" \
	        "python3.11 python3 (python3 is $$(python3 --version 2>&1 || true)). Install one, or: make PYTHON=/path/to/it" >&2; \
	    exit 2; \
	fi; \
	if [ -x $(BIN)/python ] && $(BIN)/python -m pip --version > /dev/null 2>&1; then \
	    echo "Updating .venv ..."; \
	else \
	    echo "Making .venv with $$("$$python" --version) ..."; "$$python" -m venv --clear .venv; \
	fi; \
	echo "Installing framevault with the versions of constraints.txt (torch is 2 GB to fetch: some minutes) ..."
	@PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 \
	    $(BIN)/python -m pip install --quiet --quiet --editable '.[$(EXTRAS)]'
	@touch $@
