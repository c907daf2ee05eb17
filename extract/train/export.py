"""A trained network as a checkpoint folder: ``model.safetensors``, ``config.json`` and ``spec.toml``.

Names, shapes and configuration keys are those of Hugging Face GPT-2, so ``GPT2LMHeadModel.from_pretrained`` reads the
folder; a network that is no GPT-2 is written in the neutral layout instead. Writing is atomic: the folder appears
complete or not at all. It refuses to know how the weights were found.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from extract.errors import OutputError
from extract.train.tasks import BOS, EOS, TaskRecord

Weights = Mapping[str, NDArray[np.float32]]


def gpt2_config(record: TaskRecord) -> dict[str, object]:
    """Return the contents of ``config.json``."""
    token_id = {name: i for i, name in enumerate(record.vocab)}
    return {
        "activation_function": "gelu_new",
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.0,
        "bos_token_id": token_id.get(BOS),
        "embd_pdrop": 0.0,
        "eos_token_id": token_id.get(EOS),
        "layer_norm_epsilon": 1e-05,
        "model_type": "gpt2",
        "n_embd": record.shape.d_model,
        "n_head": record.shape.n_heads,
        "n_inner": None,
        "n_layer": record.shape.n_layers,
        "n_positions": record.n_positions,
        "reorder_and_upcast_attn": False,
        "resid_pdrop": 0.0,
        "scale_attn_by_inverse_layer_idx": False,
        "scale_attn_weights": True,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "vocab_size": len(record.vocab),
    }


def neutral_config(record: TaskRecord) -> dict[str, object]:
    """Return the contents of ``config.json`` beside an attention-only network: what its tensors do not say."""
    d_head = record.shape.d_model // record.shape.n_heads
    return {
        "activation": None,
        "attention": "causal",
        "attention_scale": 1 / math.sqrt(d_head),
        "d_head": d_head,
        "d_mlp": 0,
        "d_model": record.shape.d_model,
        "d_vocab": len(record.vocab),
        "d_vocab_out": len(record.output_names),
        "model_type": "extract-neutral",
        "n_ctx": record.n_positions,
        "n_heads": record.shape.n_heads,
        "n_layers": record.shape.n_layers,
        "norm": "none",
        "norm_eps": None,
        "positions": "learned",
    }


def spec_text(record: TaskRecord) -> str:
    """Return the task's spec as TOML (spec.md): the contract a result will be about."""
    lines = [
        "version = 1",
        f"name = {_toml(record.name)}",
        f"description = {_toml(record.description)}",
        "",
        "[tokens]",
        f"vocab = {_toml(record.vocab)}",
        f"numeric = {_toml(record.numeric)}",
        "",
        "[domain]",
        f"alphabet = {_toml(record.alphabet)}",
        f"min_length = {record.min_length}",
        f"max_length = {record.max_length}",
        f"template = {_toml(record.template)}",
        "offsets = [0]",
    ]
    if record.where:
        lines.append(f"where = {_toml(record.where)}")
    if record.automaton:
        lines.append(f"automaton = {{ start = 0, transitions = {_toml(record.automaton)} }}")
    lines += ["", "[readout]", f"at = {_toml(record.at)}", 'kind = "argmax"']
    if record.outputs:
        lines.append(f"outputs = {_toml(record.outputs)}")
    if record.at == "generate":
        lines += [f"stop = {_toml(EOS)}", f"max_new = {record.max_new}"]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    # JSON's spelling of strings, booleans, integers and arrays is TOML's too.
    return json.dumps(value, ensure_ascii=True)


def check_destination(folder: Path, *, force: bool) -> None:
    """Refuse a destination that would overwrite something, before any work is done.

    Raises:  OutputError if ``folder`` is a file, or a folder that is not empty and ``force`` is not given, or cannot
             be made because what should hold it is a file or not writable.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file, expected a folder to write the checkpoint into")
    if folder.is_dir() and not force and any(folder.iterdir()):
        raise OutputError(f"{folder} is not empty, expected a new or empty folder", hint="--force overwrites it")
    holder = next(parent for parent in folder.absolute().parents if parent.exists())
    if not holder.is_dir() or not os.access(holder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder} cannot be made: {holder} is not a folder that can be written to")


def write_checkpoint(folder: Path, record: TaskRecord, weights: Weights, *, force: bool = False) -> None:
    """Write the three files so that the folder holds all of them or is as it was.

    With ``force`` and a folder that is not empty, the three files are replaced one by one and others are left alone.
    Units:   ``weights`` under GPT-2's names without the ``transformer.`` prefix, or the neutral layout's, float32.
    Raises:  OutputError naming the path and the system's reason.
    """
    is_neutral = record.shape.is_attention_only
    prefix, config = ("", neutral_config(record)) if is_neutral else ("transformer.", gpt2_config(record))
    tensors = {f"{prefix}{name}": np.ascontiguousarray(array) for name, array in weights.items()}
    contents = {
        "model.safetensors": save(tensors, metadata={"format": "pt"}),
        "config.json": (json.dumps(config, indent=2, sort_keys=True) + "\n").encode(),
        "spec.toml": spec_text(record).encode(),
    }
    check_destination(folder, force=force)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _staging(folder) as staged:
            for name, content in contents.items():
                _write_through(staged / name, content)
            if folder.is_dir() and any(folder.iterdir()):
                for name in contents:
                    os.replace(staged / name, folder / name)
            else:
                os.replace(staged, folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"the checkpoint could not be written to {folder}: {reason}") from error


@contextlib.contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    staged = folder.parent / f".{folder.name}.{os.getpid()}.partial"
    staged.mkdir()
    try:
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _write_through(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
