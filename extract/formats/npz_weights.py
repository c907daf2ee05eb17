"""Weights in a NumPy archive, ``.npz``: one named array each, read with the gates of ``npz`` and no pickle.

It gives the ``Header`` that the safetensors reader gives. Arrays are unpacked one by one and checked for their size
before; Fortran order is an order of axes. It refuses to know which network the arrays make.
"""

from __future__ import annotations

from extract.errors import CheckpointError
from extract.formats.gates import OpenedFile
from extract.formats.npz import read_arrays
from extract.formats.safetensors import LARGEST_COUNT, LARGEST_DIMENSION, TENSOR_NAME, Header, TensorInfo

_DTYPES = {
    "f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64", "i4": "I32", "i2": "I16", "i1": "I8", "u8": "U64", "u4": "U32",
    "u2": "U16", "u1": "U8", "b1": "BOOL",
}  # fmt: skip


def read_npz_header(file: OpenedFile) -> Header:
    """Read every array of an archive as a tensor of the same name.

    Raises:  CheckpointError naming the entry, for anything a zip, an array or a name of a tensor should not be.
    Cost:    The whole file and its unpacked arrays, at most 128 MiB each.
    """
    arrays = read_arrays(file)
    if len(arrays) > LARGEST_COUNT:
        raise CheckpointError(f"names {len(arrays)} tensors, expected at most {LARGEST_COUNT}", place=file.place)
    tensors: dict[str, TensorInfo] = {}
    data = bytearray()
    for name, array in arrays.items():
        if not TENSOR_NAME.fullmatch(name):
            raise CheckpointError(
                f"the tensor name {ascii(name)[:60]} is not plain, expected 1 to 256 letters, digits or _.:/~-",
                place=file.place,
            )
        if any(not 1 <= size <= LARGEST_DIMENSION for size in array.shape):
            raise CheckpointError(
                f"{name} has shape {list(array.shape)}, expected sizes between 1 and {LARGEST_DIMENSION}",
                place=file.place,
            )
        plain = array.astype(array.dtype.newbyteorder("<"), order="C")
        start = len(data)
        data += plain.tobytes()
        tensors[name] = TensorInfo(name, _DTYPES[array.dtype.str[1:]], array.shape, start, len(data))
    return Header(tensors, 0, len(data), {}, ("a NumPy archive, one array for each tensor",), bytes(data))
