# Two commands from a fresh clone: `make demo` and `make test`. Everything lives in .venv, node_modules and build;
# what has been done is not done again. A Python other than python3: make PYTHON=/path/to/python3.12 demo

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
JS_SOURCES := $(shell find js -name node_modules -prune -o -name '*.ts' -print -o -name '*.tsx' -print -o -name '*.mjs' -print)

# Torch computes tiny models here: more threads only wait for each other.
export OMP_NUM_THREADS ?= 2
export TOKENIZERS_PARALLELISM := false

.DEFAULT_GOAL := help
.PHONY: help demo lab test lint types unit vitest pytest notebooks hosts architectures labels systems-check screenshots gallery bench dist constraints browser js clean distclean

help: ## this list
	@echo "make TARGET, where TARGET is one of"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.demo js ## record the shipped model, write an interactive page and a picture
	@$(PY) -m interpwidgets demo --out build/demo
	@echo "  In a notebook:  make lab"

lab: $(VENV)/.demo js ## open the tour in JupyterLab
	$(PY) -m jupyterlab curriculum/00_tour.ipynb

test: lint types vitest pytest notebooks ## everything a change must pass, a real browser included
	@echo "==> all passed"

lint: $(VENV)/.dev node_modules/.package-lock.json ## ruff, eslint, prettier
	@echo "==> lint"
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@npm run --silent lint

types: $(VENV)/.dev node_modules/.package-lock.json ## mypy --strict, tsc
	@echo "==> types"
	@$(PY) -m mypy
	@npm run --silent types

unit: $(VENV)/.dev js ## the Python tests that need no browser, on every core
	@echo "==> pytest"
	@OMP_NUM_THREADS=1 $(PY) -m pytest -m "not lab" -n auto --dist loadfile

vitest: node_modules/.package-lock.json browser js ## the views' tests, in a browser
	@echo "==> vitest"
	@IW_CHROMIUM="$$(scripts/browser)" npm test --silent

pytest: unit browser ## all Python tests, with a real JupyterLab
	@echo "==> pytest, in notebooks"
	@IW_CHROMIUM="$$(scripts/browser)" $(PY) -m pytest -m lab

NBVAL = -m pytest -p no:cacheprovider -W default --nbval-lax --nbval-current-env --nbval-cell-timeout 120 -n 2 --dist loadfile
LESSONS = build/curriculum

notebooks: $(VENV)/.dev js ## every cell of the curriculum runs; solved lessons pass, in a learner's nothing is attempted
	@echo "==> notebooks"
	@rm -rf $(LESSONS) && $(PY) -m interpwidgets.course.build --out $(LESSONS) > /dev/null
	@INTERPWIDGETS_HOME=$(CURDIR)/$(LESSONS)/home-solved INTERPWIDGETS_EXPECT="passed recorded" OMP_NUM_THREADS=1 \
		$(PY) $(NBVAL) curriculum $(LESSONS)/solved
	@INTERPWIDGETS_HOME=$(CURDIR)/$(LESSONS)/home-learner INTERPWIDGETS_EXPECT="not-attempted" OMP_NUM_THREADS=1 \
		$(PY) $(NBVAL) $(LESSONS)/learner

hosts: $(VENV)/.dev browser js ## write docs/hosts.md from the tests that drive a host
	@IW_CHROMIUM="$$(scripts/browser)" $(PY) -m pytest -m lab --hosts=docs/hosts.md

architectures: $(VENV)/.dev ## write docs/architectures.md from a tiny model of every architecture
	@PYTHONPATH=tests HF_HUB_OFFLINE=1 $(PY) -m models.architectures

labels: $(VENV)/.dev ## write the table in docs/features.md: what labels are worth, beside controls
	@PYTHONPATH=tests HF_HUB_OFFLINE=1 $(PY) -m autointerp.table

systems-check: $(VENV)/.dev ## hold every number on the cards of the model systems to the weights
	@HF_HUB_OFFLINE=1 $(PY) -m interpwidgets.models.train check

gallery: $(VENV)/.dev browser js ## docs/gallery/README.md and its pictures
	@IW_CHROMIUM="$$(scripts/browser)" PYTHONPATH=tests $(PY) -m lab.gallery

screenshots: $(VENV)/.dev browser js ## build/screenshots: light and dark, narrow and wide
	@IW_CHROMIUM="$$(scripts/browser)" PYTHONPATH=tests $(PY) -m lab.screenshots build/screenshots

bench: $(VENV)/.bench browser js ## measure against CircuitsVis and BertViz, write docs/benchmarks.md
	@IW_CHROMIUM="$$(scripts/browser)" $(PY) -m bench

dist: $(VENV)/.dev node_modules/.package-lock.json ## sdist and wheel in dist
	@$(PY) -m build --outdir dist

constraints: $(VENV)/.dev $(VENV)/.bench ## pin the versions that this environment holds
	@$(PY) scripts/freeze > build/constraints.txt && mv build/constraints.txt constraints.txt

browser: $(VENV)/.dev
	@scripts/browser --install > /dev/null

js: build/.js

build/.js: $(JS_SOURCES) $(wildcard interpwidgets/static/*.json) node_modules/.package-lock.json
	@echo "==> building the views' JavaScript"
	@node js/build.mjs
	@mkdir -p build && touch $@

node_modules/.package-lock.json: package.json package-lock.json
	@scripts/tools $(PYTHON) node
	@echo "==> installing JavaScript packages into node_modules"
	@npm ci --no-audit --no-fund --loglevel=error
	@touch $@

$(PY):
	@scripts/tools $(PYTHON) node
	@echo "==> making a virtual environment in $(VENV), with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(PY) pyproject.toml constraints.txt hatch_build.py node_modules/.package-lock.json
	@echo "==> installing interpwidgets, torch, transformers and JupyterLab into $(VENV) (minutes, the first time)"
	@$(PIP) --editable '.[models,lab]'
	@touch $@

$(VENV)/.dev: $(PY) pyproject.toml constraints.txt hatch_build.py node_modules/.package-lock.json
	@echo "==> installing interpwidgets and what its tests need into $(VENV) (minutes, the first time)"
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.demo

$(VENV)/.bench: $(VENV)/.dev
	@echo "==> installing the peers that we measure against into $(VENV)"
	@$(PIP) --editable '.[dev,bench]'
	@touch $@

clean: ## remove what was built
	rm -rf build dist interpwidgets/static/*.js .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find interpwidgets tests bench scripts -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove what was built and what was installed
	rm -rf $(VENV) node_modules
