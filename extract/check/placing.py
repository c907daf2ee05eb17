"""The checker's own way from stored tensors to a network: one layout must give a place to every tensor.

Shapes are settled by ``Weights``, what tensors do not say by ``Facts``. It shares no code with the rest of the project.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from extract.check.facts import Facts
from extract.check.layouts import LAYOUTS, MACROS
from extract.check.weights import Floats, Head, Layer, Pair, Rotary, Weights

_PREFIXES = ("_orig_mod.", "module.", "model.", "net.", "network.", "transformer.")
_BUFFER = re.compile(r"(?:.*\.)?attn\.(?:mask|IGNORE|bias|masked_bias|rotary_sin|rotary_cos|causal_mask)")
_AROUND = (
    ("pos", r"pos|(?:^|[._])pe$"), ("nf", r"norm|(?:^|[._])ln"),
    ("U", r"unembed|head|fc|out|decoder|classif|lin|proj|logits"), ("embed", r"emb|tok|src|^encoder$"),
)  # fmt: skip


def _written_out(lines: str) -> list[tuple[str, str, str]]:
    """Return every line as role, name, turn."""
    plain = []
    for line in filter(None, map(str.strip, lines.split("\n"))):
        macro, _, rest = line.partition(" ")
        role, _, name = rest.partition(": ")
        plain += MACROS[macro].format(r=role, n=name).split("\n") if macro in MACROS and name else [line]
    return [tuple([*line.split(), ""][:3]) for line in plain]  # type: ignore[misc]


class Lines:
    """The tensors of a file by role and layer, as one layout has them; heads of their own stand side by side."""

    def __init__(self, lines: str, stored: dict[str, Floats]) -> None:
        self.found: dict[tuple[str, int], Floats] = {}
        self.stored_heads = 0
        self.copied: Floats | None = None
        self.rest = {name: array for name, array in stored.items() if not _BUFFER.fullmatch(name)}
        for role, name, turn in _written_out(lines):
            pattern = re.compile(re.escape(name).replace(r"\#", r"(?P<i>\d+)").replace("@", r"(?P<h>\d+)"))
            there = [(m, n) for n in self.rest if (m := pattern.fullmatch(n))]
            there.sort(key=lambda found: [int(number) for number in found[0].groups()])
            if not there and not turn.endswith("?"):
                raise ValueError(f"{name} is missing")
            for match, full in there:
                array = self.rest.pop(full)
                key, turned = (role, int(match.groupdict().get("i") or 0)), _turned(array, role, turn.rstrip("?"))
                self.copied = array if role == "embed" else self.copied
                if role == "Q":
                    self.stored_heads = len(array) if array.ndim == 3 else int(match.groupdict().get("h", -1)) + 1
                self.found[key] = np.concatenate([self.found[key], turned], -1) if key in self.found else turned
        self.n_layers = max([i + 1 for role, i in self.found if role in _LAYERED], default=0)
        for role, _ in self.found:
            if role in _LAYERED and not all((role, i) in self.found for i in range(self.n_layers)):
                raise ValueError(f"{role} is not in every layer")

    def get(self, role: str, i: int = 0) -> Floats | None:
        """Return a role's tensor in a layer, None if it is absent."""
        return self.found.get((role, i))

    def pair(self, role: str, i: int, default: Pair | None) -> Pair | None:
        """Return a norm's gain and shift."""
        gain, shift = self.get(f"{role}.w", i), self.get(f"{role}.b", i)
        return default if gain is None else (gain, np.zeros_like(gain) if shift is None else shift)


_LAYERED = {*"QKVO", "bQ", "bK", "bV", "bO", "QKV", "bQKV", "in", "bin", "out", "bout", "gate", "bgate"}
_LAYERED |= {f"{norm}.{part}" for norm in ("n1", "n2", "qn", "kn", "hn") for part in "wb"}


def _turned(array: Floats, role: str, turn: str) -> Floats:
    if role == "pos" and array.ndim == 3 and 1 in array.shape[:2]:
        array = array.reshape(-1, array.shape[2])
    if array.ndim != {"T": 2, "hdk": 3, "hkd": 3}.get(turn, array.ndim):
        raise ValueError(f"{role} has shape {array.shape}")
    if turn in ("hdk", "hkd"):
        inner = array if turn == "hkd" else array.transpose(0, 2, 1)
        joined = inner.reshape(-1, inner.shape[2])
        return joined if role == "O" else joined.T
    if turn == "T":
        return array.T
    return array.reshape(-1) if role in ("bQ", "bK", "bV") else array


