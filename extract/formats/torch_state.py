"""The state dict inside a torch file: which of its entries are the weights, and where their bytes are.

It reads what ``pickled`` made of the file, follows no reference twice, and refuses to know how the file is packed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from extract.errors import CheckpointError, SpecError
from extract.formats.gates import OpenedFile
from extract.formats.pickled import Global, Made, Pairs, Persistent, Unpickled
from extract.formats.safetensors import (
    ITEM_BYTES,
    LARGEST_COUNT,
    LARGEST_DIMENSION,
    LARGEST_RANK,
    TENSOR_NAME,
    Header,
    TensorInfo,
)

#: First byte in the file and number of bytes, by the key that tensors refer to.
Storages = Mapping[str, tuple[int, int]]
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model")
PREFIXES = ("_orig_mod.", "module.", "model.")
_STORAGE_DTYPES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}  # fmt: skip
#: Storages that hold no weights; an old file can be read past them.
_OTHER_WIDTHS = {"torch.ComplexFloatStorage": 8, "torch.ComplexDoubleStorage": 16}
_TENSORS = {"torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"}
_PARAMETERS = {"torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"}
_SUBCLASS = "torch._tensor._rebuild_from_type_v2"
_PLAIN_TYPES = {"torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.Parameter", "torch._tensor.Tensor"}
#: What torch's own weights-only reader would run too: tensors, and values that are no more than their arguments.
_ALLOWED_CALLS = _TENSORS | _PARAMETERS | {_SUBCLASS, "torch.Size", "torch.device", "_codecs.encode"}
_RESAVE = (
    "where you trust it, run: model = torch.load(path, weights_only=False); "
    "torch.save(model.state_dict(), 'state_dict.pt')"
)
_RESAVE_PLAIN = "save the state_dict alone: torch.save(model.state_dict(), 'state_dict.pt')"
_LARGEST_METADATA, _DEEPEST_METADATA, _LONGEST_LIST, _LONGEST_TEXT = 1000, 4, 64, 4096
_REFERENCE_SIZES = (5, 6)
_LONGEST_SHOWN = 80
_N_ARGUMENTS = 4


def refuse_calls(pickled: Unpickled, place: str) -> None:
    """Refuse a pickle that would call anything but what builds tensors. Raises: CheckpointError naming it."""
    foreign = [name for name in pickled.calls if name not in _ALLOWED_CALLS]
    if not foreign:
        return
    value = pickled.value
    if isinstance(value, Made) and value.is_object:
        raise CheckpointError(
            f"is a whole pickled object ({_brief(value.target)}), expected a state_dict; nothing in it was run",
            place=place,
            hint=_RESAVE,
        )
    if all(name.partition(".")[0] == "numpy" for name in foreign):
        raise CheckpointError(
            f"holds NumPy objects in its pickle ({foreign[0]}), expected tensors and plain values only",
            place=place,
            hint=_RESAVE_PLAIN,
        )
    raise CheckpointError(
        f"would call {_brief(foreign[0], '')} if its pickle were loaded, expected tensors and plain values only; "
        "nothing in it was run",
        place=place,
        hint=f"do not load it anywhere unless you know why; of weights you trust, {_RESAVE_PLAIN}",
    )


def storage_widths(references: Iterable[Persistent]) -> dict[str, int]:
    """Return the bytes of one element of each storage that a pickle refers to; unknown storages are left out."""
    widths: dict[str, int] = {}
    for found in references:
        reference = found.reference
        if isinstance(reference, tuple) and len(reference) in _REFERENCE_SIZES and isinstance(reference[2], str):
            dtype = _storage_dtype(reference[1])
            width = ITEM_BYTES[dtype] if dtype else _OTHER_WIDTHS.get(_name(reference[1]))
            if width is not None:
                widths[reference[2]] = width
    return widths


def state_header(
    value: Any, storages: Storages, n_bytes: int, file: OpenedFile, kind: str, state_dict_key: str | None
) -> Header:
    """Return the header of the state dict in an unpickled value.

    Raises:  CheckpointError for a file without one, or with tensors that lie; SpecError for a wrong key.
    """
    place = file.place
    state, path, rest = _state_dict(value, state_dict_key, place)
    names: dict[str, Made] = {}
    budget = [_LARGEST_METADATA]
    for key, entry in state.items:
        if not _is_tensor(entry):
            rest.append((key, entry))
        elif not isinstance(key, str) or not TENSOR_NAME.fullmatch(key):
            raise CheckpointError(
                f"the tensor name {_brief(key)} is not plain, expected 1 to 256 letters, digits or _.:/~-",
                place=place,
            )
        elif key in names:
            raise CheckpointError(f"names {key} twice, expected distinct tensors", place=place)
        else:
            names[key] = entry
    if len(names) > LARGEST_COUNT:
        raise CheckpointError(f"names {len(names)} tensors, expected at most {LARGEST_COUNT}", place=place)
    prefix = _common_prefix(names)
    tensors = {
        name.removeprefix(prefix): _tensor_info(name.removeprefix(prefix), made, storages, place)
        for name, made in names.items()
    }
    evidence = [kind]
    if path:
        evidence.append(f"the weights are its entry {'.'.join(path)}")
    if prefix:
        evidence.append(f"every name starts with {prefix}, which is taken off")
    metadata = _mapping(rest, budget, _DEEPEST_METADATA)
    return Header(tensors, 0, n_bytes, metadata, ("; ".join(evidence),))


def _state_dict(value: Any, wanted: str | None, place: str) -> tuple[Pairs, list[str], list[tuple[Any, Any]]]:
    """Return the mapping that holds the weights, the keys that lead to it, and what stands beside it."""
    path: list[str] = []
    rest: list[tuple[Any, Any]] = []
    for _ in range(_DEEPEST_METADATA):
        if not isinstance(value, Pairs):
            break
        entries = _entries(value, place)
        if wanted is None:
            key = _wrapper([k for k in WRAPPERS if _holds_tensors(entries.get(k), place)], place)
        else:
            key = _wanted(wanted, entries, place)
        if key is None:
            break
        wanted = None
        rest += [pair for pair in value.items if pair[0] != key]
        value = entries[key]
        path.append(key)
    if not isinstance(value, Pairs) or not any(_is_tensor(entry) for _, entry in value.items):
        raise _no_tensors(value, place)
    return value, path, rest


def _entries(value: Pairs, place: str) -> dict[str, Any]:
    """Return the entries with a text as key. Raises: CheckpointError for a key that occurs twice."""
    found: dict[str, Any] = {}
    for key, entry in value.items:
        if isinstance(key, str):
            if key in found:
                raise CheckpointError(f"names {_brief(key)} twice, expected distinct keys", place=place)
            found[key] = entry
    return found


def _wanted(wanted: str, entries: Mapping[str, Any], place: str) -> str:
    if not isinstance(entries.get(wanted), Pairs):
        mappings = [_brief(key, "") for key, entry in entries.items() if isinstance(entry, Pairs)]
        found = ", ".join(mappings[:6]) or "no mapping at all"
        raise SpecError(
            f"$.model.state_dict_key: {wanted!r}, but {place} has {found}", hint="name the entry that holds the weights"
        )
    return wanted


def _wrapper(found: list[str], place: str) -> str | None:
    if len(found) > 1:
        raise CheckpointError(
            f"holds tensors under {' and '.join(found)}, expected one state_dict",
            place=place,
            hint=f'say which in the spec: [model] state_dict_key = "{found[0]}"',
        )
    return found[0] if found else None


def _holds_tensors(value: Any, place: str, depth: int = 2) -> bool:
    """Say whether a mapping holds tensors, or one of the known entries that does."""
    if not isinstance(value, Pairs):
        return False
    entries = _entries(value, place)
    return any(map(_is_tensor, entries.values())) or (
        depth > 0 and any(_holds_tensors(entries.get(key), place, depth - 1) for key in WRAPPERS)
    )


def _no_tensors(value: Any, place: str) -> CheckpointError:
    if isinstance(value, Pairs):
        # one mapping may be referred to many times: each is looked at once
        mappings = {id(entry): (key, entry) for key, entry in reversed(value.items) if isinstance(entry, Pairs)}
        holders = [k for k, v in mappings.values() if isinstance(k, str) and any(_is_tensor(e) for _, e in v.items)]
        if holders:
            shown = ", ".join(_brief(key, "") for key in sorted(holders)[:6])
            return CheckpointError(
                f"holds tensors only under {shown}, which is no usual place for weights",
                place=place,
                hint=f'say which in the spec: [model] state_dict_key = "{_brief(min(holders), "")}"',
            )
        keys = ", ".join(_brief(key) for key, _ in value.items[:4])
        found = f"a mapping of {len(value.items)} entries ({keys})" if value.items else "an empty mapping"
    elif isinstance(value, (list, tuple)):
        inner = type(value[0]).__name__ if value else "nothing"
        found = f"a list of {len(value)} values, the first a {inner if inner in ('float', 'int', 'str') else 'value'}"
    else:
        found = "one tensor without a name" if _is_tensor(value) else f"a {type(value).__name__}"
    return CheckpointError(
        f"no tensors were found: it holds {found}, expected a state_dict", place=place, hint=_RESAVE_PLAIN
    )


def _common_prefix(names: Mapping[str, object]) -> str:
    """Return the known prefixes that every name has, outermost first; a name that is nothing else keeps them."""
    prefix = ""
    while True:
        added = next((p for p in PREFIXES if all(name.startswith(prefix + p) for name in names)), None)
        if added is None or any(name == prefix + added for name in names):
            return prefix
        prefix += added


def _plain(made: Any) -> Any:
    """Return the call that rebuilds the tensor inside a parameter, or inside a tensor with attributes."""
    for _ in range(3):
        if not isinstance(made, Made) or not isinstance(made.arguments, tuple) or not made.arguments:
            return made
        name, arguments = _name(made.target), made.arguments
        if name in _PARAMETERS:
            made = arguments[0]
        elif name == _SUBCLASS and len(arguments) > 2 and _name(arguments[1]) in _PLAIN_TYPES:
            made = Made(arguments[0], arguments[2])
        else:
            return made
    return made


def _is_tensor(value: Any) -> bool:
    plain = _plain(value)
    return isinstance(plain, Made) and _name(plain.target) in _TENSORS


def _storage_dtype(storage_type: Any) -> str | None:
    is_torch = isinstance(storage_type, Global) and storage_type.module in ("torch", "torch.cuda", "torch.storage")
    return _STORAGE_DTYPES.get(storage_type.attribute) if is_torch else None


def _tensor_info(name: str, made: Made, storages: Storages, place: str) -> TensorInfo:
    """Return where a tensor's bytes are. Raises: CheckpointError if they are not a plain range of its storage."""
    arguments = _plain(made).arguments
    is_call = (
        isinstance(arguments, tuple) and len(arguments) > _N_ARGUMENTS - 1 and isinstance(arguments[0], Persistent)
    )
    reference = arguments[0].reference if is_call else None
    if not isinstance(reference, tuple) or len(reference) not in _REFERENCE_SIZES or reference[0] != "storage":
        raise CheckpointError(f"{name} refers to no storage, expected a plain tensor", place=place)
    dtype, key, n_stored = _storage_dtype(reference[1]), reference[2], reference[4]
    if dtype is None or reference[5:] not in ((), (None,)):
        raise CheckpointError(
            f"{name} is stored as {_brief(reference[1])}, expected one of {', '.join(_STORAGE_DTYPES)}",
            place=place,
        )
    offset, shape, strides = arguments[1:4]
    if not _is_sizes(shape) or not _is_sizes(strides) or len(shape) != len(strides) or len(shape) > LARGEST_RANK:
        raise CheckpointError(f"{name} has no shape that could be one", place=place)
    if any(not 1 <= size <= LARGEST_DIMENSION for size in shape):
        raise CheckpointError(
            f"{name} has shape {_shown(shape)}, expected sizes between 1 and {LARGEST_DIMENSION}", place=place
        )
    numel, width = math.prod(shape), ITEM_BYTES[dtype]
    if not isinstance(key, str) or key not in storages or type(n_stored) is not int:
        raise CheckpointError(f"{name} is in storage {_brief(key)}, which the file has not", place=place)
    start, n_bytes = storages[key]
    if n_stored * width > n_bytes or type(offset) is not int or not 0 <= offset <= n_stored - numel:
        raise CheckpointError(
            f"{name} {dtype}{_shown(shape)} needs {numel} elements from {_brief(offset)} on, but its storage has "
            f"{min(n_stored, n_bytes // width)}",
            place=place,
            hint="the file is damaged, or lies about its size",
        )
    axes = _stored_axes(shape, strides)
    if axes is None:
        raise CheckpointError(
            f"{name} {_shown(shape)} has strides {_shown(strides)}, expected every element stored once without gaps",
            place=place,
            hint="save it contiguous: {k: v.contiguous() for k, v in model.state_dict().items()}",
        )
    at = start + offset * width
    return TensorInfo(name, dtype, tuple(shape), at, at + numel * width, axes)


