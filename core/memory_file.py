"""
Memory files: one .safetensors with the rows of each layer and one JSON string that says whose they are.

`layers.{l}.keys`, `layers.{l}.values` (nh, M, hs) of the layers kept, `layers.{l}.index` (heads, M, hs), the
keys of the index heads of other layers, `tokens` (M,) int64. Format version 3 has index heads, memories that
keep tokens alone, and bfloat16; version 2 has float32 and no index heads. Both have a checksum of each tensor
and of the description, so that a flipped bit is found when it is read; version 1 has none, and names its
model by a sampled fingerprint.
"""
import json
import math
import os

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from core.atomic import folder_of, whole_files
from core.checks import all_finite
from core.identity import checksum, checksum_of_text
from core.narrow import DTYPES, scales_of, width
from core.origin import index_key_heads, key_heads

FORMAT_VERSION = 3
READABLE_VERSIONS = 1, 2, 3
# what files of earlier versions do not say
BEFORE_VERSION_3 = {'index_heads': [], 'keep': 'values', 'header': []}
PLACE = 'window', 'of', 'start', 'end', 'overlap'  # of a text that is a window, see core/windows.py
AGAIN = 'build it again with build_memory.py'


def write(path, tensors, metadata, replace=True):
    """{name: tensor} and what is known of them -> the file, whole or not at all.

    Raises OSError when it cannot. replace: False raises FileExistsError where there is such a file by then.
    """
    with whole_files(folder_of(path), replace) as beside:
        write_part(os.path.join(beside, os.path.basename(path)), tensors, metadata)


def write_part(path, tensors, metadata):
    """As `write`, a file in a folder of whole_files -> its description, as JSON."""
    sums = {name: checksum(tensor) for name, tensor in tensors.items()}
    text = json.dumps({**metadata, 'format_version': FORMAT_VERSION, 'checksums': sums})
    save_file(tensors, path, {'memory': text, 'checksum': checksum_of_text(text)})
    return text


def without(tensors, metadata, forgotten):
    """Tensors and description of a file -> the same without the texts of these numbers."""
    kept = [number not in forgotten for number in range(len(metadata['texts']))]
    lengths = torch.tensor([text['rows'] for text in metadata['texts']])
    rows = torch.tensor(kept).repeat_interleave(lengths)
    texts = [text for text, is_kept in zip(metadata['texts'], kept) if is_kept]
    # tokens are (M,), all else is (heads, M, hs)
    return ({name: (w[rows] if w.dim() == 1 else w[:, rows]).contiguous() for name, w in tensors.items()},
            {**metadata, 'texts': texts})


def joined(files):
    """[(tensors, description), ...] of files of one kind -> those of one file of all their texts."""
    (first, metadata), *_ = files
    tensors = {name: torch.cat([own[name] for own, _ in files], dim=max(0, w.dim() - 2))
               for name, w in first.items()}
    return tensors, {**metadata, 'texts': [text for _, one in files for text in one['texts']]}


