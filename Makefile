# Needs Python 3.11 or newer, and make. `make` alone lists the targets.

VENV ?= .venv
BIN := $(VENV)/bin
CONFIG := etc/demo/pylantir.json
PORT ?= 4242
TESTS ?=
KILLS ?= 1000
FAULTS ?= 200
SEED ?= 0
PAUSE ?= 1.2
DURATION ?= 3600
# Per cent of the lines that the tests have to run.
LIBRARY_FLOOR := 95
PROCESSES_FLOOR := 85

# Every process compiles the program anew where compiled modules may not be kept.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
HISTORIES ?= 10000
MODEL_SEED ?= $(shell date +%s)
.PHONY: image newcomer docs packages dist audit sbom help demo test coverage chaos hosts faults pauses soak bench pictures lint format clean model
MODEL_DATABASE ?= sqlite

help:
	@echo "make demo    three sources, one worklist, on port $(PORT) of this machine; Ctrl-C stops it"
	@echo "make test    all tests (make test TESTS='tests/unit -x')"
	@echo "make coverage  all tests, and the share of the code that they run; fails below the floors"
	@echo "make model   try $(HISTORIES) random histories of sources and scanners against the rules (HISTORIES=100 MODEL_SEED=1 MODEL_DATABASE=postgresql)"
	@echo "make chaos   kill processes at random, $(KILLS) times, and see that nothing is lost (KILLS=100 SEED=1)"
	@echo "make hosts   the same with two hosts on one PostgreSQL, which is restarted in between (KILLS=100 SEED=1)"
	@echo "make faults  let system calls fail at random, $(FAULTS) times, and see that everything recovers (FAULTS=50 SEED=1)"
	@echo "make pauses  let each line of the tests stand still for up to $(PAUSE) s, and find those that depend on speed (TESTS=tests/integration/workers)"
	@echo "make soak    12 sources every second for $(DURATION) seconds: memory, files and threads (DURATION=600)"
	@echo "make bench   the figures of docs/explanation/performance.md; half an hour on a quiet machine"
	@echo "make pictures  the pictures in docs/pictures: those of the web pages, and those drawn from text"
	@echo "make lint    ruff, mypy, import-linter"
	@echo "make format  put the code into its form"
	@echo "make docs    the documentation as a site, in site/; fails on a link that leads nowhere"
	@echo "make newcomer  walk a newcomer's way with the built package, and write docs/explanation/newcomer.md"
	@echo "make packages  build wheel and source archive twice, compare, and install them with pip, pipx and uv"
	@echo "make image   build the container image with buildah and run it (BASE=debian where no registry can be reached)"
	@echo "make dist    build both into dist/; make audit: known vulnerabilities; make sbom: dist/sbom.json"
	@echo "make clean   remove what these targets have made"

demo: $(VENV)/installed
	@echo
	@echo "Look at it in a browser:  http://127.0.0.1:4280/?date=2026-12-01"
	@echo "and from another terminal, in this folder:"
	@echo "  $(BIN)/pylantir-supervisor status --config $(CONFIG)"
	@echo "  $(BIN)/pylantir query-db --config $(CONFIG)"
	@echo "  $(BIN)/pylantir test-client --config $(CONFIG) --port $(PORT)"
	@echo "  findscu -W localhost $(PORT) -k PatientName -k ScheduledProcedureStepSequence   (DCMTK, as a scanner asks)"
	@echo "  ps -eo pid,comm,args | grep pylantir"
	@echo "Ctrl-C stops everything. Port $(PORT) is taken? make demo PORT=4343"
	@echo
	@exec $(BIN)/pylantir-supervisor start --config $(CONFIG) --port $(PORT)

test: $(VENV)/installed
	$(BIN)/python -m pytest $(TESTS)

coverage: $(VENV)/installed
	rm -f .coverage .coverage.*
	COVERAGE_CORE=$$($(BIN)/python -c 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "ctrace")') \
	    $(BIN)/coverage run -m pytest $(TESTS)
	$(BIN)/coverage combine --quiet
	rm -f .coverage.?*
	$(BIN)/coverage report --include='pylantir/*' --fail-under=$(LIBRARY_FLOOR)
	$(BIN)/coverage report --include='workers/*' --fail-under=$(PROCESSES_FLOOR)

