"""YAML that remembers the line of each entry, so that an error can name it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flows.errors import ConfigError

__all__ = ["LinedYaml", "read_yaml"]

_MAX_BYTES = 1_000_000  # a file written by hand is a few kilobytes
_MAX_DEPTH = 20

Location = tuple[str | int, ...]


@dataclass(frozen=True)
class LinedYaml:
    """What a YAML file says, and where.

    Attributes
    ----------
    data
        The top-level mapping.
    lines
        Line (from 1) of each entry, by its location such as ``("training", "window")``.
    """

    data: dict[str, Any]
    lines: dict[Location, int]

    def line(self, location: Location) -> int:
        """Return the line of an entry, or of the nearest entry around it."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)


def read_yaml(path: Path) -> LinedYaml:
    """Read a YAML file whose top level is a mapping.

    Raises
    ------
    ConfigError
        When it cannot be read, is no YAML, is empty, repeats a key, or uses aliases or foreign tags.
    """
    text = _read(path)
    try:
        return _parse(path, text)
    except yaml.YAMLError as error:
        where = _mark(getattr(error, "problem_mark", None))
        raise ConfigError(f"{path}{where}: valid YAML was required, however {_reason(error)}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: plain YAML was required, however {error}; correct the file") from error


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(
                f"{path}: at most {_MAX_BYTES:,} bytes of YAML were required; is it the right file?"
            )
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path}: a readable YAML file was required, however: {error.strerror}; see the path"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: YAML in UTF-8 was required, however byte {error.start} is none"
        ) from error


def _parse(path: Path, text: str) -> LinedYaml:
    _refuse_tricks(path, text)
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(
                f"{path}: entries such as `version: 1` were required, however it holds {_kind(node)}"
            )
        lines = dict(_walk(path, node, ()))
        return LinedYaml(loader.construct_document(node), lines)
    finally:
        loader.dispose()


def _refuse_tricks(path: Path, text: str) -> None:
    """Raise on aliases and deep nesting, with which a small file makes endless work."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        where = f"{path}{_mark(event.start_mark)}"
        if depth > _MAX_DEPTH:
            raise ConfigError(
                f"{where}: at most {_MAX_DEPTH} levels of nesting were required, however more came"
            )
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(f"{where}: write out what *{event.anchor} stands for")


def _walk(path: Path, node: yaml.Node, location: Location) -> Iterator[tuple[Location, int]]:
    """Yield location and line of each entry below ``node``."""
    if isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            yield (*location, position), item.start_mark.line + 1
            yield from _walk(path, item, (*location, position))
    elif isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in seen:
                raise ConfigError(
                    f"{path}, line {line}: {name} came twice (first in line {seen[name]}), keep one"
                )
            seen[name] = line
            yield (*location, name), line
            yield from _walk(path, value, (*location, name))


def _mark(mark: Any) -> str:
    return "" if mark is None else f", line {mark.line + 1}"


def _reason(error: yaml.YAMLError) -> str:
    return " ".join(str(getattr(error, "problem", None) or error).split())


def _kind(node: yaml.Node | None) -> str:
    if node is None:
        return "nothing"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a single value"
