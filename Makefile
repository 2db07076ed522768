# ADTR Bench. `make demo` and `make test` are all that a fresh machine needs.

PYTHON ?= python3
VENV ?= .venv
INSTALLED = $(VENV)/.installed
export PATH := $(abspath $(VENV))/bin:$(PATH)

.PHONY: help install demo test lint unit coverage whole test-faults test-slurm test-slow test-dvc clean

help:  ## say what there is to make
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

install: $(INSTALLED)  ## create .venv with the pinned dependencies and this package

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11, 4) else "Python 3.11.4 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: install  ## real solar cells, real weights: a report in minutes
	@test -f reports/demo/report.html || adtr cost --study demo --here
	snakemake report --config study=demo
	@echo && cat results/demo/tables/elpv_image_auroc.md
	@echo "The report: $(CURDIR)/reports/demo/report.html"

test: lint unit whole  ## everything that is checked before a change is accepted

lint: install  ## style, types
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check Snakefile workflow

FAST = -n 2 --dist loadfile -m 'not pipeline and not slurm and not dvc and not faults and not browser'

unit: install  ## the fast tests
	pytest -q $(FAST)

coverage: install  ## the fast tests, and which lines they run: twice as long
	pytest -q $(FAST) --cov=adtr --cov-report=term:skip-covered

whole: install  ## the study `smoke` from end to end, and with DVC; the pages in a browser
	pytest -q -rs -n 2 --dist loadfile -m '(pipeline or dvc or faults or browser) and not slurm and not slow'

test-faults: install  ## every stage killed, starved, fed with damaged files and bad inputs: 800 times
	ADTR_FAULTS=all pytest -q -m faults

test-slurm: install  ## on a real Slurm of two nodes, installed (Debian, root) and started here
	ADTR_SLURM=needed pytest -q -m 'slurm and not slow'

test-dvc: install  ## the study `smoke` recorded, pushed, pulled, interrupted and damaged
	pytest -q -m dvc

test-slow: install  ## Slurm's preemption, time limits, lost nodes; DVC's links, variants and interruption; that most of bench/ still runs
	ADTR_SLURM=needed pytest -q -m slow

clean:  ## remove what was computed; data/, .venv and the reports in git stay
	rm -rf logs state .snakemake
	git clean -qfdX results reports
