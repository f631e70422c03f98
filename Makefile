# Every command of the project. `make` alone lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.SUFFIXES:
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
INVENTORY ?= lab
# Debian's own, which is what hosts have, whatever else is in PATH; `make PYTHON=...` takes another.
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
export PATH := $(CURDIR)/$(BIN):$(PATH)

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# A clone on bare Debian has git and make; python3 with venv comes from Debian, everything else hash-locked into .venv.
$(VENV)/controller: requirements/controller.txt pyproject.toml
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "==> installing python3-venv from Debian"; \
	  $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq --no-install-recommends python3-venv openssh-client >/dev/null; }
	@echo "==> making $(VENV) from $<"
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev: requirements/dev.txt $(VENV)/controller
	@echo "==> adding the tools of $<"
	@$(BIN)/uv pip install --quiet --require-hashes -r $<
	@touch $@

# Prometheus' own checker of rules: Debian 13 has a separate package for it, in Debian 12 it is part of prometheus. Only the program is taken:
# a machine that runs tests needs no server.
$(BIN)/promtool: | $(VENV)/controller
	@echo "==> taking promtool out of Debian's package into $(VENV)"
	@set -e; taken=$$(mktemp -d); trap 'rm -rf "$$taken"' EXIT; $(SUDO) apt-get update -qq; \
	  (cd "$$taken" && { apt-get download -qq -o APT::Sandbox::User=root promtool 2>/dev/null || apt-get download -qq -o APT::Sandbox::User=root prometheus; } \
	   && dpkg-deb -x *.deb .); install -m 0755 "$$taken/usr/bin/promtool" $@

# NGINX itself, for the tests of what clients get of a slot: without them the promises about whole answers would go untried in silence.
$(BIN)/nginx: | $(VENV)/controller
	@echo "==> taking nginx out of Debian's package into $(VENV)"
	@set -e; taken=$$(mktemp -d); trap 'rm -rf "$$taken"' EXIT; $(SUDO) apt-get update -qq; \
	  (cd "$$taken" && apt-get download -qq -o APT::Sandbox::User=root nginx && dpkg-deb -x *.deb .); install -m 0755 "$$taken/usr/sbin/nginx" $@

# For the tests of projects that keep files in Git LFS: a pointer that is shipped in place of a file is a fault that nobody sees.
$(BIN)/git-lfs: | $(VENV)/controller
	@echo "==> taking git-lfs out of Debian's package into $(VENV)"
	@set -e; taken=$$(mktemp -d); trap 'rm -rf "$$taken"' EXIT; $(SUDO) apt-get update -qq; \
	  (cd "$$taken" && apt-get download -qq -o APT::Sandbox::User=root git-lfs && dpkg-deb -x *.deb .); install -m 0755 "$$taken/usr/bin/git-lfs" $@

setup: $(VENV)/dev ## make .venv with everything that development needs

