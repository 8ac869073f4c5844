"""
Writes a trace as a JSON file, and as a page: one HTML file with its own script and style, that asks for
nothing from elsewhere.
"""
import base64
import hashlib
import json
import os
import sys

from core.atomic import write_files
from core.texts import read_file

HERE = os.path.dirname(os.path.abspath(__file__))


def page_of(trace):
    """A trace, see README.md -> the text of the page."""
    text, style, script = (read_file(os.path.join(HERE, f'page.{kind}')) for kind in ('html', 'css', 'js'))
    # within a script a browser looks for '<' alone: escaped, no text of a memory can end it or begin another;
    # and of all scripts it runs the one with this hash
    own = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # what comes from outside goes in last, so that nothing in it is replaced
    parts = {'HASH': own, 'CSS': style, 'JS': script, 'TRACE': json_of(trace).replace('<', '\\u003c')}
    for name, part in parts.items():
        before, _, behind = text.partition(f'/*{name}*/')
        text = before + part + behind
    return text


def json_of(trace):
    return json.dumps(trace, separators=(',', ':'), allow_nan=False)


def check_file(name, path):
    """Raises ValueError for a setting that names no file."""
    if path and (os.path.isdir(path) or not os.path.basename(path)):
        raise ValueError(f"{name} is {path!r}, a folder: name a file in it")


def write_told(path, name, made, traced):
    """Writes what is made of a trace, and says so; {} is of an empty memory. Raises OSError."""
    if not traced:
        print(f"no {path}: the memory holds nothing that could be drawn from", file=sys.stderr)
        return
    again = ' (in place of an older one)' if os.path.exists(path) else ''
    write_whole(path, made(traced))
    print(f"{name:<7} {path}{again}")


def write_whole(path, text):
    """Writes a file in UTF-8, whole or not at all, in place of an older one. Raises OSError."""
    folder, name = os.path.split(path)
    write_files(folder or '.', {name: text})
