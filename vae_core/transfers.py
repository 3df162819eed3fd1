"""Encoded rows on their way to a device: blocks of one size, copied while the block before is computed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from vae_core.encoding import EncodedBatch
from vae_core.slabs import BLOCK

__all__ = ["device_blocks", "padded"]

LARGE_BLOCK = 32_768  # rows; fills a device, while activations of eight members stay below 3 GB


def padded(rows: EncodedBatch, size: int) -> Iterator[tuple[EncodedBatch, int]]:
    """Blocks of ``size`` rows, at least one, zeros behind the last row, and how many of its rows are real."""
    for start in range(0, max(len(rows), 1), size):
        block = rows.take(slice(start, start + size))
        yield block.each(partial(_longer, rows=size)), len(block)


def _longer(part: Tensor, rows: int) -> Tensor:
    """A tensor with zeros behind its last row; parts without columns, too."""
    return torch.cat([part, part.new_zeros(rows - len(part), *part.shape[1:])])


def device_blocks(rows: EncodedBatch, device: torch.device) -> Iterator[tuple[EncodedBatch, int]]:
    """Blocks on ``device``: large ones, but for rows that a small one holds."""
    blocks = padded(rows, BLOCK if len(rows) <= BLOCK else LARGE_BLOCK)
    if device.type == "cuda":
        yield from _copied_ahead(blocks, device)
    else:
        yield from ((block.to(device), real) for block, real in blocks)


def _copied_ahead(
    blocks: Iterator[tuple[EncodedBatch, int]], device: torch.device
) -> Iterator[tuple[EncodedBatch, int]]:
    """Blocks by way of pinned memory, on a stream of their own, one ahead of what is asked for."""
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    ahead: tuple[EncodedBatch, torch.cuda.Event, int] | None = None
    for block, real in blocks:
        with torch.cuda.stream(stream):
            copied = block.each(lambda tensor: tensor.pin_memory().to(device, non_blocking=True))
            done = stream.record_event()
        if ahead:
            yield _arrived(*ahead, device)
        ahead = copied, done, real
    if ahead:
        yield _arrived(*ahead, device)


def _arrived(
    block: EncodedBatch, done: torch.cuda.Event, real: int, device: torch.device
) -> tuple[EncodedBatch, int]:
    """A block that the current stream reads once it is copied, and that is kept until it has been read."""
    current = torch.cuda.current_stream(device)
    current.wait_event(done)

    def keep(tensor: Tensor) -> Tensor:
        tensor.record_stream(current)
        return tensor

    return block.each(keep), real
