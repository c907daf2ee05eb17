"""Sets of strings as layered automata: made from promises, counted, listed, ranked and drawn from."""

from extract.input_graph.building import BothMachines, Machine, Promise
from extract.input_graph.graph import InputGraph, Letters
from extract.input_graph.strings import InputStrings

__all__ = ["BothMachines", "InputGraph", "InputStrings", "Letters", "Machine", "Promise"]