def read_layout(
    stored: dict[str, Floats], config: dict[str, Any], inside: dict[str, Any], told: dict[str, Any], digest: str
) -> Weights:
    """Return the network of a file in the one layout that explains it, or in the one the spec names.

    Raises:  ValueError where none or several explain it, with each one's objection.
    """
    named = {_bare_name(name): array for name, array in stored.items()}
    facts = Facts(config, inside, told)
    found: list[Weights] = []
    wrong: list[str] = []
    for name in [told["format"]] if told.get("format") in LAYOUTS else LAYOUTS:
        try:
            found.append(_network(name, named, facts, digest))
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, ZeroDivisionError) as error:
            wrong.append(f"{name}: {error}")
    if len(found) != 1 or len(named) < len(stored):
        raise ValueError("several layouts explain it" if found else "; ".join(wrong))
    return found[0]


def _bare_name(name: str) -> str:
    while name.startswith(_PREFIXES):
        name = name.partition(".")[2]
    return (
        re.sub("[:.]", "/", name.replace("~/", ""))
        if name.startswith(("transformer/", "token_embed", "pos_embed/"))
        else name
    )


def _network(name: str, stored: dict[str, Floats], facts: Facts, digest: str) -> Weights:
    lines, always, usual = LAYOUTS[name]
    if name == "torch_encoder":
        lines, stored = _around(lines, stored)
    if name == "nanogpt" and ("model_args" in facts.inside or "model_args" in facts.config):
        usual = {**usual, "activation": "gelu_erf"}
    at = Lines(lines, stored)
    if at.copied is None or any(not np.array_equal(array, at.copied) for array in at.rest.values()):
        raise ValueError(f"{sorted(at.rest)[:3]} have no place")
    about = {fact: facts.fixed(fact, value) for fact, value in always.items()}

    def say(fact: str, default: Any = None) -> Any:
        value = about.get(fact, facts.get(fact, usual.get(fact, default)))
        return facts.need(fact) if value is None else value

    if name.startswith("transformer_lens_"):
        # the native model divides by its scale and pairs neighbours whatever is said, and gates by few activations
        gated = ("gate", 0) in at.found and facts.get("activation") not in (None, "silu", "gelu_erf", "gelu_tanh")
        if gated or any(source.get("use_attn_scale") is False for source in facts.sources):
            raise ValueError("the native model does not do what its config says")
        about["pairing"] = "neighbours"
    if name == "llama":
        # Gemma has these names, another norm and a gated GELU
        kind = facts.get("model_type")
        if kind not in (None, "llama", "mistral", "qwen2", "qwen3") or (
            kind is None and facts.get("activation") != "silu"
        ):
            raise ValueError(f"model_type is {kind}, activation {facts.get('activation')}")
    norm, is_bare = _norms(name, at, facts)
    has_units = ("in", 0) in at.found or ("head", 0) in at.found
    h, k = _heads(at, facts)
    W_U, b_U = _unembedding(name, at, facts)
    pos, rotary, n_ctx = _positions(at, say, facts, k)
    _check_rotation(stored, rotary)
    activation = say("activation") if has_units else None
    head = None
    if ("head", 0) in at.found:
        head = Head(at.found["head", 0], at.found["bhead", 0], at.pair("head", 0, None), str(activation))
    bare = (np.ones(len(W_U)), np.zeros(len(W_U))) if is_bare else None
    return Weights(
        at.found["embed", 0], pos, tuple(_layer(name, at, i, h, k, bare) for i in range(at.n_layers)),
        at.pair("nf", 0, bare), W_U, b_U, h, n_ctx, facts.scales(k, at.n_layers),
        0.0 if norm == "none" else float(say("eps")), activation if ("in", 0) in at.found else None, digest,
        attention=say("attention"), norm=norm, norm_place="before" if norm == "none" else say("norm_place"),
        rotary=rotary, softmax_share=float(facts.get("share", 1.0)),
        masked_token=facts.need("pad") if facts.get("is_masked", False) else None,
        embed_scale=float(facts.get("embed_scale", 1.0)), embed_bias=at.get("ebias"), head=head,
    )  # fmt: skip