def _stored_axes(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the axes slowest first, empty where that is their own order; None for gaps, overlaps and repetition."""
    order = sorted((axis for axis in range(len(shape)) if shape[axis] > 1), key=lambda axis: -strides[axis])
    step = 1
    for axis in reversed(order):
        if strides[axis] != step:
            return None
        step *= shape[axis]
    if order == sorted(order):
        return ()
    return tuple(order + [axis for axis in range(len(shape)) if shape[axis] == 1])


def _name(value: Any) -> str:
    """Return the name that a pickle refers to, nothing for any other value."""
    return str(value) if isinstance(value, Global) else ""


def _brief(value: Any, quote: str = "'") -> str:
    """Return a value of the file for a message: ASCII and short; of a structure its kind only, which has an end."""
    if isinstance(value, Global):
        value, quote = str(value), ""
    if isinstance(value, str):
        shown = ascii(value[:_LONGEST_SHOWN])[1:-1]
        return quote + (shown if len(value) <= _LONGEST_SHOWN else shown[: _LONGEST_SHOWN - 3] + "...") + quote
    return repr(value)[:_LONGEST_SHOWN] if value is None or type(value) in (int, float, bool) else type(value).__name__


def _is_sizes(value: Any) -> bool:
    return isinstance(value, tuple) and all(type(size) is int and 0 <= size < 1 << 60 for size in value)


def _shown(sizes: tuple[int, ...]) -> str:
    return str(list(sizes))[:60]


def _mapping(pairs: Iterable[tuple[Any, Any]], budget: list[int], depth: int) -> dict[str, Any]:
    """Return the plain entries of a mapping; what is not plain, too deep or too much is left out."""
    found: dict[str, Any] = {}
    for key, entry in pairs:
        if isinstance(key, str) and len(key) <= _LONGEST_LIST and budget[0] > 0:
            is_plain, value = _metadata(entry, budget, depth)
            if is_plain:
                found[key] = value
    return found


def _metadata(value: Any, budget: list[int], depth: int) -> tuple[bool, Any]:
    """Return whether a value is plain data, and the value: lists of more than 64 or with anything else are not."""
    budget[0] -= 1
    if value is None or type(value) in (bool, float):
        return True, value
    if type(value) is int:
        return abs(value) < 1 << 63, value
    if type(value) is str:
        return len(value) <= _LONGEST_TEXT, value
    if isinstance(value, Pairs) and depth > 0:
        return True, _mapping(value.items, budget, depth - 1)
    if isinstance(value, (list, tuple)) and len(value) <= _LONGEST_LIST and depth > 0:
        parts = [_metadata(part, budget, depth - 1) for part in value if budget[0] > 0]
        return all(is_plain for is_plain, _ in parts) and len(parts) == len(value), [part for _, part in parts]
    return False, None
