"""The checker's own reading of weights that are no safetensors file: PyTorch files, zipped and old, and NumPy archives.

A pickle is decoded by the standard library's disassembler and put together here as plain data; nothing in it is
imported or called. The state dict is found by the same rules as elsewhere in the project, in other code.
"""

from __future__ import annotations

import io
import math
import pickletools
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_MOST_BYTES, _PICKLE_BYTES, _MOST_OPCODES, _MOST_ELEMENTS = 1 << 30, 4 << 20, 1 << 19, 1 << 28
_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
_KEYS = ("state_dict", "model_state_dict", "model_state", "model")
_PREFIXES = ("_orig_mod.", "module.", "model.")
_KINDS = {
    "Double": "<f8", "Float": "<f4", "Half": "<f2", "BFloat16": "bf", "Long": "<i8", "Int": "<i4", "Short": "<i2",
    "Char": "i1", "Byte": "u1", "Bool": "?", "ComplexFloat": "<c8", "ComplexDouble": "<c16",
}  # fmt: skip
_ORDERED = ("collections OrderedDict", "collections defaultdict", "collections Counter")
_HARMLESS = ("torch Size", "torch device", "_codecs encode", "builtins set", "__builtin__ set")
_REBUILD = ("torch._utils _rebuild_tensor", "torch._utils _rebuild_tensor_v2")
_PARAMETER = ("torch._utils _rebuild_parameter", "torch._utils _rebuild_parameter_with_state")
_TYPED = "torch._tensor _rebuild_from_type_v2"
_PUSHED = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING",
    "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_DAMAGED = (ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, OverflowError)
_NONSENSE = (KeyError, IndexError, TypeError, AttributeError, RecursionError, MemoryError)
_SCALARS = (bool, int, float, str)
_MARK = object()


class Malformed(ValueError):
    """A container that this reader does not take; the text says why."""


class _Name(NamedTuple):
    """A name that loading would import, ``module attribute``."""

    text: str


class _Call(NamedTuple):
    """A call that loading would make."""

    name: str
    arguments: Any


class _Reference(NamedTuple):
    """A storage outside the pickle: (``storage``, type, key, device, number of elements)."""

    parts: Any


class _Map:
    """A dict as it was written: pairs in order, no key hashed."""

    def __init__(self, pairs: Any = ()) -> None:
        self.pairs: list[tuple[Any, Any]] = list(pairs)

    def texts(self) -> dict[str, Any]:
        """Return the entries with a text as key. Raises: Malformed for a key that occurs twice."""
        found: dict[str, Any] = {}
        for key, value in self.pairs:
            if isinstance(key, str) and key in found:
                raise Malformed(f"the key {key!r:.60} occurs twice")
            found |= {key: value} if isinstance(key, str) else {}
        return found


def is_container(data: bytes) -> bool:
    """Say whether the first bytes are those of a zip archive or of a pickle, and no safetensors header's length."""
    return data[8:9] != b"{" and (
        data[:4] == b"PK\x03\x04" or (data[:1] == b"\x80" and data[1:2] in (b"\2", b"\3", b"\4", b"\5"))
    )


def read_container(data: bytes, key: str | None = None) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return a file's tensors by name, as stored, and what stands beside them as plain data.

    ``key`` is the entry that holds the state dict, where the spec names one. bfloat16 comes as float32, its equal.
    Raises:  Malformed for anything else.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # the disassembler deprecates some escapes in names
            return _state(*_old(data), key) if data[:2] != b"PK" else _archive(data, key)
    except Malformed:
        raise
    except _DAMAGED as error:
        raise Malformed(f"damaged: {error}") from error
    except _NONSENSE as error:
        raise Malformed(f"it makes no sense as a file of weights: {error!r:.80}") from error


def _archive(data: bytes, key: str | None) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the tensors of a zip archive: torch's, or one of arrays only."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        if len(sizes) < len(archive.infolist()) or sum(sizes.values()) > _MOST_BYTES:
            raise Malformed("it lists an entry twice, or unpacks to over 1 GiB")
        if any(name.endswith("/data.pkl") for name in sizes):
            return _state(*_zipped(archive), key)
    if not sizes or not all(name.endswith(".npy") for name in sizes):
        raise Malformed("a zip archive without data.pkl, and not of arrays only")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}, {}


