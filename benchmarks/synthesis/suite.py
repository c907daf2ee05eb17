"""All tasks of the benchmark in one table."""

from __future__ import annotations

from benchmarks.synthesis import tasks_counting, tasks_languages, tasks_mips, tasks_rasp
from benchmarks.synthesis.records import SynthesisTask

#: Every task, in the order in which they are printed.
TASKS: tuple[SynthesisTask, ...] = (
    *tasks_rasp.TASKS, *tasks_languages.TASKS, *tasks_counting.TASKS, *tasks_mips.TASKS,
)  # fmt: skip


def by_name(name: str) -> SynthesisTask:
    """Return a task. Raises: KeyError if there is none of this name."""
    return {task.name: task for task in TASKS}[name]
