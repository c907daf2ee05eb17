"""Pickles read as data: the opcodes that torch and plain values need, on a machine that can call nothing.

A name in the pickle becomes a ``Global``, a call becomes a ``Made`` that remembers what would have been called, a
dict becomes ``Pairs``. No name is ever looked up, no key is hashed, and the work is bounded by the number of opcodes.
It refuses to know torch.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, final

#: More opcodes than this take over a second; a checkpoint with 50000 losses in it has 57000.
LARGEST_COUNT = 1 << 19
_LONGEST_NAME, _LONGEST_INTEGER = 256, 64
_OLDEST, _NEWEST = 2, 5


class PickleDamage(ValueError):
    """A pickle that is cut, malformed, or uses opcodes that no file of weights needs; the text says where."""


@dataclass(frozen=True, slots=True)
class Global:
    """A name that loading would import."""

    module: str
    attribute: str

    def __str__(self) -> str:
        return f"{self.module}.{self.attribute}"


@dataclass(slots=True, eq=False)
class Pairs:
    """A dict as it was written: keys and values in order, a repeated key kept twice."""

    items: list[tuple[Any, Any]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Made:
    """What a call would have returned: its target and arguments. ``is_object`` where a class makes an instance."""

    target: Any
    arguments: Any
    is_object: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Persistent:
    """A reference to something outside the pickle: torch's storages."""

    reference: Any


@dataclass(frozen=True, slots=True)
class Unpickled:
    """A pickle's value, everything it would have called in order of first use, and the byte after its end.

    ``references`` are those to things outside the pickle, in order.
    """

    value: Any
    calls: tuple[str, ...]
    references: tuple[Persistent, ...]
    end: int


def unpickle(data: bytes, start: int = 0) -> Unpickled:
    """Read one pickle from ``start`` on, executing nothing.

    Raises:  PickleDamage with the byte it happened at.
    Cost:    O(bytes), at most ``LARGEST_COUNT`` opcodes.
    """
    machine = _Machine(data, start)
    try:
        value = machine.run()
    except (IndexError, struct.error, UnicodeError, TypeError, KeyError) as error:
        raise PickleDamage(f"byte {machine.at} of its pickle makes no sense ({type(error).__name__})") from error
    return Unpickled(value, tuple(machine.calls), tuple(machine.references), machine.at)


_MARK = object()
_ORDERED = {"collections.OrderedDict", "collections.defaultdict", "collections.Counter"}
_SETS = {"__builtin__.set", "builtins.set", "builtins.frozenset", "__builtin__.frozenset"}


