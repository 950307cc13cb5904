# Everything a newcomer needs: each target sets up its own environment in .venv first.
PYTHON ?= python3
BIN := .venv/bin
# A folder with the test collections cranfield, cacm and npl in the BEIR layout: see benchmarks/README.md.
DATA ?= data
# Where `make bench` puts the models it measures.
MODELS ?= models

.DEFAULT_GOAL := help
.PHONY: help demo test test-browser test-cluster lint docs format bench bench-speed dist clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "found Python %d.%d, expected 3.11 or newer: make PYTHON=python3.11" % sys.version_info[:2])'
	$(PYTHON) -m venv .venv

# The CPU build of torch first: left to itself, pip may fetch gigabytes of CUDA.
.venv/torch: $(BIN)/python constraints.txt
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt torch
	@touch $@

.venv/demo: .venv/torch pyproject.toml
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e ".[demo]"
	@touch $@

.venv/dev: .venv/torch pyproject.toml
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@# In a folder of its own, which one test process looks into: beside the CPU build of torch it breaks every import.
	-$(BIN)/pip install -q --disable-pip-version-check --no-deps --target .venv/torchvision torchvision==0.29.1
	@touch $@ .venv/demo

demo: .venv/demo ## Measure a real model with and without its token vectors (a few minutes)
	$(BIN)/smart demo
	$(BIN)/smart demo --visual

lint: .venv/dev ## Check style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/dev ## Build the documentation site in docs/_build/html; warnings are errors
	$(BIN)/sphinx-build -q -W --keep-going -n docs docs/_build/html

test: lint docs ## Lint, types, documentation and the whole test suite
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile

# Ray with all it needs is larger than everything else together (750 MB): an environment of its own.
.venv-cluster/ready: constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv-cluster
	.venv-cluster/bin/pip install -q --disable-pip-version-check -c constraints.txt torch
	.venv-cluster/bin/pip install -q --disable-pip-version-check -c constraints.txt -e ".[ray,image]" pytest
	@touch $@

test-cluster: .venv-cluster/ready ## Test encoding and serving on a Ray cluster of this machine, in .venv-cluster
	.venv-cluster/bin/python -m pytest -W default tests_cluster

# The browser is Debian's: no other is downloaded.
test-browser: .venv/dev ## Test the page of `smart serve` in Chromium; OPTIONS=--screenshots writes docs/images/page_*.png
	@found() { command -v chromium || command -v chromium-browser || command -v google-chrome; }; \
	if ! found >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
	fi; \
	if ! found >/dev/null; then \
		echo "found no Chromium; install it (on Debian: sudo apt-get install chromium), then run make test-browser again" >&2; \
		exit 1; \
	fi; \
	$(BIN)/pytest tests/browser --chromium "$$(found)" $(OPTIONS)

format: .venv/dev ## Rewrite the sources in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/dev ## Run the benchmarks that need no data beyond $(DATA); results go to benchmarks/results
	$(BIN)/python benchmarks/prepare_models.py $(MODELS)
	$(BIN)/python benchmarks/encode_overhead.py --data $(DATA)/cranfield
	$(BIN)/python benchmarks/encode_memory.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/quality.py --data $(DATA) --model minilm --model $(MODELS)/paraphrase-minilm-l3 \
		--model $(MODELS)/multilingual-e5-small --model $(MODELS)/all-mpnet-base-v2

bench-speed: .venv/dev ## Compare the speed of everything with the recorded one; fails where something slowed down
	$(BIN)/python benchmarks/speed.py --compare

dist: .venv/dev ## Build wheel and sdist, check them, and run the README from the wheel in a clean environment
	$(BIN)/python dev/check_dist.py

clean: ## Remove the environment, all caches and what was built
	rm -rf .venv .venv-cluster .mypy_cache .import_linter_cache .ruff_cache .pytest_cache .hypothesis docs/_build build dist
