"""Seeded training: from a task's name to a checkpoint folder whose exactness was measured on the whole domain.

Most domains are small, so the network sees all of them and is judged on all of them; of the others it sees inputs
drawn once, and is judged on those. One thread and deterministic
kernels: the same seed gives the same bytes with the same torch build on the same kind of processor; other builds
round differently and give another checkpoint of the same quality. It refuses to know what is done with the result.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from extract.errors import UsageError
from extract.progress import Progress
from extract.train.attention_only import AttentionOnly
from extract.train.data import NOT_READ, Examples, examples, inputs
from extract.train.export import check_destination, write_checkpoint
from extract.train.tasks import TaskRecord, task
from extract.train.transformer import SmallGPT2

#: The whole domain is evaluated after this many steps, and the inputs with the thinnest margins are trained on more.
STEPS_PER_EVALUATION = 250
#: Inputs evaluated at a time: a few megabytes of activations.
EVALUATION_BATCH = 4096
#: The share of each batch drawn from the thinnest inputs of the last evaluation.
THIN_SHARE = 0.5
WARMUP_STEPS = 100
#: The learning rate falls to this share of its peak at the last step.
FINAL_RATE_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class TrainedCheckpoint:
    """What training made.

    ``exact_inputs`` of the ``total_inputs`` tried, all of the domain unless ``is_drawn``, are answered as the reference
    function answers them; ``least_margin`` (logits) is the least, over all decisions, of the right logit minus the
    best other: negative where an answer is wrong.
    """

    path: Path
    exact_inputs: int
    total_inputs: int
    least_margin: float
    steps: int
    seconds: float
    is_drawn: bool = False


#: Either kind of network that is trained here; both map tokens to logits.
Trained = SmallGPT2 | AttentionOnly


def train_task(
    name: str, out_dir: Path, *, seed: int = 0, progress: Progress, force: bool = False, n_steps: int | None = None
) -> TrainedCheckpoint:
    """Train the network of one task and write it as a checkpoint folder with its spec.

    Nothing is written until training ends. A network that did not become exact is written too, and the counts say so.
    ``n_steps`` bounds the steps instead of the task's recipe.
    Raises:  UsageError for an unknown task, a negative seed or no steps; OutputError if ``out_dir`` cannot be written.
    Cost:    2 to 65 s of one core for the tasks here (measured); the steps are bounded, the seconds are not.
    """
    record = task(name)
    if not 0 <= seed < 2**63:
        raise UsageError(f"the seed is {seed}, expected an integer from 0 to 2^63 - 1")
    if n_steps is not None:
        if n_steps < 1:
            raise UsageError(f"training for {n_steps} steps was asked, expected at least 1")
        record = replace(record, recipe=replace(record.recipe, n_steps=n_steps))
    check_destination(out_dir, force=force)
    started = time.monotonic()
    domain = examples(record)
    with _reproducible():
        network, n_done, margins = _train(record, domain, seed, progress)
    weights = {key: tensor.detach().numpy() for key, tensor in exported_weights(network).items()}
    write_checkpoint(out_dir, record, weights, force=force)
    return TrainedCheckpoint(
        path=out_dir,
        exact_inputs=int((margins > 0).sum()),
        total_inputs=len(domain),
        least_margin=float(margins.min()),
        steps=n_done,
        seconds=time.monotonic() - started,
        is_drawn=record.draw is not None,
    )


def exported_weights(network: Trained) -> dict[str, torch.Tensor]:
    """Return the weights under the names of their format (GPT-2's embeddings are bare parameters here)."""
    if isinstance(network, AttentionOnly):
        return network.neutral_weights()
    return {f"{key}.weight" if key in ("wte", "wpe") else key: value for key, value in network.state_dict().items()}


def least_margins(network: Trained, domain: Examples) -> NDArray[np.float64]:
    """Return for each input the least, over its predictions, of the right logit minus the best other.

    Shape:   [input]. Positive: every prediction is right, so the answer is; zero is a tie, and not right.
    """
    margins = np.empty(len(domain), dtype=np.float64)
    with torch.no_grad():
        for start in range(0, len(domain), EVALUATION_BATCH):
            rows = slice(start, start + EVALUATION_BATCH)
            targets = torch.from_numpy(domain.targets[rows])
            logits = network(torch.from_numpy(domain.tokens[rows]))
            read = targets != NOT_READ
            wanted = targets.clamp(min=0).unsqueeze(-1)
            right = logits.gather(-1, wanted).squeeze(-1)
            others = logits.scatter(-1, wanted, -math.inf).amax(dim=-1)
            margin = torch.where(read, right - others, torch.inf)
            margins[rows] = margin.amin(dim=-1).numpy()
    return margins


def _train(
    record: TaskRecord, domain: Examples, seed: int, progress: Progress
) -> tuple[Trained, int, NDArray[np.float64]]:
    recipe = record.recipe
    kind = AttentionOnly if record.shape.is_attention_only else SmallGPT2
    network: Trained = kind(record.shape, len(record.vocab), record.n_positions, seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.rate, betas=(0.9, 0.99), weight_decay=0.01)
    random = np.random.default_rng(seed)
    seen = _seen(record, domain)
    cumulative = _draw_cumulative(domain, seen)
    thin = np.empty(0, dtype=np.int64)
    progress.phase(f"train {record.name}")
    for step in range(recipe.n_steps):
        optimizer.param_groups[0]["lr"] = recipe.rate * _rate_share(step, recipe.n_steps)
        n_thin = int(recipe.n_batch * THIN_SHARE) if len(thin) else 0
        drawn = np.searchsorted(cumulative, random.random(recipe.n_batch - n_thin), side="right")
        rows = np.concatenate([drawn, random.choice(thin, n_thin)]) if n_thin else drawn
        logits = network(torch.from_numpy(domain.tokens[rows]))
        loss = functional.cross_entropy(
            logits.flatten(0, 1), torch.from_numpy(domain.targets[rows]).flatten(), ignore_index=NOT_READ
        )
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        progress.advance(step + 1, recipe.n_steps, "steps")
        if (step + 1) % STEPS_PER_EVALUATION == 0:
            margins = least_margins(network, domain)
            if margins[seen].min() >= recipe.target_margin:
                return network, step + 1, margins
            thin = seen[_thinnest(margins[seen], recipe.n_batch)]
    return network, recipe.n_steps, least_margins(network, domain)


def _seen(record: TaskRecord, domain: Examples) -> NDArray[np.int64]:
    """Return the rows that training shows, in order."""
    if record.draw is not None:
        return np.arange(len(domain))
    return np.flatnonzero([record.seen(tokens) for tokens in inputs(record)])


def _draw_cumulative(domain: Examples, seen: NDArray[np.int64]) -> NDArray[np.float64]:
    # The square root keeps the few short inputs in sight of training without starving the many long ones.
    sizes = np.bincount(domain.lengths)
    weights = np.zeros(len(domain))
    weights[seen] = 1.0 / np.sqrt(sizes[domain.lengths[seen]])
    cumulative: NDArray[np.float64] = np.cumsum(weights / weights.sum())
    cumulative[-1] = 1.0
    return cumulative


def _thinnest(margins: NDArray[np.float64], n_batch: int) -> NDArray[np.int64]:
    n = min(len(margins), max(n_batch, len(margins) // 50))
    order = np.argsort(margins, kind="stable")
    return order[:n].astype(np.int64)


def _rate_share(step: int, n_steps: int) -> float:
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    done = (step - WARMUP_STEPS) / max(1, n_steps - WARMUP_STEPS)
    return FINAL_RATE_SHARE + (1 - FINAL_RATE_SHARE) * 0.5 * (1 + math.cos(math.pi * done))


@contextlib.contextmanager
def _reproducible() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was_deterministic)
        torch.set_num_threads(n_threads)
