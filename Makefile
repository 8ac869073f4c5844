# make sample: what the embedded model writes, plain and with a memory. make test: the checks. Both install what they need first.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: sample test

sample: $(VENV)/installed
	$(RUN) sample.py config/tinyworld_sentiment.py
	$(RUN) sample.py config/tinyworld_recall.py

test: $(VENV)/installed $(VENV)/installed-ray
	$(RUN) -m ruff check
	$(RUN) -m pytest -n 2

$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -q --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/installed-ray: requirements-ray.txt $(VENV)/installed
	$(RUN) -m pip install -q --disable-pip-version-check -r requirements-ray.txt
	touch $@