COMPILE = $(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-header
lock: $(VENV)/controller ## update the locked requirements
	$(COMPILE) pyproject.toml --group build -o requirements/controller.txt
	$(COMPILE) pyproject.toml --group build --group dev -c requirements/controller.txt -o requirements/dev.txt
	cd app && ../$(COMPILE) pyproject.toml -o requirements.txt
	cd app && ../$(COMPILE) pyproject.toml --group dev -c requirements.txt -o requirements-dev.txt

lint: $(VENV)/dev ## ansible-lint, yamllint, ruff, mypy
	ruff check . && ruff format --check .
	mypy
	yamllint .
	ansible-lint --offline -q

# A clone of github.com/pypa/advisory-database; `git pull` there updates it. Offline otherwise; a list older than 30 days is refused.
ADVISORIES ?= ../advisory-database
audit: $(VENV)/controller ## hold all locked packages against the advisories in ADVISORIES
	@$(BIN)/python requirements/advisories.py $(ADVISORIES) $(wildcard requirements/*.txt app/requirements*.txt roles/*/files/requirements.txt)

.PHONY: audit

unit: $(VENV)/dev $(BIN)/promtool $(BIN)/nginx $(BIN)/git-lfs ## static and unit tests, no host
	pytest -q

docs: $(VENV)/controller ## write docs/reference from defaults, specs and models
	$(BIN)/python docs/generate_reference.py

dashboards: $(VENV)/dev ## write grafana/*.json from the consoles
	$(BIN)/python grafana/generate.py

.PHONY: docs dashboards

# The app's own virtualenv, by a Debian Python like the one it will run on; its data directory gets its schema.
app/.venv/ready: app/requirements-dev.txt app/pyproject.toml $(VENV)/controller
	@echo "==> making app/.venv from $<"
	@[ -x app/.venv/bin/python ] || $(PYTHON) -m venv app/.venv
	@$(BIN)/uv pip sync --quiet --python app/.venv/bin/python --require-hashes $<
	@$(BIN)/uv pip install --quiet --python app/.venv/bin/python --no-deps --no-build-isolation --editable app
	@touch $@

app-setup: app/.venv/ready ## development install of the reference API into app/.venv
	@cd app && .venv/bin/python -m api.migrate

# initdb and friends; the tests start their own server with them.
app-postgresql:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || { echo "==> installing postgresql from Debian"; \
	  $(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null; }

app-test: app/.venv/ready app-postgresql ## checks and tests of the reference API, on SQLite and PostgreSQL
	cd app && .venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy
	cd app && diff=$$(.venv/bin/autopep8 --recursive --aggressive --aggressive --diff .) && echo "$$diff" && [ -z "$$diff" ]
	cd app && .venv/bin/pytest -q --cov

app-fuzz: app/.venv/ready ## the reference API against its own description, at length
	cd app && FUZZ_EXAMPLES=200 .venv/bin/pytest -s -q tests/test_contract.py

app-bench: app/.venv/ready ## time the reference API against bare Flask
	app/.venv/bin/python bench/api_cost.py

# Two machines, an hour where nothing else runs. AGAINST=DIRECTORY lets what runs cost take turns with another checkout.
bench: $(VENV)/dev ## measure requests, releases next to other ways to deploy, and what hosts cost, into docs/performance.md
	@$(PREFLIGHT)
	@set -o pipefail; { $(BIN)/python bench/heading.py && $(BIN)/python bench/serving.py && $(BIN)/python bench/changes.py \
	  && $(BIN)/python bench/growth.py --rounds 2 $(if $(AGAINST),--against $(AGAINST)); } | tee .performance.md && mv .performance.md docs/performance.md
	@echo "==> the two machines stay: ansible-playbook playbooks/lab_down.yml -i bench/inventory"

.PHONY: app-setup app-postgresql app-test app-fuzz app-bench bench

# Two at a time, for most of their time scenarios wait; each with its number added to the lab's name and network. The longest begin.
SIDE_BY_SIDE := releases:1 unit:0 default:2 balancers:3 databases:4 image-test:5
test: lint app-test $(BIN)/promtool $(BIN)/nginx $(BIN)/git-lfs ## everything that CI runs: lint, app-test, then unit, four scenarios and image-test side by side
	@rm -rf .test && mkdir .test
	@$(MAKE) -k -j2 $(foreach one,$(SIDE_BY_SIDE),test-$(firstword $(subst :, ,$(one)))) || { for part in .test/*; do \
	  echo "==> $${part#.test/} failed; the whole of it is in $$part, this is what it says of it:"; \
	  sed 's/\x1b\[[0-9;]*m//g' "$$part" | grep -E -A2 $(FAILURE) | tail -n 30; done; exit 1; }

# What says why: of pytest, of Ansible, of a step's limits, of make.
FAILURE := '(FAILED|ERROR) |^[ │]*E  |fatal: |failed: |^[ │]*\^ |\*\*\* '

test-%: NUMBER = $(patsubst $*:%,%,$(filter $*:%,$(SIDE_BY_SIDE)))
test-%: $(VENV)/dev
	@set -o pipefail; mkdir -p .test; export PRAETOR_LAB="$${PRAETOR_LAB:-praetor}$(NUMBER)" PRAETOR_LAB_NET="$$(($${PRAETOR_LAB_NET:-0} + $(NUMBER)))"; \
	  $(MAKE) $(if $(wildcard molecule/$*),molecule SCENARIO=$*,$*) 2>&1 | tee .test/$* | sed -u 's/^/$*: /' && rm .test/$*

# The id of the release in the image is that of hosts: it counts the last commit of the app's source, and the Pythons of the hosts, of which
# PYTHONS=3.13 names some.
image: ## build the reference API as an image called flaskapp, with the docker of this machine
	docker build -t flaskapp --build-arg COMMIT="$$(git log -1 --format=%H -- app)" --build-arg CREATED="$$(git log -1 --format=%cI)" --build-arg PYTHONS="$(PYTHONS)" .

# From Debian, without starting docker's service: the tests have their own daemon. Where none can run they say why, which is a failure in CI only.
IMAGE_NEEDS := docker.io iproute2 iptables mmdebstrap
image-test-long: IMAGE_NEEDS += slirp4netns
image-test: TRY := -m "not long"
image-test-long: TRY := -rP
image-test: $(VENV)/dev ## build and try the image with a docker daemon made for that
image-test-long: $(VENV)/dev ## the same and what takes longer: other apps, Debian 12, Compose, containers replaced under load
image-test image-test-long:
	@dpkg-query -W -f '$${db:Status-Status}\n' $(IMAGE_NEEDS) 2>&1 | grep -vqx installed || exit 0; \
	  echo "==> installing from Debian what is missing of $(IMAGE_NEEDS)"; $(SUDO) $(BIN)/ansible localhost -o -m ansible.builtin.apt \
	  -a "name=$$(echo $(IMAGE_NEEDS) | tr ' ' ,) install_recommends=false update_cache=true policy_rc_d=101" >/dev/null
	@$(SUDO) env PATH="$$PATH" pytest -q -rs -p no:cacheprovider $(TRY) tests/image

.PHONY: image image-test image-test-long

# Asked before anything is installed, with what every Debian has.
PREFLIGHT = $(if $(shell command -v sudo),$(SUDO)) sh roles/lab_host/files/preflight
# The lab's plays need root; where sudo wants a password they ask for it.
BECOME = $(shell [ "$$(id -u)" = 0 ] || sudo -n true 2>/dev/null || echo --ask-become-pass)

lab: ## start the lab: three throw-away Debian hosts on this machine
	@$(PREFLIGHT)
	@$(MAKE) $(VENV)/controller
	@echo "==> starting the lab: app1 on Debian 12, app2 and mon1 on Debian 13 (the first time a few minutes, later seconds)"
	@ansible-playbook playbooks/lab_up.yml -i inventories/lab $(BECOME)

lab-down: $(VENV)/controller ## take the lab away
	@echo "==> taking the lab away"
	@ansible-playbook playbooks/lab_down.yml -i inventories/lab $(BECOME)

demo: lab ## start the lab and deploy the reference API to it
	@echo "==> deploying to the lab: playbooks/deploy.yml -i inventories/lab"
	@ansible-playbook playbooks/deploy.yml -i inventories/lab
	@ansible-playbook playbooks/status.yml -i inventories/lab -e table=demo | sed -n '/^HOST /,/^$$/p'

demo-down: lab-down ## take the demo away; base trees and packages stay cached in /var/cache/praetor-lab

lab-purge: $(VENV)/controller ## take the lab away with everything that it has cached
	@echo "==> taking the lab and its cache away"
	@ansible-playbook playbooks/lab_down.yml -i inventories/lab $(BECOME) -e state=purged

# Ends with one address, and with what to kill.
demo-fleet: ## start seven hosts (two balancers, two app hosts, database, backups, monitoring) and deploy the API to them
	@$(PREFLIGHT)
	@$(MAKE) $(VENV)/controller
	@echo "==> starting seven machines: inventories/fleet"
	@ansible-playbook playbooks/lab_up.yml -i inventories/fleet $(BECOME)
	@echo "==> deploying to them: playbooks/deploy.yml -i inventories/fleet"
	@ansible-playbook playbooks/deploy.yml -i inventories/fleet
	@ansible-playbook playbooks/status.yml -i inventories/fleet -e table=demo | sed -n '/^HOST /,/^$$/p'
	@echo "Ask it again and again, and take something away meanwhile (after . $(BIN)/activate):"
	@echo "  ansible app1 -i inventories/fleet -b -a 'reboot -ff'                           an app host loses power"
	@echo "  ansible lb1 -i inventories/fleet -b -a 'reboot -ff'                            the balancer with the address does"
	@echo "  ansible-playbook playbooks/maintain.yml -i inventories/fleet -e reboot=always  everything is updated and rebooted"
	@echo "make demo-fleet-down takes the machines away."

demo-fleet-down: $(VENV)/controller ## take the seven hosts away
	@ansible-playbook playbooks/lab_down.yml -i inventories/fleet $(BECOME)

# Its machines have another name and network than the lab's, so both can be up.
SCENARIO ?= default
molecule: $(VENV)/dev ## host tests on throw-away machines; SCENARIO=releases proves releases under load, fleet hosts and balancers, data databases and backups, security attacks, alerts tells; all runs all
	@$(PREFLIGHT)
	@molecule test $(if $(filter all,$(SCENARIO)),--all,$(SCENARIO:%=--scenario-name %))

.PHONY: help setup lock lint unit test lab lab-down lab-purge demo demo-down demo-fleet demo-fleet-down molecule
