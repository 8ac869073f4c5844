"""
A library: a folder of memory files, its segments, and a manifest that says which of them count.

Appending writes the new segments and one line of the manifest, forgetting one line; nothing that is there is
written again, but by `compact`, and small segments when there are JOINED of them in a row: they become one,
so that a library that was appended to ten thousand times opens like another. All that changes the folder is
done under one lock, and a segment counts from the moment that its line stands: who is killed before leaves a
file that no line names, or half a line, and the next writer sweeps it away.

manifest.txt has a line an entry, a checksum and JSON: first what all segments share, {'library': version,
'shared': ...}; then {'segments': [{'file', 'texts', 'rows', 'checksum'}, ...]} of each append, in order, and
{'forgotten': {file: [numbers of texts in it]}}. 'was' of a segment says what was joined to it, by which who
opened the library before still names its texts: [[file, number of its first text here, texts], ...].
"""
import contextlib
import fcntl
import glob
import json
import os
import secrets
from typing import NamedTuple

import xxhash

from core import memory_file
from core.atomic import fsync, whole_files
from core.identity import checksum_of_text

VERSION = 1
MANIFEST, LOCK, SEGMENT = 'manifest.txt', '.lock', 'segment-'
# so many of so few rows become one: a segment takes 0.6 ms to open, joining 32 the time of two appends more
JOINED, SMALL_ROWS = 32, 1024
OF_ONE_FILE = 'format_version', 'texts', 'checksums'  # of a description; the rest all segments share


class Segment(NamedTuple):
    """One memory file. `texts` and `rows` count what it holds, `forgotten` is the numbers of texts in it."""
    file: str
    texts: int
    rows: int
    checksum: str  # of the file's description
    was: tuple = ()
    forgotten: frozenset = frozenset()


class Manifest(NamedTuple):
    shared: dict
    segments: tuple


def is_library(path):
    return os.path.isfile(os.path.join(path, MANIFEST))


# ---- what changes a library ----

def append(folder, segments):
    """Adds memory files to the folder, which is made where it is missing: all of them, or none -> a Segment
    of each, as it was added.

    segments: (tensors, metadata) of each, as memory_file.write takes them; one is held at a time. Costs what
    is appended. Raises ValueError where the library is of another model or kind, OSError where the disk
    takes no more.
    """
    with contextlib.ExitStack() as to_the_end:
        with whole_files(folder, replace=False) as beside:
            shared, new = written(beside, segments, shared_by(folder))
            if not new:
                return new
            to_the_end.enter_context(locked(folder))  # others may write meanwhile, but join one by one
            begin(folder, shared)
            to_the_end.callback(sweep, folder)
        add_line(folder, {'segments': [as_entry(segment) for segment in new]})
        with contextlib.suppress(OSError):  # what is appended is; the next one joins
            join_small(folder)
        return new


def written(beside, segments, shared):
    """Writes segments into a folder -> what they share, also with the library (None: it is new), and a
    Segment of each."""
    new = []
    for tensors, metadata in segments:
        file = f'{SEGMENT}{secrets.token_hex(8)}.safetensors'
        text = memory_file.write_part(os.path.join(beside, file), tensors, metadata)
        own = shared_part(json.loads(text))
        check_shared(own, shared or own)
        shared, rows = own, sum(text['rows'] for text in metadata['texts'])
        new.append(Segment(file, len(metadata['texts']), rows, checksum_of_text(text)))
    return shared, new


def forget(folder, numbers):
    """Texts no longer count from now on, one small write; their words stay on the disk until `compact`.

    numbers: {a segment's file: numbers of texts in it}, also of one that was joined to others since. Raises
    ValueError for texts that are not there.
    """
    with changed(folder) as manifest:
        held, gone = {}, {}
        for segment in manifest.segments:
            for file, first, texts in ((segment.file, 0, segment.texts), *segment.was):
                held[file] = segment.file, first, texts
        for file, some in numbers.items():
            if file not in held:
                raise ValueError(f"{folder} has no {file} any more, it was compacted: load the memory again")
            now, first, texts = held[file]
            if not all(0 <= number < texts for number in some):
                raise ValueError(f"{file} holds the texts 0 to {texts - 1}, of which {sorted(some)} "
                                 "should be forgotten: load the memory again")
            gone[now] = sorted([*gone.get(now, ()), *(first + number for number in some)])
        add_line(folder, {'forgotten': gone})