@final
class _Machine:
    """The pickle machine: a stack, a memo, and a position in the bytes."""

    def __init__(self, data: bytes, start: int) -> None:
        self.data = data
        self.at = start
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.calls: dict[str, None] = {}
        self.references: list[Persistent] = []
        self.left = LARGEST_COUNT

    def run(self) -> Any:
        """Execute opcodes until STOP and return the value on top."""
        data, actions = self.data, _ACTIONS
        while True:
            self.spend(1)
            code = data[self.at]
            self.at += 1
            if code == 0x2E:  # STOP
                return self.pop()
            action = actions.get(code)
            if action is None:
                raise PickleDamage(f"byte {self.at - 1} of its pickle is opcode {bytes([code])!r}, which none needs")
            action(self)

    def spend(self, count: int) -> None:
        """Count work: opcodes, and values that are copied, which memo references could repeat without end."""
        self.left -= count
        if self.left < 0:
            raise PickleDamage(f"its pickle has more than {LARGEST_COUNT} opcodes")

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        piece = self.data[self.at : self.at + count]
        if len(piece) != count:
            raise PickleDamage("its pickle is cut short")
        self.at += count
        return piece

    def number(self, count: int) -> int:
        """Return an unsigned little-endian number of so many bytes."""
        return int.from_bytes(self.take(count), "little")

    def line(self) -> str:
        """Return a name that ends with a newline."""
        end = self.data.find(b"\n", self.at, self.at + _LONGEST_NAME + 1)
        if end < 0:
            raise PickleDamage(f"byte {self.at} of its pickle starts a name without end")
        text = self.data[self.at : end].decode("ascii")
        self.at = end + 1
        return text.removesuffix("\r")

    def pop(self) -> Any:
        """Take the value on top; a mark is none."""
        value = self.stack.pop()
        if value is _MARK:
            raise PickleDamage(f"byte {self.at} of its pickle needs a value and finds a mark")
        return value

    def to_mark(self) -> list[Any]:
        """Take every value above the topmost mark, and the mark."""
        stack = self.stack
        for at in range(len(stack) - 1, -1, -1):
            if stack[at] is _MARK:
                values = stack[at + 1 :]
                del stack[at:]
                return values
        raise PickleDamage(f"byte {self.at} of its pickle needs a mark and finds none")

    def top(self, count: int) -> None:
        """Replace the topmost values by a tuple of them."""
        values = [self.pop() for _ in range(count)][::-1]
        self.stack.append(tuple(values))

    def integer(self, n_bytes: int) -> None:
        """Push a signed little-endian number."""
        if n_bytes > _LONGEST_INTEGER:
            raise PickleDamage(f"byte {self.at} of its pickle starts an integer of {n_bytes} bytes")
        self.stack.append(int.from_bytes(self.take(n_bytes), "little", signed=True))

    def named(self, module: str, attribute: str) -> None:
        """Push a name, plain enough to be shown."""
        if not module.replace("_", "a").replace(".", "a").isalnum() or not attribute.replace("_", "a").isalnum():
            attribute = repr(attribute)[:80]
        self.stack.append(Global(module[:80], attribute[:80]))

    def call(self, target: Any, arguments: Any, is_object: bool) -> None:
        """Push what a call would return: mappings and sets as data, everything else as a note of the call."""
        name = str(target) if isinstance(target, Global) else "something that is no name"
        first = arguments[0] if isinstance(arguments, tuple) and arguments else None
        if name in _ORDERED | _SETS and isinstance(first, (list, tuple)):
            self.spend(len(first))
        if name in _ORDERED:
            self.stack.append(_mapping(first))
        elif name in _SETS:
            self.stack.append(list(first) if isinstance(first, (list, tuple)) else [])
        else:
            self.calls.setdefault(name)
            self.stack.append(Made(target, arguments, is_object))

    def set_items(self, values: list[Any]) -> None:
        """Add keys and values to the mapping on top; to a foreign object they are lost with it."""
        target = self.stack[-1]
        if len(values) % 2 or not isinstance(target, (Pairs, Made)):
            raise PickleDamage(f"byte {self.at} of its pickle sets items of what has none")
        if isinstance(target, Pairs):
            target.items.extend(zip(values[::2], values[1::2], strict=True))

    def append(self, values: list[Any]) -> None:
        """Add values to the list on top."""
        target = self.stack[-1]
        if not isinstance(target, (list, Made)):
            raise PickleDamage(f"byte {self.at} of its pickle appends to what is no list")
        if isinstance(target, list):
            target.extend(values)

    def build(self) -> None:
        """Drop the state of an object; only attributes of mappings are set that way in a file of weights."""
        self.pop()
        if not isinstance(self.stack[-1], (Pairs, Made)):
            raise PickleDamage(f"byte {self.at} of its pickle gives state to what has none")


def _mapping(content: Any) -> Pairs:
    """Return the mapping that ``OrderedDict(content)`` would be; content that is no pairs is passed over."""
    if isinstance(content, Pairs):
        return content
    if not isinstance(content, (list, tuple)):
        return Pairs()
    return Pairs([(p[0], p[1]) for p in content if isinstance(p, (list, tuple)) and len(p) == 2])


def _protocol(m: _Machine) -> None:
    version = m.number(1)
    if not _OLDEST <= version <= _NEWEST:
        raise PickleDamage(f"its pickle is of protocol {version}, expected {_OLDEST} to {_NEWEST}")


def _reduce(m: _Machine) -> None:
    arguments, target = m.pop(), m.pop()
    m.call(target, arguments, is_object=False)


