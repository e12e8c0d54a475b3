"""YAML with line numbers: plain data, the line on which each key and each item stands, and complaints that name it.

What YAML 1.1 does behind one's back is left out: ``no`` is a text (a language may have this code), ``4e-3`` is a
number, ``010`` is ten, a date is a text. A key that is given twice is an error, as are several documents in one file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml

from addends.errors import DataError, InputError

Place = tuple[str | int, ...]
"""The keys and positions that lead to a value, from the outermost on."""

_Made = TypeVar("_Made")
_PLAIN = (
    (re.compile(r"~|null|"), lambda text: None),
    (re.compile(r"true|false"), lambda text: text == "true"),
    (re.compile(r"[-+]?[0-9][0-9_]*"), lambda text: int(text.replace("_", ""))),
    (re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?"), float),
)
_KNOWN = tuple(f"tag:yaml.org,2002:{tag}" for tag in ("str", "int", "float", "bool", "null", "timestamp", "value"))


def read_yaml(path: Path, remedy: str) -> tuple[Any, dict[Place, int]]:
    """The data of a file, and the line of every place in it: {("blocks", "a", "seeds", 0): 12}.

    Parameters
    ----------
    remedy : str
        What to do about an empty file, as a sentence.

    Raises
    ------
    DataError
        If there is no such file, or it is not UTF-8.
    InputError
        If it is no YAML, empty, or names a key twice. The message names file and line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}). A YAML file is wanted there.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 ({error}). Convert the file first.") from error
    try:
        node = yaml.SafeLoader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}{line}: no YAML: {error.problem or error.context}.") from error
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise InputError(f"{path}: no YAML: {' '.join(str(error).split())}.") from error
    if node is None:
        raise InputError(f"{path} is empty. {remedy}")
    lines: dict[Place, int] = {(): 1}
    return _value(node, (), lines, path, ()), lines


def _value(node: yaml.Node, place: Place, lines: dict[Place, int], path: Path, above: tuple[int, ...]) -> Any:
    line = node.start_mark.line + 1
    lines.setdefault(place, line)
    if id(node) in above:
        raise InputError(f"{path}, line {line}: an alias (*) inside of what it stands for. Write it out.")
    above = (*above, id(node))
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*place, number), lines, path, above) for number, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key, value in node.value:
            where = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise InputError(f"{path}, line {where}: a key is a word, here it is a list or a mapping.")
            if key.value in found:
                first = lines[(*place, key.value)]
                raise InputError(
                    f"{path}, line {where}: the key {key.value!r} is given twice, first on line {first}. Keep one."
                )
            lines[(*place, key.value)] = where
            found[key.value] = _value(value, (*place, key.value), lines, path, above)
        return found
    if node.tag not in _KNOWN:
        raise InputError(f"{path}, line {line}: the tag {node.tag!r} is not known here. Write the plain value.")
    if node.style is None:  # neither quoted nor a block of text
        for pattern, made in _PLAIN:
            if pattern.fullmatch(node.value):
                try:
                    return made(node.value)
                except ValueError as error:  # Python reads no number of thousands of digits
                    raise InputError(f"{path}, line {line}: a number of {len(node.value)} digits.") from error
    return node.value


class Faults:
    """What is wrong in a file: noted as it is found, and said at once, in the order of the lines.

    >>> faults = Faults(Path("my.yaml"), {(): 1, ("blocks",): 7, ("blocks", "a"): 8, ("blocks", "a", 0): 9})
    >>> faults.add(("blocks", "a", 0), "given is 2, allowed is 1")
    >>> faults.refuse()
    Traceback (most recent call last):
    crossed.errors.InputError: my.yaml, line 9, blocks.a[0]: given is 2, allowed is 1.
    """

    def __init__(self, path: Path, lines: dict[Place, int]):
        self.path, self.lines = path, lines
        self.found: list[tuple[int, str]] = []

    def where(self, place: Place) -> tuple[int, str]:
        """Line and key of a place, both in words, as far as the place stands in the file."""
        known: Place = ()
        for part in place:
            if (*known, part) in self.lines:
                known = (*known, part)
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in known).removeprefix(".")
        return self.lines[known], f"line {self.lines[known]}" + (f", {key}" if key else "")

    def add(self, place: Place, words: str) -> None:
        line, where = self.where(place)
        self.found.append((line, f"{where}: {words}" if words.endswith("?") else f"{where}: {words.rstrip('.')}."))

    def made(self, place: Place, make: Callable[..., _Made], *arguments: Any) -> _Made | None:
        """What ``make`` gives; its complaint is noted, and None returned."""
        try:
            return make(*arguments)
        except InputError as error:
            self.add(place, str(error))
            return None

    def refuse(self) -> None:
        """Raise InputError if anything was noted."""
        lines = [words for _, words in sorted(self.found, key=lambda one: one[0])]
        if len(lines) == 1:
            raise InputError(f"{self.path}, {lines[0]}")
        if lines:
            raise InputError("\n  ".join([f"{self.path}: {len(lines)} things are wrong.", *lines]))