def compact(folder):
    """Writes the segments that hold forgotten texts again, without them -> how many texts are gone. Small
    ones are joined as they are by `append`.

    Only then are their words in no file any more. Who has an old segment open reads on in it.
    """
    with changed(folder) as manifest:
        stale = [segment for segment in manifest.segments if segment.forgotten]
        try:
            with whole_files(folder, replace=False) as beside:
                anew = {segment.file: without_forgotten(folder, segment, beside) for segment in stale}
            kept = (anew.get(segment.file, segment) for segment in manifest.segments)
            replace_manifest(folder, manifest.shared, [segment for segment in kept if segment is not None])
            join_small(folder)
        finally:
            sweep(folder)  # the old or the new ones, whichever manifest stands now
        return sum(len(segment.forgotten) for segment in stale)


def without_forgotten(folder, segment, beside):
    """Writes the texts of a segment that are not forgotten -> Segment, None where there are none."""
    if len(segment.forgotten) == segment.texts:
        return None
    _, (new,) = written(beside, [memory_file.without(*whole(folder, segment), segment.forgotten)], None)
    return new


def join_small(folder):
    """Under the lock: of segments of fewer than SMALL_ROWS each JOINED in a row become one."""
    manifest, rows = read(folder), [[]]
    for segment in manifest.segments:
        if len(rows[-1]) == JOINED or any(one.rows >= SMALL_ROWS for one in (segment, *rows[-1])):
            rows.append([])
        rows[-1].append(segment)
    if any(len(row) == JOINED for row in rows):
        with whole_files(folder, replace=False) as beside:
            anew = [[joined(folder, row, beside)] if len(row) == JOINED else row for row in rows]
        replace_manifest(folder, manifest.shared, sum(anew, []))


def joined(folder, segments, beside):
    """Writes the texts of segments as one -> Segment. What is forgotten stays so."""
    _, (new,) = written(beside, [memory_file.joined([whole(folder, one) for one in segments])], None)
    was, forgotten, first = [], set(), 0
    for one in segments:
        was += [(one.file, first, one.texts), *((file, first + at, texts) for file, at, texts in one.was)]
        forgotten |= {first + number for number in one.forgotten}
        first += one.texts
    return new._replace(was=tuple(was), forgotten=frozenset(forgotten))


def whole(folder, segment):
    """A segment's tensors and description, read and compared with their checksums."""
    try:
        file = memory_file.opened(os.path.join(folder, segment.file))
        metadata = memory_file.read_description(file)
        return memory_file.read_tensors(file, metadata, list(memory_file.shapes_of(metadata))), metadata
    except ValueError as error:
        raise ValueError(f"{segment.file} in {folder}: {error}") from None


def shared_part(metadata):
    # by way of JSON, as it comes back from a file
    return json.loads(json.dumps({name: value for name, value in metadata.items()
                                  if name not in OF_ONE_FILE}))


def check_shared(given, held):
    """Raises ValueError, naming what differs, unless a segment is of the library's model and kind."""
    for name in sorted(given.keys() | held.keys()):
        if given.get(name) != held.get(name):
            raise ValueError(f"the library's {name} is {held.get(name)}, that of what is added is "
                             f"{given.get(name)}: build it with the model and settings of the library, or "
                             "into another folder")


# ---- the lock, and what killed writers leave ----

@contextlib.contextmanager
def locked(folder):
    """One process at a time; whoever is killed lets go of it."""
    fd = os.open(os.path.join(folder, LOCK), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def changed(folder):
    """Yields the Manifest of a library under its lock."""
    shared_in(whole_lines(folder), folder)  # before a lock is made in a folder that is no library
    with locked(folder):
        yield read(folder)


def sweep(folder):
    """Under the lock: removes segments that no line names, of writers that failed or were killed, and what
    was compacted."""
    left = segments_in(folder) - {segment.file for segment in read(folder).segments}
    for file in left:
        os.unlink(os.path.join(folder, file))
    if left:
        fsync(folder)


def segments_in(folder):
    return set(glob.glob(f'{SEGMENT}*.safetensors', root_dir=folder))


# ---- the manifest ----

def read(folder):
    """-> the Manifest of a library. Raises FileNotFoundError, or ValueError for a damaged one."""
    data = whole_lines(folder)
    shared, lines, segments = shared_in(data, folder), data.splitlines(), {}
    try:
        for number, line in enumerate(lines[1:], 2):
            entry = entry_of(line, folder, number)
            for one in entry.get('segments', ()):
                segments[one['file']] = Segment(**one)
            for file, numbers in entry.get('forgotten', {}).items():
                segments[file] = segments[file]._replace(forgotten=segments[file].forgotten | {*numbers})
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder}/{MANIFEST} is damaged ({error}): {memory_file.AGAIN}") from None
    return Manifest(shared, tuple(segments.values()))


