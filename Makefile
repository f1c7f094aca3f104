# `make demo` and `make test` set everything up on a machine with Python 3.11 or newer and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo
SIZE ?= small
SITE ?= build/docs
COUNT ?= 150
# Two processes, which take the files of tests in the order of tests/conftest.py.
BESIDE = -n 2 --dist loadfile --no-loadscope-reorder
# Exact versions, for every platform; floemap itself asks for lower bounds only.
INSTALL = $(BIN)/python -m pip install --quiet -c requirements.lock

.PHONY: demo test quick coverage mutants lint docs lock release container clean

demo: $(VENV)/.installed
	$(BIN)/floemap demo --out $(OUT) --size $(SIZE)

# One thread for each of the two workers: more would only wait for each other.
test: export OMP_NUM_THREADS := 1
test: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(BESIDE) --durations 25

# What tells most in little time, for every change while one works.
quick: export OMP_NUM_THREADS := 1
quick: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(BESIDE) -m "not slow"

# All tests once more with what they run of the source counted; what none of them runs is listed, and kept in build/coverage.
coverage: $(VENV)/.installed-test
	rm -rf build/coverage && mkdir -p build/coverage
	$(BIN)/python -m coverage run -m pytest $(BESIDE)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report > build/coverage/report.txt
	cat build/coverage/report.txt

# Random single changes to the core, each judged by the tests: CONTRIBUTING.md. It takes hours; repeat it to resume.
mutants: $(VENV)/.installed-test
	test -x build/mutants/venv/bin/cosmic-ray || { $(PYTHON) -m venv build/mutants/venv && \
	  build/mutants/venv/bin/python -m pip install --quiet cosmic-ray==8.7.0; }
	build/mutants/venv/bin/python benchmarks/mutation/sample.py build/mutants/sample --count $(COUNT) --python $(BIN)/python

lint: $(VENV)/.installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# The documentation site; open index.html in it.
# A warning is an error (with --quiet mkdocs would not count them).
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --site-dir $(SITE)
	$(BIN)/python docs/check_site.py $(SITE)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.installed: $(BIN)/python pyproject.toml requirements.lock
	$(INSTALL) -e '.[learn]'
	@touch $@

$(VENV)/.installed-test: $(BIN)/python pyproject.toml requirements.lock
	$(INSTALL) -e '.[learn,fetch,archive,test]'
	@touch $@

$(VENV)/.installed-docs: $(BIN)/python pyproject.toml requirements.lock
	$(INSTALL) -e '.[docs]'
	@touch $@

# Renews requirements.lock. torch stays at the release of which a build without CUDA is on offer.
lock:
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet uv
	echo 'torch==2.13.0' > build/lock/torch.txt
	build/lock/bin/uv pip compile --quiet --universal --all-extras --python-version 3.11 -c build/lock/torch.txt \
	  --no-annotate --no-header --no-emit-index-url --no-emit-find-links pyproject.toml -o build/lock/all.txt
	{ head -n 2 requirements.lock; grep -vE '^(nvidia-|cuda-|triton|torch==)' build/lock/all.txt; \
	  cat build/lock/torch.txt; } > build/lock/requirements.lock
	mv build/lock/requirements.lock requirements.lock

# A release's wheel must work alone: built, installed without the source, and the smallest demo run with it.
release:
	rm -rf build/release
	$(PYTHON) -m venv build/release/venv
	build/release/venv/bin/python -m pip install --quiet build
	build/release/venv/bin/python -m build --quiet --outdir build/release
	build/release/venv/bin/python -m pip install --quiet -c requirements.lock "$$(ls build/release/*.whl)[learn]"
	cd build/release && venv/bin/floemap config demo --out study.toml && venv/bin/floemap demo --out demo --size smallest
	test -s build/release/demo/smallest/report/report.html

# The container, where docker or podman can build: it must answer as an ordinary user whose root is read-only.
container:
	@builder=$$(for b in docker podman; do $$b info >/dev/null 2>&1 && echo $$b && break; done); \
	if [ -z "$$builder" ]; then echo "no builder of containers is running: the Containerfile is only read by a test"; \
	else $$builder build -q -f Containerfile -t floemap . && \
	  $$builder run --rm --read-only --tmpfs /tmp --cap-drop ALL --network none floemap --version; fi

clean:
	rm -rf $(VENV) demo build
