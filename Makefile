PYTHON ?= python3
BIN := .venv/bin
COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet $(ARGS)
# The command line of common-expression-language, which nobody uses; structlog would import its `rich`.
UNUSED := $(addprefix --no-emit-package ,annotated-doc markdown-it-py mdurl prompt-toolkit pygments rich shellingham typer wcwidth)
RANDOM_KEY := $$($(PYTHON) -c 'import secrets; print(secrets.token_hex(32))')
PRODUCTION := AGENTSITE_ENV=production ALLOWED_HOSTS=agents.example.com \
	DATABASE_URL=postgresql://agentsite:secret@db.example.com:5432/agentsite \
	SECRET_KEY=$(RANDOM_KEY) MASTER_KEY=$(RANDOM_KEY) EMAIL_URL=smtp://mail.example.com

.DEFAULT_GOAL := help
.PHONY: help run test lint fmt bench bench-stream bench-sockets bench-toolsets bench-sandbox bench-search lock environment

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## serve on http://127.0.0.1:8000 until Ctrl-C
	$(PYTHON) start.py

test: ## run the whole suite, or a part of it: make test ARGS="tests/llm -k retry"; with coverage: ARGS=--cov
	$(PYTHON) start.py test $(ARGS)

lint: environment ## check style, types, import contracts, migrations and production settings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	$(BIN)/python manage.py makemigrations --check --dry-run
	$(PRODUCTION) $(BIN)/python manage.py check --deploy --fail-level WARNING

fmt: environment ## format the code and sort its imports
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format .

bench: environment ## measure turns beside LiteLLM's proxy and a bare one, toolsets, starts, memory; writes bench/results.json
	$(BIN)/python -m bench

bench-stream: environment ## measure the event log against its goals: latency, cost, stalls, kills; some minutes
	$(BIN)/python -m bench.stream $(ARGS)

bench-sockets: environment ## measure 2,000 sockets with 200 runs at once, and 10,000 idle ones; some minutes
	$(BIN)/python -m bench.sockets $(ARGS)

bench-toolsets: environment ## measure what toolsets add to the making of agents, and what a call of a tool adds
	$(BIN)/python -m bench.toolsets

bench-sandbox: environment ## measure the sandbox warm and cold, and a tenant beside attacks; two minutes
	$(BIN)/python -m bench.sandbox

bench-search: environment ## measure searches over 100,000 messages of a tenant, and what they add to writing; two minutes
	$(BIN)/python -m bench.search

lock: environment ## resolve requirements/*.in into the locked files; newer versions: make lock ARGS=--upgrade
	cd requirements && ../$(BIN)/$(COMPILE) $(UNUSED) base.in embedded.in -o ../requirements.txt
	cd requirements && ../$(BIN)/$(COMPILE) installer.in -o installer.txt
	cd requirements && ../$(BIN)/$(COMPILE) --no-deps local.in -o local.txt
	cd requirements && ../$(BIN)/$(COMPILE) test.in -o test.txt
	cd bench && ../$(BIN)/$(COMPILE) litellm.in -o litellm.txt

environment:
	@$(PYTHON) -c 'from agentsite.embedded import home, install; install.install(home.open_home(), install.RUNTIME, install.TESTS)'
