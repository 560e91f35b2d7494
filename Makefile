# The commands that people and CI run alike. Each does its own set-up: it installs what is missing, skips what is there,
# and says in one line what it does.

.DEFAULT_GOAL := help
.PHONY: help setup setup-node demo test test-vm test-bundle test-large test-grid bench bench-data bench-vm chaos check format pictures clean

VENV := .venv/bin
EXTRAS := --extra broker --extra launcher --extra condor
# The files that the demo pushes; empty: the alignments that come with the demo's image.
DEMO_INPUT ?=
# Such as --quick, or --only push.
BENCH ?=
# How long `make chaos` goes on, and such as --seed 7.
MINUTES ?= 10
CHAOS ?=

help: ## Show these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:
	@deploy/setup/system-packages python
	@deploy/setup/python-environment $(EXTRAS)

setup-node: setup
	@deploy/setup/system-packages node image

demo: setup-node ## Three files in, three virtual machines, three results out (demo-results/)
	@deploy/image/build full
	@$(VENV)/python -m deploy.demo $(if $(DEMO_INPUT),--input "$(DEMO_INPUT)")

# Its own packages beside those of everybody: what a browser does with events, without a browser.
test: EXTRAS += --group browser
test: setup-node ## The tests, on a real store, real libvirt and a few real VMs
	@deploy/setup/system-packages test
	@deploy/image/build minimal
	@$(VENV)/pytest --ignore=tests/vm --ignore=tests/grid --numprocesses 3 --dist loadfile

test-vm: setup-node ## One real VM for each kind of image and each way in and out of it
	@deploy/setup/system-packages test guestfs
	@deploy/image/build minimal exchange stock cloud
	@$(VENV)/pytest tests/vm -m "not large and not bundle"

test-bundle: setup-node ## A bundle carried to clean Debian 11, 12 and 13, a VM by each one's own QEMU and libvirt
	@deploy/setup/system-packages test
	@deploy/image/build root-debian11 & first=$$!; \
		deploy/image/build minimal root-debian12 root-debian13; status=$$?; wait $$first && exit $$status
	@$(VENV)/pytest tests/vm -m bundle

test-large: setup-node ## 2 GiB into a VM and 2 GiB out of it, while memory stays flat
	@deploy/setup/system-packages test
	@deploy/image/build minimal
	@$(VENV)/pytest tests/vm -m large

test-grid: setup-node ## Launchers as jobs of a real HTCondor and a real Slurm, each of an ordinary account
	@deploy/setup/system-packages test
	@deploy/image/build slurm & first=$$!; \
		deploy/image/build minimal htcondor; status=$$?; wait $$first && exit $$status
	@$(VENV)/pytest tests/grid --numprocesses 2 --dist loadfile

bench: setup ## The broker beside its peers and beside servers that do nothing; on a machine that does nothing else
	@deploy/setup/system-packages bench
	@UV_PROJECT_ENVIRONMENT=.venv-peers deploy/setup/python-environment --only-group bench
	@$(VENV)/python -m bench.broker $(BENCH)

bench-data: setup ## Bytes in and out beside nginx, and pushes with targets; on a machine that does nothing else
	@deploy/setup/system-packages bench
	@$(VENV)/python -m bench.data $(BENCH)

chaos: setup-node ## The fault test for as long as MINUTES says: processes die, answers are lost, nothing else may be
	@$(VENV)/python -m tests.fault --minutes $(MINUTES) $(CHAOS)

bench-vm: setup-node ## What a vm costs beside the same vm without a launcher; on a machine that does nothing else
	@deploy/image/build minimal
	@$(VENV)/python -m bench $(BENCH)

check: setup ## Format, lint, types, imports, generated docs
	@$(VENV)/ruff format --check .
	@$(VENV)/ruff check .
	@$(VENV)/mypy
	@$(VENV)/lint-imports --no-cache
	@$(VENV)/python -m docs.generate --check

pictures: setup-node ## The pictures of docs/how-to, by virt-manager on a screen in memory; not as root
	@deploy/setup/system-packages pictures
	@deploy/image/build stock
	@$(VENV)/python -m docs.pictures

format: setup ## Format the code and mend what ruff can
	@$(VENV)/ruff format .
	@$(VENV)/ruff check --fix .

clean: ## Remove what was made in this folder; the caches outside it stay
	@rm -rf .venv .venv-peers .mypy_cache .ruff_cache .pytest_cache .hypothesis dist demo-results bench/out
