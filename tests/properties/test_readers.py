"""Readers of files that strangers may have written raise our errors, in a sentence, and no others."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.readers import Reader, mutant, readers

NAMES = ["manifest", "lease", "pipeline", "mlflow.yml", "suite", "verdicts", "journal"]
NAMES += ["model.json", "tensors.safetensors"]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Reader]]:
    """Return all readers, each with a good file of its own."""
    logging.disable()
    with readers(tmp_path_factory.mktemp("readers")) as found:
        yield found
    logging.disable(logging.NOTSET)


def test_every_reader_reads_a_good_file(known: dict[str, Reader]) -> None:
    assert sorted(known) == sorted(NAMES)
    assert all(reader.survives(reader.good) for reader in known.values())


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 2**32))
def test_a_mutant_is_read_or_refused_in_a_sentence(known: dict[str, Reader], name: str, seed: int) -> None:
    known[name].survives(mutant(known[name], seed))


@pytest.mark.parametrize("name", NAMES)
@given(data=st.binary(max_size=200))
def test_anything_is_read_or_refused_in_a_sentence(known: dict[str, Reader], name: str, data: bytes) -> None:
    known[name].survives(data)