def _norms(name: str, at: Lines, facts: Facts) -> tuple[str, bool]:
    """Return the kind of norm, as stored or as somebody says, and whether the stream's norms have no tensors."""

    def stored(roles: str) -> str | None:
        there = {role for role, _ in at.found if role in [f"{r}.w" for r in roles.split()]}
        has_shift = any(role == f"{r[:-2]}.b" for role, _ in at.found for r in there)
        plain = "layernorm" if name in ("nanogpt", "torch_encoder", "uva_tutorial") else "rms"
        return None if not there else "layernorm" if has_shift else plain

    stream, inner = stored("n1 n2 nf"), stored("qn kn hn head")
    if stream is None and name in ("transformer_lens", "easy_transformer"):
        stated = str(facts.need("norm"))
        if inner not in (None, stated) and stated != "none":
            raise ValueError("two kinds of norms")
        return inner or stated if stated == "none" else stated, stated != "none"
    # TransformerLens 4 has a layer norm where its config names none
    if stream is not None and not name.startswith("transformer_lens_"):
        facts.fixed("norm", stream)
    if inner is not None and stream not in (None, inner):
        raise ValueError("two kinds of norms")
    return stream or inner or str(facts.fixed("norm", "none")), False


def _heads(at: Lines, facts: Facts) -> tuple[int, int]:
    """Return the heads and the width of each: as stored, or as said."""
    width = len(at.found["O", 0])
    if at.stored_heads:
        h = facts.fixed("heads", at.stored_heads)
    else:
        small = at.get("qn.w")
        h = facts.get("heads") or width // (facts.need("d_head") if small is None else len(small))
    if h < 1 or width % h:
        raise ValueError(f"{h} heads do not divide {width}")
    return int(h), width // int(h)