def opened(path):
    """-> the file, for the two functions below: one handle, since the name may be another file's soon.

    Raises FileNotFoundError, PermissionError, or ValueError for what is no memory file.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no memory file {path!r}: build it with build_memory.py")
    check_readable(path)
    try:
        return safe_open(path, framework='pt')
    except (SafetensorError, ValueError, OSError, RuntimeError) as error:
        if not os.path.isfile(path):  # gone since, which who reads a library looks at again
            raise FileNotFoundError(f"no memory file {path!r}: build it with build_memory.py") from None
        raise ValueError(f"damaged or no memory file ({error}): {AGAIN}") from None


def read_description(f):
    """-> the metadata of an opened file, checked. Raises ValueError that says what is wrong.

    Its own checksum is compared where it has one: who edits a description by hand leaves it out.
    """
    header = f.metadata() or {}
    try:
        metadata = json.loads(header['memory'])
    except (KeyError, ValueError, RecursionError) as error:
        raise ValueError(f"damaged or no memory file ({error}): {AGAIN}") from None
    check_description(metadata)
    metadata = {**BEFORE_VERSION_3, **metadata}
    if header.get('checksum', written := checksum_of_text(header['memory'])) != written:
        raise ValueError(f"damaged, its description is not the one that was written: {AGAIN}")
    return metadata


def checksum_of_description(f):
    return checksum_of_text(f.metadata()['memory'])


def check_readable(path):
    """safetensors calls a file that may not be read a missing one."""
    try:
        with open(path, 'rb'):
            pass
    except PermissionError as error:
        raise PermissionError(f"{path} may not be read ({error.strerror}): change its permissions") from None


def shapes_of(metadata):
    """{name: shape} of the tensors that a file of this description holds."""
    origin, rows = metadata['origin'], sum(text['rows'] for text in metadata['texts'])
    shapes = {f'layers.{layer}.{kind}': (key_heads(origin), rows, origin['head_size'])
              for layer in metadata['layers'] for kind in ('keys', 'values')}
    wide = width(DTYPES[metadata['dtype']], origin['head_size'])
    shapes |= {f'layers.{layer}.index': (len(heads), rows, wide)
               for layer, heads in index_key_heads(origin, metadata['index_heads']).items()
               if layer not in metadata['layers']}
    return {**shapes, 'tokens': (rows,)}


def read_tensors(f, metadata, names):
    """-> {name: tensor}, each a copy, compared with its checksum. Raises ValueError.

    A copy, since rows mapped from a file change with it, and a file cut short kills the process that reads
    them.
    """
    shapes, dtype = shapes_of(metadata), DTYPES[metadata['dtype']]
    try:
        held = set(f.keys())
        tensors = {name: f.get_tensor(name).clone() for name in names if name in held}
    except (SafetensorError, ValueError, OSError) as error:
        raise ValueError(f"damaged or no memory file ({error}): {AGAIN}") from None
    for name in names:
        expect(tensors, name, shapes[name], torch.int64 if name == 'tokens' else dtype)
    for name, tensor in tensors.items():
        if metadata['format_version'] > 1 and checksum(tensor) != metadata['checksums'].get(name):
            raise ValueError(f"damaged, {name} holds other numbers than were written: {AGAIN}")
    return tensors


class OnDisk:
    """Rows (heads, M, hs) of an opened file, of which those are read that are asked for, as of a tensor.

    They are compared with no checksum, which is one of all rows. Raises ValueError for what is not finite.
    """

    def __init__(self, f, name, metadata):
        self.name, self.shape, self.dtype = name, shapes_of(metadata)[name], DTYPES[metadata['dtype']]
        try:
            self.rows = f.get_slice(name)
        except SafetensorError as error:
            raise ValueError(f"damaged, {name} is missing ({error}): {AGAIN}") from None
        given = tuple(self.rows.get_shape()), self.rows[:, :0].dtype
        if given != (self.shape, self.dtype):
            raise ValueError(f"damaged, {name} is {given[0]} {given[1]}, expected {self.shape} {self.dtype}: "
                             f"{AGAIN}")

    @property
    def nbytes(self):
        return math.prod(self.shape) * self.dtype.itemsize

    def size(self, dim):
        return self.shape[dim]

    def __getitem__(self, place):
        found = self.rows[place].clone()  # else a view of what is mapped
        if not all_finite(found):
            raise ValueError(f"damaged, {self.name} holds numbers that are not finite: {AGAIN}")
        return found

    def __reduce__(self):  # a copy does not hold the file open
        return torch.clone, (self[:, :],)


def expect(tensors, name, shape, dtype):
    """Raises ValueError unless the tensor of that name has this shape and dtype, and only finite numbers."""
    tensor = tensors.get(name)
    if tensor is None or tuple(tensor.shape) != shape or tensor.dtype != dtype:
        given = 'missing' if tensor is None else f"{tuple(tensor.shape)} {tensor.dtype}"
        raise ValueError(f"damaged, {name} is {given}, expected {shape} {dtype}: {AGAIN}")
    if not all_finite(scales_of(tensor) if dtype == torch.int8 else tensor):
        raise ValueError(f"damaged, {name} holds numbers that are not finite: {AGAIN}")


def check_description(metadata):
    """Raises ValueError unless it has each field that `write` gives a file of its version, of its kind."""
    version = metadata.get('format_version') if isinstance(metadata, dict) else None
    if version not in READABLE_VERSIONS:
        readable = ', '.join(map(str, READABLE_VERSIONS))
        raise ValueError(f"format version {version}, this program reads {readable}: {AGAIN}")
    if not has_every_field(metadata, version):
        raise ValueError(f"damaged, its description lacks a field or has one of another kind: {AGAIN}")


def has_every_field(metadata, version):
    """Whether each field that `write` gives a file of this version is there, and of its kind."""
    texts, layers, origin = metadata.get('texts'), metadata.get('layers'), metadata.get('origin')
    return (has(('n_layer', 'n_head', 'head_size', 'vocab_size'), origin, is_count)
            and has(('name', 'fingerprint'), origin, is_text)
            and has(('bookkeeping_tokens',), metadata, is_count)
            and has(('tokenizer', 'dtype'), metadata, is_text)
            and metadata['dtype'] in (DTYPES if version > 2 else ('float32',))
            and are_indices(layers, origin['n_layer'])
            and (len(layers) > 0) != (metadata.get('keep') == 'tokens')
            and (metadata['dtype'] != 'int8' or metadata.get('keep') == 'tokens')
            and isinstance(texts, list)
            and all(has(('rows',), text, is_count) for text in texts)
            and all(has(('source', 'text'), text, is_text) for text in texts)
            and all(has(PLACE, {'overlap': 0, **text}, is_count) for text in texts if 'window' in text)
            and all(has(('overlap', 'ending'), {'overlap': 0, 'ending': 0, **text}, is_count)
                    and text.get('overlap', 0) + text.get('ending', 0) <= text['rows'] for text in texts)
            and (version == 1 or isinstance(metadata.get('checksums'), dict))
            and (version < 3 or has_fields_of_version_3(metadata, origin)))


def has_fields_of_version_3(metadata, origin):
    heads, header = metadata.get('index_heads'), metadata.get('header')
    return (metadata.get('keep') in ('values', 'tokens')
            and is_count(origin.get('n_kv_head')) and 0 < origin['n_kv_head'] <= origin['n_head']
            and isinstance(heads, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in heads)
            and all(are_indices([layer], origin['n_layer']) and are_indices([head], origin['n_head'])
                    for layer, head in heads)
            and (len(heads) > 0 or metadata['keep'] == 'values')
            and isinstance(header, list) and all(map(is_count, header)))


def are_indices(value, count):
    """Whether this is a list of different numbers below count, in order."""
    return (isinstance(value, list) and all(map(is_count, value))
            and value == sorted(set(value)) and (not value or value[-1] < count))


def has(fields, of, check):
    return isinstance(of, dict) and all(check(of.get(field)) for field in fields)


def is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_text(value):
    return isinstance(value, str)
