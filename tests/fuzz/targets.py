"""What is fuzzed: every reader of untrusted bytes, as a function that returns or raises one of the expected errors.

Each target has small good seeds to mutate. ``run`` turns an expected refusal into a plain return; anything else that
a reader raises passes through, and is a bug.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from safetensors.numpy import save

from extract.automata.expressions import regular_expression
from extract.check.containers import Malformed, read_container
from extract.check.program import parse as parse_for_checker
from extract.check.reader import Unreadable, parse_json
from extract.errors import ExtractError
from extract.formats.config import Config
from extract.formats.detect import detect
from extract.formats.format import Source
from extract.formats.gates import OpenedFile, parse_json_object
from extract.formats.npz import read_archive
from extract.formats.pickled import PickleDamage, unpickle
from extract.formats.safetensors import Tensors
from extract.formats.weights import read_weights_header
from extract.lang.promise import compile_promise
from extract.lang.syntax import parse_program
from extract.spec import parse_spec
from extract.vocabulary import Vocabulary
from tests.networks import gpt2_config, gpt2_tensors, random_network

VOCABULARY = Vocabulary(("a", "b"), numeric=False)
NETWORK = random_network(1, d_model=4, d_mlp=4, n_heads=1, d_vocab=3, n_ctx=4, n_layers=1)
EXPECTED = (ExtractError, Unreadable, Malformed, PickleDamage)


class BytesFile(OpenedFile):
    """A file that is only bytes, so that no mutation touches the disk."""

    def __init__(self, data: bytes) -> None:
        self.path, self.place, self.size, self._data = Path("fuzzed"), "fuzzed", len(data), data

    def __exit__(self, *_: object) -> None:
        pass

    def stream(self) -> BinaryIO:
        return io.BytesIO(self._data)

    def read_into(self, buffer: bytearray | memoryview, start: int) -> None:
        piece = self._data[max(0, start) : start + len(buffer)]
        assert len(piece) == len(buffer), "read past the end"
        memoryview(buffer)[:] = piece


@dataclass(frozen=True)
class Target:
    """A reader, good inputs for it, and how many mutations one run of the tests tries."""

    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    n_mutations: int

    def run(self, data: bytes) -> bool:
        """Read; say whether the bytes were taken. Raises: whatever a reader must not raise."""
        try:
            self.read(data)
        except EXPECTED as error:
            text = error.line() if isinstance(error, ExtractError) else str(error)
            assert isinstance(error, Unreadable) or "\n" not in text, text
            return False
        return True


def weights(data: bytes) -> None:
    file = BytesFile(data)
    header = read_weights_header(file)
    tensors = Tensors(file, header)
    for info in header.tensors.values():
        assert math.prod(info.shape) == info.numel > 0
        if info.is_float:
            tensors.array(info.name)
    json.dumps(header.metadata)
    format_, _ = detect(header, "fuzzed")
    format_.plan(Source(header, Config(gpt2_config(NETWORK)), None))


def config(data: bytes) -> None:
    found = Config(parse_json_object(data, "config.json"))
    for key in ("n_head", "n_embd", "layer_norm_epsilon", "activation_function", "scale_attn_weights"):
        for ask in (found.integer, found.number, found.text, lambda k: found.flag(k, True)):
            try:
                ask(key)
            except ExtractError as error:
                assert error.exit_code == 4


def text(read: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: read(data.decode("utf-8", "replace"))


def saved(value: object, is_zip: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=is_zip)
    return buffer.getvalue()


def archive(write: Callable[..., object], **arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    write(buffer, **arrays)
    return buffer.getvalue()


ARRAYS = gpt2_tensors(NETWORK)
SMALL = {"w": torch.ones(2, 2).T, "b": torch.nn.Parameter(torch.zeros(3)), "m": torch.ones(2, dtype=torch.bool)}
NESTED = {
    "model": {f"_orig_mod.{k}": v for k, v in SMALL.items()},
    "args": {"heads": 2, "x": [1, None, "a"]},
    "lr": 0.5,
}
PICKLES = tuple(pickle.dumps({"a": [1, 2.5, ("x", None)], "b": {"c": True}}, protocol=p) for p in (2, 3, 4, 5))
TABLE = {"inputs": np.array([[0, 1], [1, -1]], np.int8), "outputs": np.array([[1], [0]], np.int16)}
SPEC = (
    'version = 1\n[tokens]\nvocab = ["a", "b", "<s>"]\n[domain]\nmax_length = 4\noffsets = [0, 1]\n'
    'template = "<s> {x}"\nwhere = "length > 1"\n[readout]\nat = "last"\nchoices = ["a"]\n[model]\nheads = 2\n'
)
PROGRAM = (
    "c = count(tokens == 'a')\nd = running_count(select(tokens, 'b', '!='))\n"
    "output = table(tokens, {'a': 1, 'b': 2}, 0) + c * 3 % 2 - min(length, 4) if not c < 2 and d == 0 else -1\n"
)
TARGETS = {
    "safetensors": Target(weights, (save(ARRAYS), save({"w": np.ones((2, 3), np.float16)})), 30_000),
    "torch zip": Target(weights, (saved(SMALL, True), saved(NESTED, True)), 25_000),
    "old torch": Target(weights, (saved(SMALL, False), saved(NESTED, False)), 25_000),
    "npz weights": Target(weights, (archive(np.savez, w=np.ones((2, 2), np.float32), b=np.ones(3)),), 10_000),
    "packed npz": Target(weights, (archive(np.savez_compressed, w=np.ones((2, 2), np.float32)),), 5_000),
    "table": Target(
        lambda data: read_archive(BytesFile(data), ("inputs", "outputs")), (archive(np.savez, **TABLE),), 5_000
    ),
    "pickle": Target(unpickle, PICKLES, 20_000),
    "config": Target(config, (json.dumps(gpt2_config(NETWORK)).encode(),), 20_000),
    "spec": Target(text(parse_spec), (SPEC.encode(),), 15_000),
    "program": Target(text(lambda t: parse_program(t, "value")), (PROGRAM.encode(),), 15_000),
    "promise": Target(
        text(lambda t: compile_promise(t, VOCABULARY)),
        (b"count(tokens == 'a') < 2 and not length == 1", b"all(running_count(tokens == 'a') <= indices + 1)"),
        10_000,
    ),
    "expression": Target(
        text(lambda t: regular_expression(t, ("a", "b"))), (b"(a|b)*abb?", b"a{2,3}(ba)+|[ab]*"), 5_000
    ),
    "checker: containers": Target(read_container, (saved(NESTED, True), saved(NESTED, False)), 10_000),
    "checker: JSON": Target(lambda data: parse_json(data, "x"), (json.dumps(gpt2_config(NETWORK)).encode(),), 5_000),
    "checker: program": Target(text(parse_for_checker), (PROGRAM.encode(),), 5_000),
}

#: Numbers that sizes, offsets and counts break on.
EXTREMES = tuple(
    struct.pack(form, value)
    for form, values in {
        "<B": (0, 1, 0x7F, 0x80, 0xFF), "<H": (0, 0x7FFF, 0xFFFF), "<I": (0, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 20),
        "<Q": (0, (1 << 63) - 1, (1 << 64) - 1, 1 << 40),
    }.items()
    for value in values
)  # fmt: skip
WORDS = (
    b"NaN", b"Infinity", b"-1", b"1e999", b"null", b"true", b"[]", b"{}", b'""', b"\\u0000", b"9" * 30, b"__class__",
    b"(", b")", b"**", b"lambda", b"cos\nsystem\n", b"R", b"\x81", b"Q", b"h\x00", b"}", b"\xff\xfe", b"\n", b"{x}",
    b".npy",
)  # fmt: skip
