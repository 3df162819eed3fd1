"""What a piece of code does, as a hash: comments, docstrings and layout do not count."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

__all__ = ["code_digest"]


def code_digest(files: Iterable[Path]) -> str:
    """Hash over the names and the code of Python files, as they are at the first call."""
    return _digest(tuple(sorted(files)))


@lru_cache
def _digest(files: tuple[Path, ...]) -> str:
    content = hashlib.blake2b(digest_size=8)
    for file in files:
        content.update(f"{file.name}\n{ast.dump(_without_text(file))}\n".encode())
    return content.hexdigest()


def _without_text(file: Path) -> ast.Module:
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [one for one in body if not _is_text(one)]  # type: ignore[attr-defined]
    return tree


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
