# Two commands on a fresh machine: `make test` and `make demo`.
# Both make their own virtual environment; nothing but Python >= 3.11 is needed.
# With a C compiler the C core is built too, and again after an edit of its sources.
PYTHON ?= python3
VENV   ?= .venv
SECONDS ?= 20
WORKERS ?= 3
BIN := $(VENV)/bin
# What the C core is built from.
CORE := setup.py shmfeed/layout.py $(wildcard shmfeed/*.c shmfeed/csrc/*.h)
# By its path: a script beside the clone would take the clone's folder for the package.
EDITABLE := --config-settings editable_mode=compat -e

.PHONY: test test-pure races sanitize demo lint types unit fuzz versions smoke-versions oldest-pandas bench docs clean

test: lint types unit

# The whole suite on the pure Python core.
test-pure: export SHMFEED_PURE = 1
test-pure: unit

# The memory protocol raced and modelled at ten times the size: 10^9 rows of the C core.
races: export TEST_SCALE = 10
races: $(VENV)/.core
	$(BIN)/pytest -n 0 -v -s --timeout 3000 tests/races

# The C core's protocol and bad input under sanitizers, SECONDS for each run.
sanitize: export SANITIZE_SECONDS = $(SECONDS)
sanitize: $(VENV)/.core
	$(BIN)/pytest -n 0 -v -s tests/races/test_ring_*.py tests/faults/test_ring_*.py tests/faults/test_kill_every_c_store.py tests/faults/test_bad_input_sanitized.py

demo: $(VENV)/.demo
	$(BIN)/shmfeed demo --seconds $(SECONDS)

lint: $(VENV)/.core
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.core
	$(BIN)/mypy

unit: $(VENV)/.core
	$(BIN)/pytest -n $(WORKERS) --dist worksteal

# All fuzz targets, SECONDS for them together; longer: make fuzz SECONDS=600
fuzz: SECONDS = 60
fuzz: $(VENV)/.core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary atheris -e '.[fuzz]' || true
	$(BIN)/python fuzz/run.py --seconds $(SECONDS)

# The whole suite on other Pythons: those on PATH, or PYTHONS="/a/python3.12 ..".
# What each is made of lies in $(VENV)/versions. `smoke-versions` is the short form.
versions: $(VENV)/.core
	$(BIN)/python tests/support/versions.py --venvs $(VENV)/versions --suite $(PYTHONS)

smoke-versions: $(VENV)/.core
	$(BIN)/python tests/support/versions.py --venvs $(VENV)/versions $(PYTHONS)

# The tests of wealthdata on the oldest pandas that is supported.
oldest-pandas: $(VENV)/.core
	$(BIN)/python tests/support/versions.py --venvs $(VENV)/oldest-pandas --oldest-pandas $(PYTHONS)

# Rivals that cannot be had here are named in the table; one wants a redis-server.
bench: $(VENV)/.core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]' || true
	$(BIN)/python benchmarks/run.py --show README.md

# The pages and the reference as a site in build/docs. A warning is an error.
docs: $(VENV)/.docs
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet -c docs . build/docs
	@echo "build/docs/index.html"

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(EDITABLE) '.[dev]'
	touch $@ $(VENV)/.demo $(VENV)/.core

# The C core alone, built in place: what an edit of its sources needs.
$(VENV)/.core: $(CORE) | $(VENV)/.dev
	$(BIN)/python setup.py --quiet build_ext --inplace
	touch $@

$(VENV)/.demo: pyproject.toml $(CORE) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(EDITABLE) '.[demo]'
	touch $@

$(VENV)/.docs: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(EDITABLE) '.[docs]'
	touch $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "shmfeed needs Python >= 3.11; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis fuzz/found
