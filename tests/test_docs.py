"""
What the pages say of the repository is so: links lead somewhere, files and settings exist.

$ python -m pytest tests/test_docs.py
"""
import glob
import os
import re

import pytest
from conftest import ROOT

PAGES = ('README.md', 'page/README.md', 'assets/chat.md', 'assets/libraries.md', 'assets/many_texts.md',
         'assets/RESULTS.md', 'assets/smollm2.md', 'assets/speed.md', 'assets/tinyworld.md')


def read(path):
    with open(os.path.join(ROOT, path), encoding='utf-8') as f:
        return f.read()


def anchors(text):
    """Those that GitHub gives the headings of a page."""
    headings = re.findall(r'^#+ (.*)$', text, re.MULTILINE)
    return [re.sub(r"[^\w\- ]", '', heading.lower()).replace(' ', '-') for heading in headings]


def settings_of(script):
    """The names between its two dashed lines."""
    block = re.split(r'^# ----.*\n', read(script), flags=re.MULTILINE)[1]
    return re.findall(r'^(\w+) = ', block, re.MULTILINE)


def test_the_readme_is_short_enough_to_be_read():
    assert read('README.md').count('\n') <= 230


@pytest.mark.parametrize('page', PAGES)
def test_prose_ends_before_column_130(page):
    prose = re.sub(r'^```.*?^```', '', read(page), flags=re.MULTILINE | re.DOTALL)
    assert not [line for line in prose.splitlines() if len(line) >= 130 and not line.startswith('|')]


@pytest.mark.parametrize('page', PAGES)
def test_every_link_leads_somewhere(page):
    for link in re.findall(r'\]\(([^)]+)\)', read(page)):
        if link.startswith('https://'):
            continue
        path, _, anchor = link.partition('#')
        target = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
        assert os.path.exists(os.path.join(ROOT, target)), link
        assert not anchor or anchor in anchors(read(target)), link


@pytest.mark.parametrize('page', PAGES)
def test_every_command_in_the_text_names_files_that_exist(page):
    for command in re.findall(r'`(python [^`]+)`', read(page)):
        for word in re.findall(r'[\w/.]+\.(?:py|txt)', command):
            assert word == 'config/mine.py' or os.path.exists(os.path.join(ROOT, word)), command


def test_the_files_of_the_readme_are_those_of_the_root():
    listed = re.search(r'^## files\n+```\n(.*?)^```', read('README.md'), re.MULTILINE | re.DOTALL)[1]
    names = re.findall(r'^(\S+)', listed, re.MULTILINE)
    assert {name for name in names if name.endswith('.py')} == set(glob.glob('*.py', root_dir=ROOT))
    assert all(os.path.isdir(os.path.join(ROOT, name)) for name in names if not name.endswith('.py'))


def test_the_settings_of_the_readme_are_settings():
    table = re.search(r'^\| letter \| setting .*?\n\n', read('README.md'), re.MULTILINE | re.DOTALL)[0]
    cells = [row.split('|')[2] for row in table.strip().splitlines()[2:]]
    told = {name for cell in cells for name in re.findall(r'`(\w+)`', cell)}
    assert 'memory_fraction' in told
    assert told <= {*settings_of('sample.py'), *settings_of('train.py')}


@pytest.mark.parametrize('script', sorted(glob.glob('*.py', root_dir=ROOT)))
def test_a_comment_that_sends_the_reader_to_another_file_names_the_one_that_defines_it(script):
    for name, file in re.findall(r'see (\w+) in ([\w/]+\.py)', read(script)):
        assert re.search(rf'^(def|class) {name}\b|^{name} = ', read(file), re.MULTILINE), f'{name}, {file}'
