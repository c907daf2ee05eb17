"""The checker's own reading of files: JSON with limits, tensors, weights and facts of a network.

It knows names and shapes, computes no activation, and shares no code with the rest of the project.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.check.containers import Malformed, is_container, read_container
from extract.check.placing import read_layout
from extract.check.weights import ACTIVATIONS, Floats, Head, Layer, Pair, Rotary, Weights

_HEADER_BYTES, _FILE_BYTES, _JSON_BYTES = 1 << 20, 1 << 30, 1 << 27
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_ACTIVATIONS = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu_erf",
    "gelu_python": "gelu_erf",
}
_ACTIVATIONS |= {"swish": "silu", **{name: name for name in ACTIVATIONS if name != "solu"}}
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".npz")
_BUFFERS = ("attn.bias", "attn.masked_bias", "position_ids", "attn.mask", "attn.IGNORE", "attn.causal_mask")


class Unreadable(Exception):
    """A file that the checker cannot read, or a feature that it does not know: no verdict at all."""


def read_bytes(path: Path, limit: int = _FILE_BYTES) -> bytes:
    """Return a file's bytes. Raises: Unreadable if it is missing, no plain file, or larger than the limit in bytes."""
    try:
        if path.exists() and not path.is_file():
            raise Unreadable(f"{path}: not a regular file")
        if path.stat().st_size > limit:
            raise Unreadable(f"{path}: {path.stat().st_size} bytes, expected at most {limit}")
        return path.read_bytes()
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror or error}") from error


def parse_json(data: bytes, place: str) -> dict[str, Any]:
    """Return a JSON object. Raises: Unreadable for anything else, for duplicate keys and for NaN or Infinity."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("an object repeats a key")
        return dict(pairs)

    def refuse(text: str) -> float:
        raise ValueError(f"{text} is not a number of JSON")

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{place}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise Unreadable(f"{place}: holds {type(value).__name__}, expected an object")
    return value


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file. Raises: Unreadable."""
    return parse_json(read_bytes(path, _JSON_BYTES), str(path))


def weights_file(checkpoint: Path) -> Path:
    """Return the file that holds a checkpoint's weights: itself, one of a usual name in it, or its only other one."""
    if not checkpoint.is_dir():
        return checkpoint
    for name in ("model.safetensors", "pytorch_model.bin", "model.pt"):
        if (checkpoint / name).exists():
            return checkpoint / name
    for suffix in _SUFFIXES:
        found = sorted(checkpoint.glob(f"*{suffix}"))
        if len(found) == 1:
            return found[0]
        if found:
            raise Unreadable(f"{checkpoint}: holds {len(found)} {suffix} files, expected one")
    raise Unreadable(f"{checkpoint}: holds no weights")


def read_tensors(path: Path, state_dict_key: str | None = None) -> tuple[dict[str, Floats], str, dict[str, Any]]:
    """Return the float tensors of a file of weights, rounded to float32 and widened, the file's sha256, and what else
    the file says as plain data.

    Masks and other buffers are passed over; ``state_dict_key`` is the entry of a torch file that the spec names.
    """
    data = read_bytes(path)
    try:
        stored, inside = read_container(data, state_dict_key) if is_container(data) else (_safetensors(data, path), {})
    except Malformed as error:
        raise Unreadable(f"{path}: {error}") from error
    tensors: dict[str, Floats] = {}
    for name, raw in stored.items():
        if raw.dtype.kind != "f" or (name.endswith(_BUFFERS) and "attn.c_attn" not in name):
            continue
        with np.errstate(over="ignore", under="ignore"):
            array = raw.astype(np.float32)
        if not np.isfinite(array).all():
            raise Unreadable(f"{path}: tensor {name!r} holds a value that is not finite")
        tensors[name] = array.astype(np.float64)
    return tensors, hashlib.sha256(data).hexdigest(), inside


