# Two commands: `make demo` shows the main job, `make test` passes the tests. Each sets up what it needs.

PYTHON ?= python3
VENV := .venv
LOCK := $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command 'make lock'
PIP := $(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes
RUN := tests/lab/enter.sh $(VENV)/bin/python
export PYTHONPATH := tests
# hundreds of processes start: where this is set, each would compile everything anew
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check lab-test faults bench soak sbom lock clean

demo: $(VENV)/ready .packages
	@KEEP=$(KEEP) $(RUN) -m flow.demo

# What is set up takes one processor, what installs packages the other.
test:
	@$(MAKE) --no-print-directory -j2 $(VENV)/ready .packages
	$(MAKE) --no-print-directory -j6 --output-sync=target $(PARTS) check

check: $(VENV)/ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check reconciler tests benchmarks
	$(VENV)/bin/mypy reconciler
	$(VENV)/bin/lint-imports --no-cache

lab-test: $(VENV)/ready .packages
ifdef ARGS
	$(RUN) -m pytest $(ARGS)
else
	$(MAKE) --no-print-directory -j6 --output-sync=target $(PARTS)
endif

# Parts, each in namespaces of its own and with hosts of its own that its tests share, six at a time: tests wait
# half of their time, so two cores are enough for that.
PARTS := $(addprefix lab-test-,sample town flow freebsd bsd rest)
sample := $(addprefix tests/linux/test_,boot.py drift.py guard.py health.py login.py passes.py remote.py survival.py)
town := $(filter-out $(sample) tests/linux/test_kill.py,$(wildcard tests/linux/test_*.py))
flow := tests/flow tests/linux/test_kill.py
freebsd := $(addprefix tests/platforms/freebsd/test_,flow.py full.py ground.py)
bsd := $(filter-out $(freebsd),$(wildcard tests/platforms/freebsd/test_*.py)) tests/bsd
others = $(foreach part,sample town flow freebsd bsd,$(addprefix --ignore=,$($(part))))
rest = tests $(others)
.PHONY: $(PARTS)
$(PARTS): lab-test-%:
	$(RUN) -m pytest $($*)

# Long runs, of which `make test` has a short sample each.
bench: $(VENV)/ready .packages
	$(RUN) -m benchmarks

# The whole of what the tests sample (docs/faults.md): a kill, and a full disk, at every step and between any two
# commands; twenty times cut off; a thousand edits with random faults; a hundred
# rounds of whatever may happen. Takes hours.
faults: $(VENV)/ready .packages
	RECONCILER_KILLS=all $(RUN) -m pytest --timeout 9000 -rP $(addprefix tests/linux/test_,guard.py kill.py full.py)
	RECONCILER_KILLS=all $(RUN) -m pytest --timeout 9000 tests/platforms/freebsd/test_flow.py -k killed
	RECONCILER_KILLS=all $(RUN) -m pytest --timeout 9000 tests/platforms/freebsd/test_full.py
	RECONCILER_KILLS=all $(RUN) -m pytest --timeout 9000 tests/faults
	RECONCILER_KILLS=all $(RUN) -m pytest --timeout 9000 tests/flow/test_soak.py

# Whether one daemon stays as it is through half an hour of that.
soak: $(VENV)/ready .packages
	$(RUN) -m benchmarks.soak --minutes $(or $(MINUTES),30) --seed $(or $(SEED),1)

# An environment of our own from the lock file, made again when that changes. uv takes 5 seconds for what pip takes 30,
# but heeds none of pip's settings: where a machine has its packages from elsewhere, pip goes on.
$(VENV)/ready: requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: $(PYTHON) is older (set PYTHON=...)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "on Debian: apt-get install python3-venv" >&2; exit 1; }
	@sed -n '/^uv==/,/# via/p' requirements-dev.lock >$(VENV)/uv.lock
	$(PIP) -r $(VENV)/uv.lock
	$(VENV)/bin/uv pip install --quiet --compile-bytecode --python $(VENV)/bin/python --require-hashes -r requirements-dev.lock || \
		$(PIP) -r requirements-dev.lock
	$(VENV)/bin/uv pip install --quiet --offline --python $(VENV)/bin/python --no-deps --no-build-isolation -e .
	@touch $@

# System packages that the lab's hosts are made of: installed when we are root on Debian, listed otherwise.
.PHONY: .packages
.packages:
	@tests/lab/packages.sh

# What is in an installation, as CycloneDX, from the lock file: for whoever watches what becomes known of packages.
sbom: $(VENV)/ready
	$(VENV)/bin/uv tool run --quiet --from cyclonedx-bom==7.5.0 cyclonedx-py requirements requirements.lock \
		--pyproject pyproject.toml --output-reproducible --output-file sbom.json

lock:
	$(LOCK) pyproject.toml -o requirements.lock
	$(LOCK) --all-extras pyproject.toml -o requirements-dev.lock

clean:
	rm -rf $(VENV) .demo