def _new_object(m: _Machine) -> None:
    arguments, target = m.pop(), m.pop()
    m.call(target, arguments, is_object=True)


def _new_object_by_name(m: _Machine) -> None:
    m.pop()
    _new_object(m)


def _persistent(m: _Machine) -> None:
    m.references.append(Persistent(m.pop()))
    m.stack.append(m.references[-1])


def _stack_global(m: _Machine) -> None:
    attribute, module = m.pop(), m.pop()
    if not isinstance(attribute, str) or not isinstance(module, str):
        raise PickleDamage(f"byte {m.at} of its pickle names something that is no text")
    m.named(module, attribute)


def _set_item(m: _Machine) -> None:
    value, key = m.pop(), m.pop()
    m.set_items([key, value])


def _append(m: _Machine) -> None:
    m.append([m.pop()])


def _memoize(m: _Machine) -> None:
    m.memo[len(m.memo)] = m.stack[-1]


def _put(n_bytes: int) -> Callable[[_Machine], None]:
    def action(m: _Machine) -> None:
        m.memo[m.number(n_bytes)] = m.stack[-1]

    return action


def _get(n_bytes: int) -> Callable[[_Machine], None]:
    return lambda m: m.stack.append(m.memo[m.number(n_bytes)])


def _text(n_bytes: int, encoding: str) -> Callable[[_Machine], None]:
    return lambda m: m.stack.append(m.take(m.number(n_bytes)).decode(encoding, "surrogatepass"))


def _bytes(n_bytes: int) -> Callable[[_Machine], None]:
    return lambda m: m.stack.append(m.take(m.number(n_bytes)))


def _push(make: Callable[[], Any]) -> Callable[[_Machine], None]:
    return lambda m: m.stack.append(make())


_ACTIONS: dict[int, Callable[[_Machine], Any]] = {
    0x80: _protocol, 0x95: lambda m: m.take(8), ord("("): _push(lambda: _MARK), ord("0"): _Machine.pop,
    ord("1"): _Machine.to_mark, ord("2"): lambda m: m.stack.append(m.stack[-1]),
    ord("N"): _push(lambda: None), 0x88: _push(lambda: True), 0x89: _push(lambda: False),
    ord("J"): lambda m: m.integer(4), ord("K"): lambda m: m.stack.append(m.number(1)),
    ord("M"): lambda m: m.stack.append(m.number(2)), 0x8A: lambda m: m.integer(m.number(1)),
    0x8B: lambda m: m.integer(m.number(4)), ord("G"): lambda m: m.stack.append(struct.unpack(">d", m.take(8))[0]),
    ord("U"): _text(1, "latin-1"), ord("T"): _text(4, "latin-1"), ord("X"): _text(4, "utf-8"),
    0x8C: _text(1, "utf-8"), 0x8D: _text(8, "utf-8"), ord("B"): _bytes(4), ord("C"): _bytes(1), 0x8E: _bytes(8),
    ord("]"): _push(list), ord("a"): _append, ord("e"): lambda m: m.append(m.to_mark()),
    ord("l"): lambda m: m.stack.append(m.to_mark()), 0x8F: _push(list), 0x90: lambda m: m.append(m.to_mark()),
    0x91: lambda m: m.stack.append(m.to_mark()), ord(")"): _push(tuple), 0x85: lambda m: m.top(1),
    0x86: lambda m: m.top(2), 0x87: lambda m: m.top(3), ord("t"): lambda m: m.stack.append(tuple(m.to_mark())),
    ord("}"): _push(Pairs), ord("s"): _set_item, ord("u"): lambda m: m.set_items(m.to_mark()),
    0x94: _memoize, ord("q"): _put(1), ord("r"): _put(4), ord("h"): _get(1), ord("j"): _get(4),
    ord("c"): lambda m: m.named(m.line(), m.line()), 0x93: _stack_global, ord("R"): _reduce, 0x81: _new_object,
    0x92: _new_object_by_name, ord("b"): _Machine.build, ord("Q"): _persistent,
}  # fmt: skip