def _zipped(archive: zipfile.ZipFile) -> tuple[Any, dict[str, bytes]]:
    """Return the pickled value of a torch archive and the bytes of its storages."""
    entries = archive.infolist()
    folder = entries[0].filename.split("/")[0] + "/"
    if not all(e.filename.startswith(folder) and e.compress_type == zipfile.ZIP_STORED for e in entries):
        raise Malformed("entries outside of one folder, or compressed")
    if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
        raise Malformed("not little-endian")
    storages = {
        e.filename.removeprefix(f"{folder}data/"): archive.read(e)
        for e in entries
        if e.filename.startswith(f"{folder}data/")
    }
    return _unpickle(io.BytesIO(archive.read(f"{folder}data.pkl")), []), storages


def _old(data: bytes) -> tuple[Any, dict[str, bytes]]:
    """Return the pickled value of a torch file from before version 1.6 and the bytes of its storages."""
    stream, references, storages = io.BytesIO(data), list[Any](), dict[str, bytes]()
    magic, version, system = (_unpickle(stream, []) for _ in range(3))
    if (magic, version) != (_MAGIC, _VERSION) or system.texts()["little_endian"] is not True:
        raise Malformed("a pickle, and no PyTorch file of this machine's byte order")
    value = _unpickle(stream, references)
    keys = _unpickle(stream, [])
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in [*keys, *(p[2] for p in references)]):
        raise Malformed("its list of storages is none")
    widths = {parts[2]: 2 if (kind := _kind(parts[1])) == "bf" else np.dtype(kind).itemsize for parts in references}
    for key in keys:
        count = int.from_bytes(stream.read(8), "little") * widths[key]
        storages[key] = stream.read(count)
        if len(storages[key]) != count:
            raise Malformed("cut short")
    return value, storages


def _kind(name: Any) -> str:
    module, _, kind = name.text.partition(" ")
    if module not in ("torch", "torch.cuda") or kind.removesuffix("Storage") not in _KINDS:
        raise Malformed(f"a storage of type {name.text!r:.60}")
    return _KINDS[kind.removesuffix("Storage")]


def _unpickle(stream: io.BytesIO, references: list[Any]) -> Any:
    """Return the next pickle of a stream as plain data; ``references`` collects what it points to outside."""
    stack, memo, start, left = list[Any](), dict[int, Any](), stream.tell(), _MOST_OPCODES
    argument: Any
    for op, argument, at in pickletools.genops(stream):
        left -= 1
        if left < 0 or (at or 0) - start > _PICKLE_BYTES:
            raise Malformed("its pickle is too long for a small network")
        name: str = op.name
        if name == "STOP":
            return stack.pop()
        if name in ("PROTO", "FRAME"):
            continue
        if name in _PUSHED or name in _CONSTANTS:
            stack.append(_CONSTANTS.get(name, argument))
        elif name in ("EMPTY_LIST", "EMPTY_DICT", "MARK", "GLOBAL"):
            stack.append(
                [] if name == "EMPTY_LIST" else _Map() if name == "EMPTY_DICT"
                else _MARK if name == "MARK" else _Name(argument)
            )  # fmt: skip
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        else:
            left -= _apply(name, stack, references)
    raise Malformed("its pickle has no end")


def _apply(name: str, stack: list[Any], references: list[Any]) -> int:
    """Carry out an opcode that takes values from the stack; return how many values it copied."""
    if name in ("TUPLE1", "TUPLE2", "TUPLE3"):
        n = int(name[-1])
        stack[-n:] = [tuple(stack[-n:])]
    elif name in ("TUPLE", "LIST", "APPENDS", "SETITEMS"):
        at = next((at for at in range(len(stack) - 1, -1, -1) if stack[at] is _MARK), -1)
        if at < 0:
            raise Malformed("its pickle lacks a mark")
        values = stack[at + 1 :]
        del stack[at:]
        if name in ("TUPLE", "LIST"):
            stack.append(tuple(values) if name == "TUPLE" else values)
        elif name == "APPENDS":
            stack[-1].extend(values)
        else:
            stack[-1].pairs.extend(zip(values[::2], values[1::2], strict=True))
    elif name == "APPEND":
        value = stack.pop()
        stack[-1].append(value)
    elif name == "SETITEM":
        value, key = stack.pop(), stack.pop()
        stack[-1].pairs.append((key, value))
    elif name == "STACK_GLOBAL":
        attribute, module = stack.pop(), stack.pop()
        if not isinstance(attribute, str) or not isinstance(module, str):
            raise Malformed("its pickle names what is no text")
        stack.append(_Name(f"{module} {attribute}"))
    elif name == "BINPERSID":
        references.append(stack.pop())
        stack.append(_Reference(references[-1]))
    elif name == "BUILD" and isinstance(stack[-2], _Map):
        stack.pop()
    elif name == "REDUCE":
        arguments, target = stack.pop(), stack.pop()
        stack.append(_called(target.text, arguments))
        return len(arguments[0]) if arguments and isinstance(arguments[0], list) else 0
    else:
        raise Malformed(f"its pickle holds {name}, which no plain file of weights needs")
    return 0


