"""The checker's own reading of files: JSON with limits, tensors, weights and facts of a network.

It knows names and shapes, computes no activation, and shares no code with the rest of the project.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.check.containers import Malformed, is_container, read_container

Floats = NDArray[np.float64]

_HEADER_BYTES, _FILE_BYTES, _JSON_BYTES = 1 << 20, 1 << 30, 1 << 27
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_ACTIVATIONS = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu_erf",
    "gelu_python": "gelu_erf",
}
_ACTIVATIONS |= {"relu": "relu", "silu": "silu", "swish": "silu", "gelu_tanh": "gelu_tanh", "gelu_erf": "gelu_erf"}
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".npz")
_BUFFERS = ("attn.bias", "attn.masked_bias", "position_ids", "attn.mask", "attn.IGNORE")


class Unreadable(Exception):
    """A file that the checker cannot read, or a feature that it does not know: no verdict at all."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A network: its float32 tensors as float64 under GPT-2's names without prefix, and what they do not say.

    ``scales`` multiply query-key products, one for each layer; ``digest`` is the sha256 of the file. ``eps`` is 0 where
    there is no layer norm (its gain is then 1 and its shift 0), ``activation`` None where there is no MLP.
    """

    tensors: dict[str, Floats]
    scales: tuple[float, ...]
    n_heads: int
    eps: float
    activation: str | None
    digest: str

    @property
    def facts(self) -> dict[str, Any]:
        """What config.json or the spec said about the function, as a certificate states it."""
        return {
            "heads": self.n_heads, "norm_eps": self.eps, "activation": self.activation,
            "attention_scale": list(self.scales),
        } | ({} if self.eps else {"norm": "none"})  # fmt: skip

    def pair(self, name: str) -> tuple[Floats, Floats]:
        """Return a weight and its bias."""
        return self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]

    @property
    def embed(self) -> Floats:
        """The embedding [d_vocab, d_model]."""
        return self.tensors["wte.weight"]

    @property
    def places(self) -> Floats:
        """The position embedding [n_ctx, d_model]."""
        return self.tensors["wpe.weight"]

    @property
    def unembed(self) -> Floats:
        """The unembedding [d_model, d_vocab_out]; the embedding where no other is stored."""
        return self.tensors.get("lm_head.weight", self.embed).T

    @property
    def unembed_bias(self) -> Floats:
        """The bias of the logits [d_vocab_out]; 0 where none is stored."""
        return self.tensors.get("lm_head.bias", np.zeros(self.unembed.shape[1]))


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
    """Return the file that holds a checkpoint's weights: itself, ``model.safetensors`` in it, or its only other one."""
    if not checkpoint.is_dir() or (checkpoint / "model.safetensors").exists():
        return checkpoint / "model.safetensors" if checkpoint.is_dir() else checkpoint
    for suffix in _SUFFIXES:
        found = sorted(checkpoint.glob(f"*{suffix}"))
        if len(found) == 1:
            return found[0]
        if found:
            raise Unreadable(f"{checkpoint}: holds {len(found)} {suffix} files, expected one")
    raise Unreadable(f"{checkpoint}: holds no weights")


def read_tensors(path: Path, state_dict_key: str | None = None) -> tuple[dict[str, Floats], str]:
    """Return the float tensors of a file of weights, rounded to float32 and widened, and the file's sha256.

    Masks and other buffers are passed over; ``state_dict_key`` is the entry of a torch file that the spec names.
    """
    data = read_bytes(path)
    try:
        stored = read_container(data, state_dict_key)[0] if is_container(data) else _safetensors(data, path)
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
        tensors[name.removeprefix("transformer.")] = array.astype(np.float64)
    return tensors, hashlib.sha256(data).hexdigest()


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
    """Read a Hugging Face GPT-2 or a neutral network: its file of weights, or the folder of it, and its config.json.

    ``facts`` are those of the spec's ``[model]``, for what the config does not say.
    Raises:  Unreadable for any other network.
    """
    path = weights_file(checkpoint)
    beside, told = path.parent / "config.json", facts or {}
    config = read_json(beside) if beside.exists() else {}
    tensors, digest = read_tensors(path, told.get("state_dict_key"))
    if config.get("model_type") == "extract-neutral":
        return _neutral(path, config, tensors, digest)
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
        return Weights(tensors, scales, int(n_heads), float(eps), activation, digest)
    except (KeyError, ValueError, TypeError, IndexError, ZeroDivisionError) as error:
        raise Unreadable(f"{path}: not a GPT-2 with its config.json, all the checker reads: {error!r}") from error


