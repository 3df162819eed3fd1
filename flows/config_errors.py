"""Put what pydantic finds wrong with a file into one sentence, in the words of YAML."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from flows.errors import ConfigError
from flows.lined_yaml import LinedYaml

__all__ = ["ALIAS", "HEADER", "HIVE_KEY", "MODEL_NAME", "PIPELINE_NAME", "PREFIX", "absent_names", "checked"]

PIPELINE_NAME = "^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}$"
PREFIX = "^[A-Za-z0-9_]*$"
HIVE_KEY = "^[^=/]+$"
MODEL_NAME = r"^([^{}/:]|\{pipeline\})+$"
ALIAS = "^[A-Za-z0-9_-]+$"
HEADER = "^[A-Za-z0-9-]+$"

_PATTERNS = {
    PIPELINE_NAME: "1 to 100 letters, digits, _ - or . (which may not come first)",
    PREFIX: "letters, digits or _",
    HIVE_KEY: "the name of a folder's key, such as dt",
    MODEL_NAME: "a name without / and :, with {pipeline} where the pipeline's name belongs",
    ALIAS: "letters, digits, _ or -",
    HEADER: "the name of a header, such as X-Forwarded-User",
}

_Model = TypeVar("_Model", bound=BaseModel)


def checked(model: type[_Model], file: Path, document: LinedYaml) -> _Model:
    """Return the model of a file's content.

    Raises
    ------
    ConfigError
        One sentence about the first mistake: file, line, key, what was required, what came.
    """
    # a section without entries, as when all are commented out, means its defaults
    given = {key: value for key, value in document.data.items() if value is not None}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        problems = sorted(error.errors(), key=lambda problem: document.line(problem["loc"]))
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        line = document.line(problems[0]["loc"])
        raise ConfigError(f"{file}, line {line}: {_sentence(model, problems[0])}{more}") from None


def _sentence(model: type[BaseModel], problem: ErrorDetails) -> str:
    """Put a problem that pydantic found into words."""
    location = tuple(part for part in problem["loc"] if part not in _UNION_BRANCHES)
    key = ".".join(map(str, location)) or "the file"
    if problem["type"] == "extra_forbidden":
        return f"{key} is no known key, {_suggestion(model, location)}"
    if problem["type"] == "missing":
        return f"{key} is required, add it"
    if problem["type"] == "value_error":
        return f"{key} must be {problem['ctx']['error']}"
    return f"{key} must be {_requirement(problem)}, however {_shown(problem['input'])} came"


def _requirement(problem: ErrorDetails) -> str:
    if problem["type"] == "string_pattern_mismatch":
        return _PATTERNS[problem["ctx"]["pattern"]]
    return _PHRASES.get(problem["type"], problem["msg"].removeprefix("Input should be "))


_PHRASES = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "keys with values such as {a: 1}",
    "invalid_key": "a name in letters",
    "model_type": "keys with values such as {a: 1}",
    "string_too_short": "text of at least one letter",
    "string_type": "text (put it in quotes)",
    "tuple_type": "a list such as [a, b]",
}  # in the words of YAML, where pydantic uses Python's
_UNION_BRANCHES = {"timedelta", "literal['forever']"}  # pydantic adds the branch of a union to the location


def _suggestion(model: type[BaseModel], location: tuple[str | int, ...]) -> str:
    known = _known_keys(model, location[:-1])
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"did you mean {close[0]}?" if close else f"remove it or use one of {', '.join(known)}"


def absent_names(named: Iterable[str], there: Sequence[str]) -> str:
    """Names that are not there, each with the one that is most like it; empty where all are."""
    close = {name: difflib.get_close_matches(name, there, n=1) for name in sorted({*named} - {*there})}
    return ", ".join(f"{name} (did you mean {like[0]}?)" if like else name for name, like in close.items())


def _known_keys(model: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    for part in location:
        section = model.model_fields[str(part)].annotation
        model = section if isinstance(section, type) and issubclass(section, BaseModel) else model
    return list(model.model_fields)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
