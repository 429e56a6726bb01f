# Everything a developer runs. Works with GNU make, Python >= 3.11 and pip; nothing else is assumed.
PYTHON ?= python3
SECONDS ?= 60
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif
STAMP := .venv/.ready

.PHONY: setup test check chaos fuzz demo proto docs site bench-help clean

setup: $(STAMP)  ## create .venv and install the project with its tools, when stale

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[dev]'
	touch $@

check: setup  ## style, types, import directions
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# One compute thread per test process: two that share a core slow each other down tenfold.
test: export OMP_NUM_THREADS ?= 1
# Two networks of real processes at a time: most of an end-to-end test waits for something. In the
# order of their names: the files with the fewest tests last would leave one long test to itself.
test: check  ## everything that must hold before a change is merged
	$(BIN)/python -m pytest -n logical --dist worksteal -m "not e2e and not chaos"
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m e2e

chaos: export OMP_NUM_THREADS ?= 1
chaos: setup  ## inject faults into real processes, CHAOS_N times each (default: few); chaos-report.json
	CHAOS_N=$(CHAOS_N) $(BIN)/python -m pytest -m chaos tests/chaos

fuzz: setup  ## fuzz every parser of outside bytes, SECONDS each (Linux)
	set -e; for target in graph frame tensors join_key; do \
	  $(BIN)/python -m tests.fuzz.run $$target --seconds $(SECONDS); done

demo: setup  ## a broker and four peers on this machine train a small model
	$(BIN)/python -m examples.demo

proto: setup  ## compile proto/ into homespun/v1
	$(BIN)/python scripts/proto.py

docs: setup  ## regenerate the generated pages of docs/ from stored results; --measure takes those again
	set -e; for script in scripts/*_doc.py; do $(BIN)/python $$script; done

site: setup  ## the documentation as a site, in build/site; warnings are errors
	$(BIN)/python -m sphinx -W --keep-going --quiet -c docs -d build/doctrees . build/site

bench-help:  ## how to run the benchmarks
	@echo "Benchmarks live in benchmarks/; each prints its options:"
	@for file in benchmarks/*/*.py benchmarks/*.py; do \
	  case $$file in *'*'*) ;; *) echo "  $(BIN)/python $$file --help" ;; esac; done

clean:  ## remove what tools leave behind; .venv stays
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist demo-run
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