def _layer(name: str, at: Lines, i: int, h: int, k: int, bare: Pair | None) -> Layer:
    O = at.found["O", i]  # noqa: E741
    d = O.shape[1]

    def by_head(matrix: Floats, bias: Floats | None) -> Pair:
        groups = matrix.shape[1] // k
        shift = np.zeros(groups * k) if bias is None else bias
        if not groups or h % groups or matrix.shape != (d, groups * k) or shift.shape != (groups * k,):
            raise ValueError(f"a projection of {matrix.shape} does not make heads of {k}")
        W, b = matrix.reshape(d, groups, k).transpose(1, 0, 2), shift.reshape(groups, k)
        return np.repeat(W, h // groups, axis=0), np.repeat(b, h // groups, axis=0)

    def shift(role: str, size: int) -> Floats:
        return at.found.get((role, i), np.zeros(size))

    if ("QKV", i) in at.found:
        both = np.vstack([at.found["QKV", i], shift("bQKV", 3 * h * k)])
        # the UvA tutorial keeps query, key and value of a head together, everybody else the heads of each
        split = both.reshape(-1, h, 3, k).swapaxes(1, 2) if name == "uva_tutorial" else both.reshape(-1, 3, h, k)
        Q, K, V = (by_head(split[:-1, x].reshape(d, -1), split[-1, x].reshape(-1)) for x in range(3))
    else:
        Q, K, V = (by_head(at.found[x, i], at.get(f"b{x}", i)) for x in "QKV")
    into, gate = at.found.get(("in", i), np.zeros((d, 0))), at.get("gate", i)
    m = into.shape[1]
    norms = [(role, i) in at.found for role in ("n1.w", "n2.w", "hn.w")]
    if (m > 0) != (("out", i) in at.found) or (not m and (gate is not None or norms[2])):
        raise ValueError("parts of an MLP are missing")
    if norms[1] != (norms[0] and m > 0):
        raise ValueError("norms and sublayers do not pair")
    if gate is not None and ("bgate", i) not in at.found and shift("bin", m).any():
        raise ValueError("a bias that is added after the gate is not known")
    out = at.found.get(("out", i), np.zeros((0, d)))
    return Layer(
        *Q, *K, *V, O.reshape(h, k, d), shift("bO", d), into, shift("bin", m), out, shift("bout", d),
        norm_attention=at.pair("n1", i, bare), norm_mlp=at.pair("n2", i, bare if m else None),
        norm_query=at.pair("qn", i, None), norm_key=at.pair("kn", i, None), norm_hidden=at.pair("hn", i, None),
        gate=None if gate is None else (gate, shift("bgate", m)),
    )  # fmt: skip


def _positions(at: Lines, say: Any, facts: Facts, k: int) -> tuple[Floats | None, Rotary | None, int]:
    pos = at.get("pos")
    if pos is not None:
        if facts.get("positions", "learned") not in ("learned", "sinusoidal"):
            raise ValueError("a table of positions is stored, and another kind is stated")
        return pos, None, int(facts.fixed("n_ctx", len(pos)))
    kind, n_ctx = say("positions"), int(facts.get("n_ctx") or facts.get("limit") or 512)
    if kind == "rotary":
        dims = int(facts.get("n_dims") or k)
        return None, Rotary(float(say("base")), dims, say("pairing", "halves")), n_ctx
    if kind == "none":
        return None, None, n_ctx
    if kind != "sinusoidal":
        raise ValueError("no table of positions is stored")
    d = at.found["embed", 0].shape[1]
    made = np.zeros((n_ctx, d))
    for j in range(d):
        angle = np.arange(n_ctx) * 10000.0 ** (-2 * (j // 2) / d)
        made[:, j] = np.cos(angle) if j % 2 else np.sin(angle)
    return made.astype(np.float32).astype(np.float64), None, n_ctx


def _check_rotation(stored: dict[str, Floats], rotary: Rotary | None) -> None:
    """Refuse stored tables of another rotation than the one that is stated."""
    for name, table in stored.items():
        if re.fullmatch(r".*\.rotary_(?:sin|cos)", name):
            if rotary is None or table.shape[1] != rotary.n_dims:
                raise ValueError(f"{name} is there without its rotation")
            half = np.arange(rotary.n_dims // 2)
            pair = np.repeat(half, 2) if rotary.pairing == "neighbours" else np.tile(half, 2)
            angle = np.arange(len(table))[:, None] * rotary.base ** (-2 * pair / rotary.n_dims)
            wave = np.sin(angle) if name.endswith("sin") else np.cos(angle)
            if not (np.abs(table - wave) <= 1e-5 * np.maximum(1, len(table))).all():
                raise ValueError(f"{name} is not the stated rotation's")


def _unembedding(name: str, at: Lines, facts: Facts) -> tuple[Floats, Floats]:
    W_U, embed = at.get("U"), at.found["embed", 0]
    if name == "tracr":
        rows = facts.config["unembed"]["residual_rows"]
        codes, (_, d) = facts.config.get("output_encoder", {}).get("encoding_map"), embed.shape
        fits = all(type(row) is int and 0 <= row < d for row in rows) and 0 < len(rows) == len(set(rows))
        if not fits or (codes is not None and len(codes) != len(rows)):
            raise ValueError("residual_rows are no output basis")
        W_U = np.eye(d)[:, rows]
    elif W_U is None:
        W_U = embed.T
        facts.fixed("tied", True)
    elif name == "nanogpt" and "model_args" in facts.inside and not np.array_equal(W_U, embed.T):
        facts.fixed("tied", False if facts.need("tied") is False else None)
    bias = at.get("bU")
    return W_U, np.zeros(W_U.shape[1]) if bias is None else bias


def _around(lines: str, stored: dict[str, Floats]) -> tuple[str, dict[str, Floats]]:
    """Return torch's lines for an encoder and the roles that the names around it say."""
    first = next((m for n in stored if (m := re.fullmatch(r"((?:\w+\.)*)0\.self_attn\.in_proj_weight", n))), None)
    if first is None:
        raise ValueError("no encoder layers")
    start = first.group(1)
    renamed = {f"layers.{n.removeprefix(start)}" if n.startswith(start) else n: array for n, array in stored.items()}
    roles: list[str] = []
    for name in [n for n in renamed if not re.match(r"layers\.\d+\.", n)]:
        stem, is_bias = re.sub(r"\.(?:weight|bias)$", "", name), name.endswith(".bias")
        role = next((role for role, words in _AROUND if re.search(words, stem.lower())), "")
        role = {"nf": "nf.b" if is_bias else "nf.w", "U": "bU" if is_bias else "U"}.get(role, role)
        lines += f"{role} {name} {'T' if role == 'U' else ''}\n" if role else ""
        roles.append(role)
    if len(set(roles)) < len(roles) or "U" not in roles or "embed" not in roles:
        raise ValueError("the parts around the encoder are not told apart by their names")
    return lines, renamed
