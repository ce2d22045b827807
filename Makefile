# What CI does, a target each; .ci/run does them all. `make check` is for before a commit and needs nothing but Python.
# Tools go to VENV and what is built to DIST; tests that need a tree of their own make it in a scratch directory.
VENV ?= .venv
DIST ?= dist
CHECKS = format style types imports manifest metadata image-lint workflow-lint docs

.PHONY: tools check $(CHECKS) alerts test coverage dist compiled browser systemd packaging deb image ci release constraints

# By what CI uses, of which packaging/constraints.txt names each version.
tools: $(VENV)/tools
$(VENV)/tools: setup.cfg packaging/constraints.txt
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install -q --disable-pip-version-check -c packaging/constraints.txt -e '.[test,bench,lint,docs,package]'
	touch $@

check: $(CHECKS)

format: tools
	$(VENV)/bin/ruff format --check .

style: tools
	$(VENV)/bin/ruff check .

types: tools
	$(VENV)/bin/mypy

imports: tools
	$(VENV)/bin/lint-imports

# That the sdist holds what is in git.
manifest: tools
	$(VENV)/bin/check-manifest

metadata: tools
	$(VENV)/bin/pyroma --min 10 .

image-lint: tools
	.ci/image-lint $(VENV)/bin

workflow-lint: tools
	.ci/workflow-lint $(VENV)/bin

docs: tools
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet --strict --site-dir $(abspath $(DIST))/site

# Prometheus' own tool tries the alerts; the tests see to it that the metrics they name exist.
alerts:
	.ci/alerts

# The README's test command as its reader would type it, which installs the newest of everything.
test:
	.ci/test

# How much of the code the tests of its rooms run in their own process; setup.cfg holds the floor.
coverage: tools
	$(VENV)/bin/python -m pytest -q $(addprefix tests/,access config core net observe redis storage) --cov

# An sdist, a pure wheel, and a compiled one for this Python.
dist: $(DIST)/done
$(DIST)/done: $(VENV)/tools
	.ci/dist $(VENV)/bin $(DIST)
	touch $@

# The test suite on the compiled wheel, and the C of the bursts under sanitizers.
compiled: dist
	.ci/compiled $(DIST)

# The status page in a real browser.
browser: tools
	.ci/browser $(VENV)/bin

# The service under a systemd that boots, in a Debian of its own: it takes root.
systemd: tools
	.ci/as-root "the systemd units" 20m $(VENV)/bin/python -m pytest tests/systemd/boot.py

# Installs in Debian 12 and 13 by pip, pipx and uvx: it takes root, as what follows does.
packaging: tools dist
	UDPTRACKER_DIST=$(abspath $(DIST)) .ci/as-root "installs" 30m $(VENV)/bin/python -m pytest tests/packaging/install.py

# The .deb, built, and as a service under a systemd that boots.
deb: tools dist
	UDPTRACKER_DIST=$(abspath $(DIST)) .ci/as-root "the .deb" 20m $(VENV)/bin/python -m pytest tests/systemd/deb.py

# The image, step by step and as an engine would run it.
image: tools
	.ci/as-root "the image" 20m $(VENV)/bin/python -m pytest tests/packaging/image.py

ci: check alerts test compiled browser systemd

# What is installed where: a quarter of an hour more, and it reads much from Debian's mirrors. Before each release.
release: packaging deb image

# The versions that CI, the .deb and the image use: the newest of what setup.cfg allows.
constraints:
	.ci/constraints > packaging/constraints.new
	mv packaging/constraints.new packaging/constraints.txt