def _neutral(path: Path, config: dict[str, Any], stored: dict[str, Floats], digest: str) -> Weights:
    """Return a network of the neutral layout under GPT-2's names; what is absent there does nothing here."""
    rest, tensors = dict(stored), dict[str, Floats]()

    def take(name: str, *shape: int) -> Floats:
        array = rest.pop(name)
        if array.shape != shape:
            raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
        return array

    try:
        (n_vocab, d), n_out = stored["embed"].shape, stored["W_U"].shape[1]
        h, _, k = stored["layers.0.W_Q"].shape
        n_layers = len({name.split(".")[1] for name in stored if name.startswith("layers.")})
        m = stored["layers.0.W_in"].shape[1] if "layers.0.W_in" in stored else 0
        is_normed, n_ctx = "norm_final.weight" in stored, int(config["n_ctx"])
        told = config["attention"], config["norm"], config["positions"], config.get("activation")
        expected = "causal", "layernorm" if is_normed else "none", "learned" if "pos_embed" in stored else "none"
        if told[:3] != expected or h * k > d or (m and told[3] not in _ACTIVATIONS.values()):
            raise ValueError(f"{told} is not what the tensors are, or not known")
        tensors |= {"wte.weight": take("embed", n_vocab, d), "lm_head.weight": take("W_U", d, n_out).T}
        tensors["wpe.weight"] = take("pos_embed", n_ctx, d) if "pos_embed" in stored else np.zeros((n_ctx, d))
        tensors["lm_head.bias"] = take("b_U", n_out) if "b_U" in stored else np.zeros(n_out)
        norms = {"norm_final": "ln_f"}
        for i in range(n_layers):
            at, to = f"layers.{i}.", f"h.{i}."
            norms |= {f"{at}norm_attention": f"{to}ln_1", f"{at}norm_mlp": f"{to}ln_2"}
            joined = [take(f"{at}W_{x}", h, d, k).transpose(1, 0, 2).reshape(d, h * k) for x in "QKV"]
            tensors[f"{to}attn.c_attn.weight"] = np.concatenate(joined, axis=1)
            tensors[f"{to}attn.c_attn.bias"] = np.concatenate([take(f"{at}b_{x}", h, k).reshape(-1) for x in "QKV"])
            tensors[f"{to}attn.c_proj.weight"] = take(f"{at}W_O", h, k, d).reshape(h * k, d)
            tensors[f"{to}attn.c_proj.bias"] = take(f"{at}b_O", d)
            for name, new, shape in (("in", "c_fc", (d, m)), ("out", "c_proj", (m, d))):
                weight, bias = (f"{at}W_{name}", *shape), (f"{at}b_{name}", *shape[1:])
                tensors[f"{to}mlp.{new}.weight"] = take(*weight) if m else np.zeros((shape[0] or 1, shape[1] or 1))
                tensors[f"{to}mlp.{new}.bias"] = take(*bias) if m else np.zeros(shape[1] or 1)
        for old, new in norms.items():
            has = is_normed and (m or not old.endswith("norm_mlp"))
            tensors[f"{new}.weight"] = take(f"{old}.weight", d) if has else np.ones(d)
            tensors[f"{new}.bias"] = take(f"{old}.bias", d) if has else np.zeros(d)
        eps = float(config["norm_eps"]) if is_normed else 0.0
        if rest or (is_normed and not eps > 0):
            raise ValueError(f"{sorted(rest)[:3]} have no place, or norm_eps is not above 0")
        scales = (float(config["attention_scale"]),) * n_layers
        return Weights(tensors, scales, h, eps, told[3] if m else None, digest)
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise Unreadable(f"{path}: not a network of the neutral layout with its config.json: {error!r}") from error
