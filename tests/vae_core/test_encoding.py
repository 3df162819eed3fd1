"""Tables to tensors."""

from collections.abc import Callable

import pyarrow as pa
import pytest
import torch

from vae_core import ColumnError, DataError, TableSchema
from vae_core.encoding import TableEncoder


def fitted(table: pa.Table) -> TableEncoder:
    return TableEncoder(TableSchema.infer(table)).fit(table)


def test_shapes_follow_the_columns(table: pa.Table) -> None:
    """Numbers, bits, presence and codes have a row a row and a place a part."""
    batch = fitted(table).encode(table.slice(0, 7))

    assert batch.numbers.shape == (7, 3 + 5)  # three numbers; hours, weekdays, distance
    assert batch.bits.shape == (7, 1)
    assert batch.present.shape == (7, 5)
    assert batch.codes.shape == (7, 1)


def test_encoding_does_not_depend_on_the_order_of_training_rows(
    table_of: Callable[..., pa.Table],
) -> None:
    """Fitting on a table sorted by time or backwards encodes rows alike."""
    ordered = table_of(400).sort_by("at")
    batch = fitted(ordered).encode(ordered)

    backwards = fitted(ordered.sort_by([("at", "descending")])).encode(ordered)

    torch.testing.assert_close(backwards.numbers, batch.numbers)
    assert torch.equal(backwards.codes, batch.codes)


def test_columns_are_found_by_name(table: pa.Table) -> None:
    """Order and additional columns of a batch do not matter."""
    encoder, names = fitted(table), table.schema.names
    turned = table.select(names[::-1]).append_column("more", pa.nulls(table.num_rows))

    batch = encoder.encode(turned)

    assert torch.equal(batch.numbers, encoder.encode(table).numbers)


def test_layout_marks_what_rows_cannot_teach(table: pa.Table) -> None:
    """Columns without a null in training get a fixed, small probability of one; the others learn it."""
    layout = fitted(table).layout

    assert [share is None for share in layout.null_priors] == [False, False, False, False, True]
    assert layout.null_priors[0] == pytest.approx(0.5 / 1501)
    assert sorted(layout.order) == list(range(6))


def test_a_missing_column_is_named(table: pa.Table) -> None:
    """A batch without a learned column is refused by name."""
    with pytest.raises(ColumnError, match="'double' was learned"):
        fitted(table).encode(table.drop_columns(["double"]))


@pytest.mark.parametrize(
    ("name", "values"), [("x", ["much"]), ("shop", [[1]]), ("open", ["yes"]), ("at", [1.5])]
)
def test_a_column_of_another_type_is_named(table: pa.Table, name: str, values: list[object]) -> None:
    """A column that cannot be read as it was learned is refused by name."""
    row = table.slice(0, 1)
    place = row.schema.get_field_index(name)

    with pytest.raises(ColumnError, match=f"column '{name}' was learned as"):
        fitted(table).encode(row.set_column(place, name, pa.array(values)))


def test_nulls_without_a_type_are_nulls(table: pa.Table) -> None:
    """A column in which all is missing may have lost its type; it still is a column of nulls."""
    untyped = pa.table({name: pa.nulls(2) for name in table.schema.names})

    batch = fitted(table).encode(untyped)

    assert batch.present.sum() == 0
    assert batch.codes.tolist() == [[0], [0]]


def test_nothing_to_model_is_refused() -> None:
    """A table of keys and lists only cannot be learned from."""
    with pytest.raises(DataError, match="at least one numeric, categorical"):
        fitted(pa.table({"list": [[1]]}))


def test_json_keeps_the_encoder(table: pa.Table) -> None:
    """An encoder read from its JSON encodes as before."""
    encoder = fitted(table)

    again = TableEncoder.from_json(encoder.schema, encoder.to_json())

    assert torch.equal(again.encode(table).numbers, encoder.encode(table).numbers)
    assert again.layout == encoder.layout
