"""
The house: imports go one way, and what a reader meets is short.

$ python -m pytest tests/test_house.py
"""
import ast
import glob
import os

import pytest
from conftest import ROOT

FLOORS = {'core': 0, 'model': 1, 'reader': 1, 'extended': 1, 'recall': 1, 'memory': 1, 'load': 1,
          'opening': 1, 'page': 1, 'talk': 1, 'lab': 2}
SCRIPTS = 3  # above them all


def python_files():
    rooms = '', 'core', 'talk', 'lab', 'page', 'data/tinyworld', 'assets', 'tests'
    patterns = [os.path.join(room, '*.py') for room in rooms]
    return sorted(file for pattern in patterns for file in glob.glob(pattern, root_dir=ROOT))


def tree_of(file):
    with open(os.path.join(ROOT, file), encoding='utf-8') as f:
        return ast.parse(f.read())


def modules_of(files):
    return {file.removesuffix('.py').replace('/', '.'): file for file in files
            if not file.startswith('tests/')}


def imported(tree, modules):
    """The modules of this repository that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f'{node.module}.{name.name}' for name in node.names}
    return found & modules.keys()


def floor_of(module):
    return FLOORS.get(module.split('.')[0], SCRIPTS)


MODULES = modules_of(python_files())
IMPORTS = {module: imported(tree_of(file), MODULES) for module, file in MODULES.items()}


@pytest.mark.parametrize('module', IMPORTS)
def test_a_module_imports_from_its_own_floor_or_below(module):
    if module.startswith(('data.', 'assets.')):
        pytest.skip('a script of its own')
    above = {other for other in IMPORTS[module]
             if floor_of(other) > floor_of(module) and not other.startswith('data.')}
    assert not above, f'{module} imports {above}'


def test_no_module_imports_itself_by_way_of_others():
    def reached(module, seen):
        for other in IMPORTS[module] - seen:
            seen.add(other)
            reached(other, seen)
        return seen

    assert [module for module in IMPORTS if module in reached(module, set())] == []


def test_files_and_functions_are_short():
    lengths = {}
    for file in python_files():
        with open(os.path.join(ROOT, file), encoding='utf-8') as f:
            lengths[file] = len(f.readlines())
    long = {file: n for file, n in lengths.items() if n >= 420 and not file.endswith('grammar.py')}
    assert not long
    assert lengths['model.py'] < 400
    nodes = [node for file in MODULES.values() for node in ast.walk(tree_of(file))]
    spans = [node.end_lineno - node.lineno + 1 for node in nodes if isinstance(node, ast.FunctionDef)]
    assert sum(span > 30 for span in spans) <= 0.02 * len(spans)
    assert sorted(spans)[len(spans) // 2] <= 12