def _called(name: str, arguments: Any) -> Any:
    if name in _ORDERED:
        first = arguments[0] if arguments else []
        return first if isinstance(first, _Map) else _Map((k, v) for k, v in (first if type(first) is list else []))
    if name not in (*_HARMLESS, *_REBUILD, *_PARAMETER, _TYPED):
        raise Malformed(f"loading it would call {name!r:.80}")
    if name in _PARAMETER:
        return arguments[0]
    return _Call(arguments[0].text, arguments[2]) if name == _TYPED else _Call(name, arguments)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, _Call) and value.name in _REBUILD


def _holds(value: Any, depth: int = 2) -> bool:
    entries = value.texts() if isinstance(value, _Map) else {}
    return any(map(_is_tensor, entries.values())) or (
        depth > 0 and any(_holds(entries.get(k), depth - 1) for k in _KEYS)
    )


def _state(
    value: Any, storages: dict[str, bytes], wanted: str | None
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    beside: dict[str, Any] = {}
    for _ in range(4):
        entries = value.texts()
        inner = [wanted] if wanted else [k for k in _KEYS if _holds(entries.get(k))]
        if not inner:
            break
        if len(inner) > 1 or not isinstance(entries[inner[0]], _Map):
            raise Malformed(f"no single state dict: {inner}")
        wanted = None
        value = entries.pop(inner[0])
        beside |= entries
    tensors = {k: v for k, v in value.texts().items() if _is_tensor(v)}
    if not tensors or sum(math.prod(v.arguments[2]) for v in tensors.values()) > _MOST_ELEMENTS:
        raise Malformed("no tensors in it, or too many for a small network")
    beside |= {k: v for k, v in value.texts().items() if k not in tensors}
    prefix = ""
    while added := next((p for p in _PREFIXES if all(k.startswith(prefix + p) for k in tensors)), ""):
        if prefix + added in tensors:
            break
        prefix += added
    found = {k.removeprefix(prefix): _array(k, v, storages) for k, v in tensors.items()}
    return found, dict(_plain(beside.items(), 4, iter(range(1000))))


def _array(name: str, tensor: _Call, storages: dict[str, bytes]) -> NDArray[Any]:
    """Return one tensor. Raises: Malformed if its storage does not hold it."""
    reference, offset, shape, strides = tensor.arguments[:4]
    parts = reference.parts
    if not isinstance(parts[2], str):
        raise Malformed(f"tensor {name!r:.60} is in no storage")
    kind, data = _kind(parts[1]), storages[parts[2]]
    dtype = np.dtype("<u2" if kind == "bf" else kind)
    numel, held = math.prod(shape), min(len(data) // dtype.itemsize, parts[4])
    if not all(type(n) is int and n >= 0 for n in (offset, *shape, *strides)) or (len(parts) > 5 and parts[5]):
        raise Malformed(f"tensor {name!r:.60} has no plain shape")
    if not 0 < numel <= held or len(shape) != len(strides):
        raise Malformed(f"tensor {name!r:.60} of shape {list(shape)} is not in its storage of {held} elements")
    steps = [step * dtype.itemsize for step in strides]
    stored = np.ndarray(shape, dtype, memoryview(data)[: held * dtype.itemsize], offset * dtype.itemsize, steps).copy()
    return (stored.astype(np.uint32) << 16).view(np.float32) if kind == "bf" else stored


def _plain(pairs: Any, depth: int, left: Iterator[int]) -> Iterator[tuple[str, Any]]:
    """Yield the entries of a mapping that are plain data; anything else, and what is too much, is left out."""
    for key, value in pairs:
        if next(left, None) is None:
            return
        if value is None or isinstance(value, _SCALARS):
            yield key, value
        elif isinstance(value, _Map) and depth:
            yield key, dict(_plain(value.texts().items(), depth - 1, left))
        elif isinstance(value, (list, tuple)) and len(value) <= 64 and not isinstance(value, (_Call, _Name)):
            yield from [(key, list(value))] if all(v is None or isinstance(v, _SCALARS) for v in value) else []
