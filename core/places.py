"""
Where the files are that settings name: in the user's folders, or among what this repository brings along.
"""
import os

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BROUGHT_ALONG = 'assets', 'config', 'data', 'memories'  # found from any folder


def found(path):
    """The path to read: as given, ~ the home folder, or the repository's own where only it has that."""
    path = os.path.expanduser(path)
    own = own_place(path)
    return own if own and not os.path.lexists(path) and os.path.exists(own) else path


def own_place(path):
    """Where the repository would have what a relative path names, or ''."""
    return os.path.join(REPOSITORY, path) if path.split('/')[0] in BROUGHT_ALONG else ''