def whole_lines(folder):
    """The bytes of a manifest up to its last whole line, none where there is no manifest. What is behind it
    is half a line of a killed writer, or one that is being written."""
    try:
        with open(os.path.join(folder, MANIFEST), 'rb') as f:
            data = f.read()
    except FileNotFoundError:
        return b''
    return data[:data.rfind(b'\n') + 1]


def shared_in(data, folder):
    """What a manifest's first line says that all segments share."""
    if not data:
        raise FileNotFoundError(f"{folder} holds no memory: build one with build_memory.py")
    first = entry_of(data[:data.index(b'\n')], folder, 1)
    if first.get('library') != VERSION:
        raise ValueError(f"{folder}: library version {first.get('library')}, this program reads {VERSION}: "
                         f"{memory_file.AGAIN}")
    return first['shared']


def entry_of(line, folder, number):
    checksum, _, text = line.partition(b' ')
    if checksum.decode(errors='replace') != checksum_of(text):
        raise ValueError(f"{folder}/{MANIFEST} is damaged, line {number} is not the one that was written: "
                         f"{memory_file.AGAIN}, or name a segment of it, each is a memory file")
    return json.loads(text)


def line_of(entry):
    text = json.dumps(entry).encode()
    return b'%s %s\n' % (checksum_of(text).encode(), text)


def checksum_of(text):
    return xxhash.xxh3_64_hexdigest(text)


def shared_by(folder):
    """What the segments of a library share, None where there is no library yet."""
    data = whole_lines(folder)
    return shared_in(data, folder) if data else None


def begin(folder, shared):
    """Under the lock: begins a manifest where there is none. It is there before any segment, so that segments
    without one tell of a lost one, and are not swept away. Raises ValueError, also for another library."""
    held = shared_by(folder)
    if held is None:
        lost = sorted(segments_in(folder))
        if lost:
            raise ValueError(f"{folder} holds {lost[0]} but has lost its {MANIFEST}: build the memory in "
                             "another folder, and add what is here with --merge, file by file")
        add_line(folder, {'library': VERSION, 'shared': shared})
        fsync(folder)
    check_shared(shared, held or shared)


def add_line(folder, entry):
    """Under the lock. On the disk when this returns, and nothing of it where it raises OSError."""
    size = len(whole_lines(folder))
    fd = os.open(os.path.join(folder, MANIFEST), os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        os.ftruncate(fd, size)  # half a line of a killed writer
        os.lseek(fd, size, os.SEEK_SET)
        try:
            write_all(fd, line_of(entry))
            os.fsync(fd)
        except OSError as error:
            os.ftruncate(fd, size)
            raise OSError(f"{folder} could not be written to ({error}): free some space, "
                          "or name another place") from None
    finally:
        os.close(fd)


def write_all(fd, data):
    while data:
        data = data[os.write(fd, data):]


def replace_manifest(folder, shared, segments):
    entries = [{'library': VERSION, 'shared': shared}, {'segments': [as_entry(one) for one in segments]}]
    forgotten = {one.file: sorted(one.forgotten) for one in segments if one.forgotten}
    entries += [{'forgotten': forgotten}] if forgotten else []
    with whole_files(folder) as beside:
        with open(os.path.join(beside, MANIFEST), 'wb') as f:
            f.writelines(map(line_of, entries))


def as_entry(segment):
    entry = segment._asdict()
    del entry['forgotten']  # which has entries of its own
    return {name: value for name, value in entry.items() if value != ()}


# ---- reading ----

def opened(folder):
    """-> the Manifest, and of each segment its opened file and description (core/memory_file.py).

    Raises FileNotFoundError, ValueError: damaged, a segment missing, or another than the manifest names.
    """
    while True:
        manifest = read(folder)
        try:
            return manifest, [open_segment(folder, segment, manifest.shared) for segment in manifest.segments]
        except FileNotFoundError:
            if read(folder) == manifest:  # else it was compacted between the two
                raise


def open_segment(folder, segment, shared):
    path = os.path.join(folder, segment.file)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{folder}/{MANIFEST} names {segment.file}, which is missing: put it back, "
                                "or build the memory again with build_memory.py")
    try:
        file = memory_file.opened(path)
        metadata = memory_file.read_description(file)
        if memory_file.checksum_of_description(file) != segment.checksum:
            raise ValueError(f"not the file that {MANIFEST} names: {memory_file.AGAIN}")
        check_shared(shared_part(metadata), shared)
    except ValueError as error:
        raise ValueError(f"{segment.file} in {folder}: {error}") from None
    return file, metadata
