# `make test` and `make demo` work on a fresh machine with Python >= 3.11 and nothing else.
# Each makes its own virtual environment. With a C compiler it builds the C core too, and
# again after an edit of the core's sources.
PYTHON ?= python3
PYTHON2 ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/2.7.*/bin/python2.7) python2.7)
VENV   ?= .venv
SECONDS ?= 20
WORKERS ?= 3
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_OPTIONS)
# The sources of the C core.
# setup.py takes constants and docstrings from these modules.
CORE := setup.py shmfeed/layout.py shmfeed/ringbuf.py shmfeed/follower.py shmfeed/cutting.py \
	$(addprefix shmfeed/memory/,bound_entry.py futex.py keeping.py rows.py wakeup.py) \
	$(addprefix wealthdata/,frame.py price_table.py) \
	$(wildcard shmfeed/*.c shmfeed/csrc/*.h)
# editable_mode=compat puts the clone's path on sys.path: without it a script that is run
# beside the clone would import the clone's folder as the package.
EDITABLE := --config-settings editable_mode=compat -e

.PHONY: test demo demo-relay docs lint types bytecode unit test-pure night soak soak-relay load races faults autobahn conformance sanitize fuzz versions oldest-pandas bench dist dist-check clean

test: lint types unit

# A venue, a feeder and strategies for SECONDS, on this machine alone.
demo: $(VENV)/.demo
	$(BIN)/python -m compileall -q shmfeed wealthdata
	$(BIN)/shmfeed demo --seconds $(SECONDS)

# The demo on a follower of a relay by Redis, whose leader is killed halfway. It needs
# redis-server.
demo-relay: $(VENV)/.demo
	$(BIN)/python -m compileall -q shmfeed wealthdata
	$(BIN)/shmfeed demo --relay --strategies 4 --seconds $(SECONDS)

# The pages and the reference as a site in build/docs. A warning is an error.
docs: $(VENV)/.docs
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet -c docs . build/docs
	@echo "open build/docs/index.html"

lint: $(VENV)/.core
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.core
	$(BIN)/mypy

# The modules' bytecode, as an installed package has it. Without it, where the environment
# forbids Python to write any, each process compiles all modules: half a second for a feeder.
bytecode: $(VENV)/.core
	$(BIN)/python -m compileall -q shmfeed wealthdata

unit: bytecode
	$(BIN)/pytest -n $(WORKERS) --dist worksteal

# All tests on the pure Python core.
test-pure: export SHMFEED_PURE = 1
test-pure: unit

# Three feeds live through a night of outages, bans and hangs in SECONDS.
night: export PYTHONPATH = tests
night: SECONDS = 600
night: bytecode
	$(BIN)/python -m night --seconds $(SECONDS)

# One feed under load for SECONDS: killed, cut, muted, and lied to by REST. KILLS=1000 or CUTS=1000
# does that alone, so many times; CALM=yes kills no feeder, so that its memory shows;
# SHOW=README.md puts the figures there.
soak: export PYTHONPATH = tests
soak: SECONDS = 600
soak: bytecode
	$(BIN)/python -m soak --seconds $(SECONDS) $(if $(KILLS),--kills $(KILLS)) $(if $(CUTS),--cuts $(CUTS)) $(if $(CALM),--calm) $(if $(SHOW),--show $(SHOW))

# A relay of two hosts that may lead and a follower, with so many FAULTS of hosts, Redis and
# links, in episodes after which all rings equal the venue's truth. It needs redis-server.
soak-relay: export PYTHONPATH = tests
soak-relay: FAULTS = 1000
soak-relay: bytecode
	$(BIN)/python -m relay --faults $(FAULTS)

# 2,000 streams and 64 strategies for SECONDS, with stopped readers and abusive clients of the
# control socket; SHOW=README.md puts the figures there.
load: export PYTHONPATH = tests
load: SECONDS = 1800
load: bytecode
	$(BIN)/python -m load --seconds $(SECONDS) $(if $(SHOW),--show $(SHOW))

# Races and models of the memory protocol at ten times the size: 10^9 rows on the C core.
races: export TEST_SCALE = 10
races: bytecode
	$(BIN)/pytest -n 0 -v -s --timeout 3000 tests/races

# The fault suite at ten times the size, and deaths at each step of everything.
faults: export TEST_SCALE = 10
faults: bytecode
	$(BIN)/pytest -n 0 -v -s --timeout 7200 tests/faults

# Autobahn's client cases. The suite is a program of Python 2.7.
autobahn: export PYTHONPATH = tests
autobahn: $(VENV)/.core $(VENV)/autobahn/python2
	$(BIN)/python -m autobahn

# The golden cases of wealthdata's calls, in each way to run a strategy, as a table.
conformance: export PYTHONPATH = tests
conformance: $(VENV)/.core
	$(BIN)/python -m conformance

# The C core and bad input under sanitizers, each run for SECONDS.
sanitize: export SANITIZE_SECONDS = $(SECONDS)
sanitize: $(VENV)/.core
	$(BIN)/pytest -n 0 -v -s tests/races/test_ring_*.py tests/faults/test_ring_*.py tests/faults/test_kill_every_c_store.py tests/faults/test_bad_input_sanitized.py

# All fuzz targets, for SECONDS together: make fuzz SECONDS=600
fuzz: SECONDS = 60
fuzz: $(VENV)/.core
	$(PIP) --only-binary atheris $(EDITABLE) '.[fuzz]' || true
	$(BIN)/python fuzz/run.py --seconds $(SECONDS)

# All tests, or TESTS="tests/faults ..", on other Pythons: those on PATH and pyenv's, or
# PYTHONS="/a/python3.12 ..".
versions: $(VENV)/.core
	$(BIN)/python tests/support/versions.py --venvs $(VENV)/versions --suite $(PYTHONS) $(if $(TESTS),--tests $(TESTS))

# The tests of wealthdata on the oldest supported pandas.
oldest-pandas: $(VENV)/.core
	$(BIN)/python tests/support/versions.py --venvs $(VENV)/oldest-pandas --oldest-pandas $(PYTHONS)

# Benchmarks beside their rivals. The table names a rival that cannot be installed here.
bench: $(VENV)/.core
	$(PIP) $(EDITABLE) '.[bench]' || true
	$(BIN)/python -m compileall -q shmfeed wealthdata
	$(BIN)/python benchmarks/run.py --show README.md

# The files of a release in dist/, from the commit at HEAD: docs/releases.md.
dist: export PYTHONPATH = tests:release
dist: $(VENV)/.release
	$(BIN)/python release/build.py --venvs $(VENV)/release $(PYTHONS)

# The files in dist/ as their users have them. SDIST=all runs all tests of the sdist,
# USERS=yes only installs the wheels of this CPU and uses them.
dist-check: export PYTHONPATH = tests:release
dist-check: $(VENV)/.release
	$(BIN)/python release/check.py --venvs $(VENV)/release $(if $(SDIST),--tests $(SDIST)) $(if $(USERS),--users) $(PYTHONS)

$(VENV)/.release: release/requirements-tools.txt $(VENV)/.dev
	$(PIP) -r $<
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(PIP) $(EDITABLE) '.[dev]'
	touch $@ $(VENV)/.demo $(VENV)/.core

# The C core alone, built in place after an edit of its sources.
$(VENV)/.core: $(CORE) | $(VENV)/.dev
	$(BIN)/python setup.py --quiet build_ext --inplace
	touch $@

$(VENV)/.demo: pyproject.toml $(CORE) | $(VENV)/bin/python
	$(PIP) $(EDITABLE) '.[demo]'
	touch $@

$(VENV)/.docs: pyproject.toml | $(VENV)/bin/python
	$(PIP) $(EDITABLE) '.[docs]'
	touch $@

$(VENV)/autobahn/python2:
	$(PYTHON2) -m pip install --quiet --target $(@D) autobahntestsuite==0.8.2
	touch $(@D)/zope/__init__.py
	ln -sf "$$($(PYTHON2) -c 'import sys; print(sys.executable)')" $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "shmfeed needs Python >= 3.11; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis fuzz/found
