"""
pip install -e . puts on the path whatever `import model` needs.

$ python -m pytest tests/test_install.py
"""
import ast
import glob
import os
import tomllib

from conftest import ROOT


def imported_by(path):
    """The first names of what a file imports, wherever in it."""
    with open(path) as f:
        nodes = list(ast.walk(ast.parse(f.read())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.split('.')[0] for name in names}


def test_the_modules_that_are_installed_import_nothing_of_the_repository_that_is_not():
    with open(os.path.join(ROOT, 'pyproject.toml'), 'rb') as f:
        setup = tomllib.load(f)['tool']['setuptools']
    folders = [os.path.join(ROOT, package.replace('.', os.sep)) for package in setup['packages']]
    files = [os.path.join(ROOT, f'{module}.py') for module in setup['py-modules']]
    files += [path for folder in folders for path in glob.glob(os.path.join(folder, '*.py'))]
    installed = {*setup['py-modules'], *(package.split('.')[0] for package in setup['packages'])}
    ours = {name.removesuffix('.py') for name in os.listdir(ROOT)}
    needed = set().union(*map(imported_by, files)) & ours
    assert needed <= installed
