"""Regular languages over the tokens of a task: written as expressions or tables, used as promises about inputs."""

from extract.automata.dfa import Dfa, Language, LanguageMachine, table_automaton
from extract.automata.expressions import regular_expression

__all__ = ["Dfa", "Language", "LanguageMachine", "regular_expression", "table_automaton"]