def _safetensors(data: bytes, path: Path) -> dict[str, NDArray[Any]]:
    n_header = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 2 <= n_header <= min(_HEADER_BYTES, len(data) - 8):
        raise Unreadable(f"{path}: not a safetensors file")
    found: dict[str, NDArray[Any]] = {}
    for name, entry in parse_json(data[8 : 8 + n_header], str(path)).items():
        if name == "__metadata__" or (name.endswith(_BUFFERS) and "attn.c_attn" not in name):
            continue
        try:
            begin, end = (8 + n_header + int(at) for at in entry["data_offsets"])
            if not 8 + n_header <= begin < end <= len(data) or min(entry["shape"], default=1) < 1:
                raise ValueError("empty, or outside of the file")
            raw = np.frombuffer(data[begin:end], _DTYPES[entry["dtype"]]).reshape([int(n) for n in entry["shape"]])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Unreadable(f"{path}: tensor {name!r} is malformed: {error}") from error
        found[name] = (raw.astype(np.uint32) << 16).view(np.float32) if entry["dtype"] == "BF16" else raw
    return found


def read_network(checkpoint: Path, facts: dict[str, Any] | None = None) -> Weights:
    """Read a network of any layout the checker knows: its file of weights, or the folder of it, and its config.json.

    ``facts`` are those of the spec's ``[model]``, for what the config does not say.
    Raises:  Unreadable for any other network.
    """
    path = weights_file(checkpoint)
    beside, told = path.parent / "config.json", facts or {}
    config = read_json(beside) if beside.exists() else {}
    stored, digest, inside = read_tensors(path, told.get("state_dict_key"))
    if config.get("model_type") == "extract-neutral":
        return _neutral(path, config, stored, digest)
    tensors = {name.removeprefix("transformer."): array for name, array in stored.items()}
    rows, columns = (*tensors.get("h.0.attn.c_attn.weight", np.zeros(0)).shape, 0, 0)[:2]
    if "wte.weight" not in tensors or rows == 3 * columns > 0:
        try:
            return read_layout(stored, config, inside, told, digest)
        except ValueError as error:
            raise Unreadable(f"{path}: no network the checker reads: {error}") from error
    n_heads: Any = config.get("n_head") or told.get("heads")
    eps: Any = config.get("layer_norm_epsilon") or told.get("eps")
    activation = _ACTIVATIONS.get(str(config.get("activation_function") or told.get("activation")))
    try:
        n_vocab, d = tensors["wte.weight"].shape
        n_layers = sum(name.endswith("attn.c_attn.weight") for name in tensors)
        shapes: dict[str, tuple[int, ...]] = {"wte": (n_vocab, d), "wpe": (len(tensors["wpe.weight"]), d), "ln_f": (d,)}
        for i in range(n_layers):
            m = tensors[f"h.{i}.mlp.c_fc.weight"].shape[1]
            names = {"ln_1": (d,), "attn.c_attn": (d, 3 * d), "attn.c_proj": (d, d), "ln_2": (d,)}
            shapes |= {f"h.{i}.{n}": s for n, s in {**names, "mlp.c_fc": (d, m), "mlp.c_proj": (m, d)}.items()}
        shapes |= {"lm_head": (len(tensors["lm_head.weight"]), d)} if "lm_head.weight" in tensors else {}
        expected = {f"{n}.weight": s for n, s in shapes.items()}
        expected |= {f"{n}.bias": s[-1:] for n, s in shapes.items() if n not in ("wte", "wpe", "lm_head")}
        if {name: array.shape for name, array in tensors.items()} != expected or d % int(n_heads) or activation is None:
            raise ValueError("tensors, heads or activation do not fit")
        head = 1 / math.sqrt(d // int(n_heads)) if config.get("scale_attn_weights", True) else 1.0
        by_layer = bool(config.get("scale_attn_by_inverse_layer_idx", False))
        scales = tuple(head / (i + 1 if by_layer else 1) for i in range(n_layers))
        unembed = tensors.get("lm_head.weight", tensors["wte.weight"]).T
        return Weights(
            embed=tensors["wte.weight"], pos_embed=tensors["wpe.weight"],
            layers=tuple(_gpt2_layer(tensors, f"h.{i}.", int(n_heads)) for i in range(n_layers)),
            norm_final=_pair(tensors, "ln_f"), W_U=unembed, b_U=np.zeros(unembed.shape[1]), n_heads=int(n_heads),
            n_ctx=len(tensors["wpe.weight"]), attention_scale=scales, norm_eps=float(eps), activation=activation,
            digest=digest,
        )  # fmt: skip
    except (KeyError, ValueError, TypeError, IndexError, ZeroDivisionError) as error:
        raise Unreadable(f"{path}: not a GPT-2 with its config.json: {error!r}") from error


def _pair(tensors: dict[str, Floats], name: str) -> Pair:
    return tensors[f"{name}.weight"], tensors[f"{name}.bias"]


def _gpt2_layer(tensors: dict[str, Floats], at: str, n_heads: int) -> Layer:
    joined, biases = _pair(tensors, f"{at}attn.c_attn")
    d = len(joined)
    W_Q, W_K, W_V = joined.reshape(d, 3, n_heads, -1).transpose(1, 2, 0, 3)
    W_O, b_O = _pair(tensors, f"{at}attn.c_proj")
    b_Q, b_K, b_V = biases.reshape(3, n_heads, -1)
    (W_in, b_in), (W_out, b_out) = _pair(tensors, f"{at}mlp.c_fc"), _pair(tensors, f"{at}mlp.c_proj")
    return Layer(
        W_Q, b_Q, W_K, b_K, W_V, b_V, W_O.reshape(n_heads, -1, d), b_O, W_in, b_in, W_out, b_out,
        norm_attention=_pair(tensors, f"{at}ln_1"), norm_mlp=_pair(tensors, f"{at}ln_2"),
    )  # fmt: skip


def _neutral(path: Path, config: dict[str, Any], stored: dict[str, Floats], digest: str) -> Weights:
    """Return a network of the neutral layout; a fact that is absent has its usual value, one without a place fails."""
    rest = dict(stored)

    def pair(weight: str, bias: str) -> Pair | None:
        return (rest.pop(weight), rest.pop(bias)) if weight in stored else None

    def norm(name: str) -> Pair | None:
        return pair(f"{name}.weight", f"{name}.bias")

    try:
        d, h, n_ctx = len(stored["W_U"]), len(stored["layers.0.W_Q"]), int(config["n_ctx"])
        n_layers = len({name.split(".")[1] for name in stored if name.startswith("layers.")})
        has_mlp, has_norm = "layers.0.W_in" in stored, any("norm" in name for name in stored)
        layers, nothing = [], {"W_in": (d, 0), "b_in": (0,), "W_out": (0, d), "b_out": (d,)}
        for i in range(n_layers):
            at = f"layers.{i}."
            parts: dict[str, Any] = {
                n: rest.pop(at + n) for n in ("W_Q", "b_Q", "W_K", "b_K", "W_V", "b_V", "W_O", "b_O")
            }
            parts |= {n: rest.pop(at + n) if has_mlp else np.zeros(shape) for n, shape in nothing.items()}
            parts |= {f"norm_{n}": norm(f"{at}norm_{n}") for n in ("attention", "mlp", "query", "key", "hidden")}
            layers.append(Layer(**parts, gate=pair(f"{at}W_gate", f"{at}b_gate")))
            if not has_mlp and (layers[-1].gate or layers[-1].norm_hidden or layers[-1].norm_mlp):
                raise ValueError(f"{at} has parts of an MLP that is not there")
        told, final = [config[name] for name in ("attention", "norm", "positions")], norm("norm_final")
        is_place = told[2] in (("learned", "sinusoidal") if "pos_embed" in stored else ("none", "rotary"))
        r, scale, last = config.get("rotary"), config["attention_scale"], pair("head.W", "head.b")
        if not is_place or (told[1] == "none") == has_norm or (told[2] == "rotary") != (r is not None):
            raise ValueError(f"{told} is not what the tensors are")
        usual = {
            name: config[name] for name in ("norm_place", "softmax_share", "masked_token", "embed_scale")
            if config.get(name) is not None
        }  # fmt: skip
        weights = Weights(
            rest.pop("embed"), rest.pop("pos_embed", None), tuple(layers), final, rest.pop("W_U"),
            rest.pop("b_U") if "b_U" in rest else np.zeros(stored["W_U"].shape[1]), h, n_ctx,
            tuple(map(float, scale)) if isinstance(scale, list) else (float(scale),) * n_layers,
            float(config["norm_eps"]) if has_norm else 0.0, str(config["activation"]) if has_mlp else None, digest,
            attention=told[0], norm=told[1], rotary=None if r is None else Rotary(**r),
            embed_bias=rest.pop("embed_bias", None),
            head=None if last is None else Head(*last, norm("head.norm"), str(config["head_activation"])), **usual,
        )  # fmt: skip
        if rest:
            raise ValueError(f"{sorted(rest)[:3]} have no place")
        return weights
    except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise Unreadable(f"{path}: not a network of the neutral layout with its config.json: {error!r}") from error