model: $(VENV)/installed
	@echo "seed $(MODEL_SEED)"
	PYLANTIR_MODEL_DATABASE=$(MODEL_DATABASE) PYLANTIR_MODEL_EXAMPLES=$(HISTORIES) PYLANTIR_MODEL_STEPS=20 $(VENV)/bin/python -m pytest tests/model -n 0 --hypothesis-seed=$(MODEL_SEED)

chaos: $(VENV)/installed
	KILLS=$(KILLS) SEED=$(SEED) $(BIN)/python -m pytest -s -n 0 tests/acceptance/supervision/test_kill_campaign.py -k a_campaign

hosts: $(VENV)/installed
	KILLS=$(KILLS) SEED=$(SEED) $(BIN)/python -m pytest -s -n 0 tests/acceptance/campaign_of_hosts.py

faults: $(VENV)/installed
	FAULTS=$(FAULTS) SEED=$(SEED) $(BIN)/python -m pytest -s -n 0 tests/faults -k a_campaign

pauses: $(VENV)/installed
	PAUSE=$(PAUSE) SEED=$(SEED) PYTHONPATH=tests $(BIN)/python -m pytest -p pauses -n 8 --dist load --timeout 900 $(TESTS)

soak: $(VENV)/installed
	$(BIN)/python benchmarks/soak.py --duration $(DURATION)

bench: $(VENV)/installed
	$(BIN)/python -m benchmarks.sync
	$(BIN)/python -m benchmarks.sync --sources 3
	$(BIN)/python -m benchmarks.sync --rows 1000000 --runs 1
	$(BIN)/python -m benchmarks.queries
	$(BIN)/python -m benchmarks.access
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/supervision.py
	$(BIN)/python benchmarks/many_sources.py

pictures: $(VENV)/installed
	$(BIN)/python docs/pictures/draw.py
	$(BIN)/python docs/pictures/make.py

newcomer: $(VENV)/installed
	$(BIN)/python benchmarks/newcomer.py docs/explanation/newcomer.md

docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

packages: $(VENV)/installed
	$(BIN)/python etc/packaging/packages.py check

image:
	BASE=$(BASE) KEEP=$(KEEP) etc/container/try.sh

dist: $(VENV)/installed
	$(BIN)/python etc/packaging/packages.py build dist

# What an installation consists of, and its known vulnerabilities. Both need the network; the tools stand beside it.
audit sbom: dist
	python3 -m venv --clear $(VENV)-release
	$(VENV)-release/bin/pip install --quiet --disable-pip-version-check dist/*.whl
	[ -x $(VENV)-tools/bin/pip-audit ] || { python3 -m venv $(VENV)-tools && \
	    $(VENV)-tools/bin/pip install --quiet --disable-pip-version-check pip-audit cyclonedx-bom; }
	[ $@ = sbom ] || $(VENV)-tools/bin/pip-audit --path $(VENV)-release/lib/python3*/site-packages
	[ $@ = audit ] || $(VENV)-tools/bin/cyclonedx-py environment --output-reproducible --of JSON -o dist/sbom.json $(VENV)-release

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=etc/examples/order_folder/src $(BIN)/mypy --strict etc/examples/order_folder/src etc/examples/order_folder/tests
	$(BIN)/lint-imports

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) run build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The first Python that is new enough and whole; a name alone says neither (pyenv's shims, Debian without python3-venv).
$(VENV)/installed: pyproject.toml
	@if [ ! -x $(BIN)/pip ]; then \
	    for python in $(or $(PYTHON),python3.13 python3.12 python3.11 python3 python); do \
	        if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	            echo "making $(VENV) with $$($$python --version)"; \
	            exec $$python -m venv --clear $(VENV); \
	        fi; \
	    done; \
	    echo "no Python 3.11 or newer with its venv module: install one (Debian, Ubuntu: python3-venv)," >&2; \
	    echo "or name one: make PYTHON=/path/to/python3.11" >&2; \
	    exit 1; \
	fi
	@echo "installing into $(VENV); the first time takes a minute"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
