# What can be done with a checkout: `make help`. Every target sets up what it needs, as root also Debian packages, and
# does nothing twice: packages are asked of dpkg, the rest is remembered by content hash in .make/.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
ARGS ?=
export ARGS

# To run bundles; and a C compiler and headers for the extension and for python-prctl, and a small libc for the launcher.
PACKAGES := runc busybox-static gcc libc6-dev libcap-dev musl-tools
# Debian's own Python comes in parts; another one, first on PATH, is taken as it is.
ifneq ($(filter-out /usr/bin/% /bin/%,$(shell command -v $(PYTHON))),$(shell command -v $(PYTHON)))
PACKAGES += $(notdir $(PYTHON)) $(notdir $(PYTHON))-venv $(notdir $(PYTHON))-dev
else ifeq ($(shell command -v $(PYTHON)),)
PACKAGES += $(notdir $(PYTHON)) $(notdir $(PYTHON))-venv $(notdir $(PYTHON))-dev
endif
# To test: the other runtimes, what the tests call, and what builds the newer root.
TEST_PACKAGES := $(PACKAGES) crun runsc e2fsprogs iproute2 procps tmux mmdebstrap debian-archive-keyring containernetworking-plugins \
    curl umoci skopeo golang-go golang-github-hashicorp-go-plugin-dev golang-google-grpc-dev
# Docker's own packages bring a containerd, too, which Debian's would replace.
ifeq ($(shell command -v containerd),)
TEST_PACKAGES += containerd
endif
BENCH_PACKAGES := $(TEST_PACKAGES) conmon
LINT_PACKAGES := $(PACKAGES) shellcheck

hash = $(shell cat $(1) | sha256sum | cut -c1-12)
RUNTIME := .make/runtime-$(call hash,pyproject.toml)
DEV := .make/dev-$(call hash,pyproject.toml)
EXTENSION := .make/extension-$(call hash,pyproject.toml setup.py native/*.h native/build.py $(filter-out native/_ffi.c,$(wildcard native/*.c)))

SCRIPTS := .ci/run bundles/build-rootfs tests/run tests/bed/build-root tests/bed/apart tests/bed/enter tests/bed/guest

.PHONY: help demo test test-host test-root test-guest lint bench bench-check proto clean packages test-packages lint-packages bench-packages bed go-programs

help: ## says what there is (this)
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

demo: packages $(EXTENSION) bundles/rootfs ## runs a sample bundle under runc
	@.venv/bin/ocishim run --rm bundles/hello

test: test-packages $(DEV) $(EXTENSION) bundles/rootfs bed go-programs ## all tests: on this host, in the newer root, in the cgroup v2 guest
	@tests/run host root guest

test-host: test-packages $(DEV) $(EXTENSION) bundles/rootfs bed go-programs ## the first part alone; ARGS="-k word" goes to pytest
	@tests/run host

test-root: test-packages $(DEV) $(EXTENSION) bundles/rootfs bed go-programs ## the second part alone
	@tests/run root

test-guest: test-packages $(DEV) $(EXTENSION) bundles/rootfs bed go-programs ## the third part alone
	@tests/run guest

lint: lint-packages $(DEV) $(EXTENSION) ## style, types and shell scripts
	@echo "-- ruff, mypy, shellcheck"
	@.venv/bin/ruff check --quiet .
	@.venv/bin/ruff format --quiet --check .
	@.venv/bin/mypy
	@shellcheck --severity=warning $(SCRIPTS)

bench: bench-packages $(DEV) $(EXTENSION) bundles/rootfs bed ## measures beside containerd's shims and conmon; ARGS="-k word" a part, ARGS=--full longer
	@status=0; \
	.venv/bin/pytest -c benchmarks/pytest.ini benchmarks $(ARGS) || status=$$?; \
	PYTHONPATH=benchmarks .venv/bin/python -m harness.report; \
	exit $$status

bench-check: $(DEV) ## tells which of the budgets hold in the latest results
	@PYTHONPATH=benchmarks .venv/bin/python -m harness.report check

proto: $(DEV) ## makes shim/proto/*_pb2.py and .pyi out of the .proto files
	@echo "-- generating shim/proto"
	@.venv/bin/python -m shim.proto.generate

clean: ## removes all that was made here (the newer root stays in the user's cache)
	@rm -rf --one-file-system .venv .make build dist *.egg-info shim/_ffi*.so native/_ffi.c bundles/rootfs \
	    .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	@find . -name __pycache__ -prune -exec rm -rf {} +

# $(call install,NAME...): the Debian packages NAME... are there; apt is called for missing ones only.
define install
@missing=$$(comm -13 <(dpkg-query -W -f='$${Package} $${Status}\n' $(1) 2> /dev/null | sed -n 's/ install ok installed$$//p' | sort) \
    <(printf '%s\n' $(1) | sort -u)); \
[ -n "$$missing" ] || exit 0; \
echo "-- installing" $$missing; \
[ "$$(id -u)" -eq 0 ] || { echo "packages are missing; as root: apt-get install" $$missing >&2; exit 1; }; \
export DEBIAN_FRONTEND=noninteractive; \
log=$$(mktemp); trap 'rm -f "$$log"' EXIT; \
{ apt-get update && apt-get install --yes --no-install-recommends $$missing; } > "$$log" 2>&1 || { cat "$$log" >&2; exit 1; }
endef

packages:
	$(call install,$(PACKAGES))

test-packages:
	$(call install,$(TEST_PACKAGES))

bench-packages:
	$(call install,$(BENCH_PACKAGES))

lint-packages:
	$(call install,$(LINT_PACKAGES))

# The package is installed editable, without build isolation: one compiler run and no second download.
define pip-install
@[ -x .venv/bin/pip ] || $(PYTHON) -m venv .venv
@export PIP_DISABLE_PIP_VERSION_CHECK=1; \
sed -n 's/^requires = \[\(.*\)\]/\1/p' pyproject.toml | tr -d , | xargs .venv/bin/pip install -qq; \
.venv/bin/pip install -qq --no-build-isolation --editable '.$(1)'
@mkdir -p .make && rm -f .make/runtime-* .make/dev-* .make/extension-* && touch $@ $(EXTENSION)
endef

$(RUNTIME): | packages
	@echo "-- installing ocishim and what it requires in .venv"
	$(call pip-install)

$(DEV): | packages
	@echo "-- installing ocishim and what its tests require in .venv"
	$(call pip-install,[dev])
	@touch $(RUNTIME)

$(EXTENSION): | $(RUNTIME)
	@[ ! -e $@ ] || exit 0; \
	echo "-- building the extension"; \
	PIP_DISABLE_PIP_VERSION_CHECK=1 .venv/bin/pip install -qq --no-build-isolation --no-deps --editable .; \
	rm -f .make/extension-* && touch $@

bundles/rootfs: bundles/build-rootfs | packages
	@echo "-- making the sample root filesystem"
	@bundles/build-rootfs $@

bed: | test-packages
	@tests/bed/build-root > /dev/null

go-programs: $(DEV) | test-packages
	@.venv/bin/python tests/support/go_program.py
