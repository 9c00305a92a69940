# Every target sets up what it needs in .venv: `make demo` and `make test` work in a fresh clone.
# Needs Python 3.10 or newer (choose one with `make PYTHON=python3.12 ...`) and, the first time, a network.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=
MINUTES ?= 10
SEED   ?= $(shell date +%s)

# Games that are known in pre-training.
GAMES  := boxing breakout demonattack enduro freeway mspacman qbert spaceinvaders
PROBED := breakout mspacman pong
OBJECTIVES := $(basename $(notdir $(wildcard registry/objectives/*.toml)))

.DEFAULT_GOAL := help
.PHONY: help demo test test-heavy fuzz kill bench recordings weights lint type format figures docs clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(VENV)/installed-plot  ## the whole path on real frames, minutes on a CPU, ending in demo/index.html; options with ARGS="--fast"
	$(BIN)/pretrainrl demo --resume $(ARGS)

test: $(VENV)/installed-dev  ## the tests, but for the heavy ones; options with ARGS="-k registry"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not heavy" --numprocesses auto --maxprocesses 8 --dist loadfile $(ARGS)

test-heavy: $(VENV)/installed-dev  ## the tests that take minutes each
	$(BIN)/python -m pytest -m heavy $(ARGS)

fuzz: $(VENV)/installed-dev  ## feed damaged and hostile input to everything that reads; MINUTES=10, SEED=1, ARGS="--targets cards"
	PYTHONPATH=tests/support $(BIN)/python tests/robustness/fuzz.py --minutes $(MINUTES) --seed $(SEED) $(ARGS)

kill: $(VENV)/installed-dev  ## kill what can be resumed, resume it, compare; MINUTES=10, SEED=1, ARGS="--jobs pretrain"
	PYTHONPATH=tests/support $(BIN)/python tests/robustness/kill.py --minutes $(MINUTES) --seed $(SEED) $(ARGS)

bench: $(VENV)/installed-dev  ## measure speed and write the tables of docs/speed
	@set -e; for script in $(wildcard speed/*.py); do \
		echo "$$script"; \
		table=$$($(BIN)/python $$script); \
		echo "$$table" | tee docs/speed/$$(basename $$script .py).md; \
	done

recordings: $(VENV)/installed-dev  ## make the bundled recordings again: agents learn each game, then play; some six hours on 2 cores
	$(BIN)/python speed/learning/make_all.py --out runs/all --objectives
	$(BIN)/python -m pretrainrl.integrations.minari.bundle_recording runs/all/recordings/*.rec

weights: $(VENV)/installed-dev  ## make the bundled weights again, of the recordings: pre-train, bundle, probe; some three hours on 2 cores
	@set -e; for objective in $(OBJECTIVES); do \
		$(BIN)/pretrainrl pretrain $$objective $(foreach game,$(GAMES),--dataset pretrainrl/atari/$(game)-mixed-v0) \
			--name $$objective.impala_atari8 --out runs/$$objective --resume; \
		$(BIN)/python -m pretrainrl.pretraining.bundle runs/$$objective; \
	done
	$(BIN)/pretrainrl collect $(PROBED) --ram --kind ram --steps 4000 --seed 1 --resume
	@set -e; for objective in $(OBJECTIVES); do \
		$(BIN)/pretrainrl probe $$objective $(foreach game,$(PROBED),--dataset pretrainrl/atari/$(game)-ram-v0) \
			--observations 2000 --out runs/probes/$$objective; \
	done
	$(BIN)/python -m pretrainrl.probing.report runs/probes/*

lint: $(VENV)/installed-dev  ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(VENV)/installed-dev  ## mypy, strict
	$(BIN)/mypy

format: $(VENV)/installed-dev  ## put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

figures: $(VENV)/installed-dev  ## the pictures and tables of the documentation
	$(BIN)/python docs/figures/concepts.py
	$(BIN)/python docs/figures/windows.py
	$(BIN)/python docs/figures/tables.py
	$(BIN)/python docs/figures/learning.py
	$(BIN)/python docs/figures/necks.py

docs: $(VENV)/installed-docs  ## the documentation, in site/; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:  ## remove .venv and everything that was built
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# installed-X stands for: this package, editable, with the extra X. It is renewed when pyproject.toml changes.
# `unfinished` is there while an installation runs; found at the next call, it means that one was cut off,
# and what it left cannot be trusted, so the environment is made anew.
$(VENV)/installed-%: pyproject.toml
	@if [ -e $(VENV)/unfinished ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		echo "Making $(VENV); PyTorch is large, so this takes a few minutes the first time."; \
		$(PYTHON) -m venv --clear $(VENV); \
	fi
	@touch $(VENV)/unfinished
	$(BIN)/python -m pip install --disable-pip-version-check --editable ".[$*]"
	@rm $(VENV)/unfinished
	@touch $@
