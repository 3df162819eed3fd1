"""Repairs: the cell whose replacement makes a row usual again."""

from itertools import islice

import numpy as np
import pyarrow as pa
import pytest

from vae_core import VAEDetector
from vae_core.repair import SUSPECTS, Repairer


@pytest.fixture
def repairer(detector: VAEDetector) -> Repairer:
    return Repairer(detector.model_, detector.encoder_, detector.usual_losses_)


def wrong(rows: pa.Table, name: str, values: list[object]) -> pa.Table:
    """Return rows with other values in one column."""
    place = rows.schema.get_field_index(name)
    return rows.set_column(place, name, pa.array(values, rows.schema.field(name).type))


def blamed(repairer: Repairer, rows: pa.Table) -> list[str]:
    """Return the first column to blame of each row."""
    first = next(repairer.repairs(repairer.encoder.encode(rows)))
    return [repairer.encoder.codecs[j].name for j in first.columns]


@pytest.mark.parametrize("factor", [-10.0, 5.0, 1000.0])
@pytest.mark.parametrize("name", ["x", "double"])
def test_the_wrong_one_of_two_numbers_is_named(
    repairer: Repairer, fresh: pa.Table, name: str, factor: float
) -> None:
    """Of two numbers that say the same, the one that contradicts the rest of the row is to blame."""
    rows = fresh.slice(0, 40)

    names = blamed(repairer, wrong(rows, name, [factor * value for value in rows[name].to_pylist()]))

    assert names.count(name) >= 38


def test_the_other_cells_are_not_to_blame_for_a_wrong_category(repairer: Repairer, fresh: pa.Table) -> None:
    """A shop that contradicts both numbers is to blame, not the numbers."""
    rows = fresh.slice(0, 40)
    other = {"north": "south", "south": "north"}

    names = blamed(repairer, wrong(rows, "shop", [other[shop] for shop in rows["shop"].to_pylist()]))

    assert names.count("shop") >= 38


def test_a_repair_expects_what_stood_there(repairer: Repairer, fresh: pa.Table) -> None:
    """What is expected of a wrong number is near the one it was, not near the wrong one."""
    rows = fresh.slice(0, 40)

    first = next(repairer.repairs(repairer.encoder.encode(wrong(rows, "x", [500.0] * 40))))

    z = first.expectation.parts("x")[:, 0]
    expected = repairer.encoder.codecs[0].decode(z[:, None])
    assert np.median(np.abs(expected - rows["x"].to_numpy())) < 1.0


def test_repairs_add_up(repairer: Repairer, fresh: pa.Table) -> None:
    """All columns are repaired in turn, each once, and then nothing is left above the usual."""
    rows = repairer.encoder.encode(wrong(fresh.slice(0, 9), "x", [500.0] * 9))

    found = list(repairer.repairs(rows))

    columns = np.stack([repair.columns for repair in found], axis=1)
    assert (np.sort(columns, axis=1) == np.arange(6)).all()
    falls = np.stack([repair.falls for repair in found], axis=1)
    np.testing.assert_allclose(falls.sum(axis=1), repairer.over(rows).sum(axis=1), rtol=1e-6, atol=1e-6)


def test_two_wrong_cells_are_found_one_after_the_other(repairer: Repairer, fresh: pa.Table) -> None:
    """The second reason is sought on the row with the first one repaired."""
    rows = wrong(wrong(fresh.slice(0, 30), "x", [500.0] * 30), "discount", [60.0] * 30)

    found = [repair.columns for repair in islice(repairer.repairs(repairer.encoder.encode(rows)), 2)]

    assert np.mean([set(pair) == {0, 5} for pair in zip(*found, strict=True)]) > 0.9


def test_a_wide_table_tries_only_suspects() -> None:
    """Of many columns those with the largest losses are tried, and the wrong one is among them."""
    random = np.random.default_rng(0)
    table = random.normal(size=(400, 3 * SUSPECTS))
    detector = VAEDetector(random_state=0, max_epochs=2, n_members=1).fit(table)
    rows = table[:5].copy()
    rows[:, 7] = 50.0

    assert {found[0].column for found in detector.explain(rows)} == {"x7"}
    assert Repairer(detector.model_, detector.encoder_, detector.usual_losses_).rows_at_once == 128


def test_a_value_never_seen_goes_before_numbers_far_out() -> None:
    """In a column that never had one, a new value is named first, however far a number lies."""
    random = np.random.default_rng(0)
    words = random.choice(["a", "b", "c"], 800)
    train = pa.table({"x": random.normal(size=800), "y": random.normal(size=800), "word": words})
    detector = VAEDetector(random_state=0, max_epochs=5).fit(train)

    (reasons,) = detector.explain(pa.table({"x": [400.0], "y": [0.0], "word": ["zebra"]}))

    assert [(reason.column, reason.kind) for reason in reasons[:2]] == [
        ("word", "unseen_category"),
        ("x", "out_of_support"),
    ]
    assert reasons[1].share > reasons[0].share > 0


def test_a_null_where_there_never_was_one_goes_before_numbers_far_out() -> None:
    """Such a null counts as a value never seen does: named first, and found at once."""
    random = np.random.default_rng(0)
    x = random.normal(size=800)
    train = pa.table({"x": x, "y": x + 0.1 * random.normal(size=800), "word": random.choice(["a", "b"], 800)})
    detector = VAEDetector(random_state=0, max_epochs=5).fit(train)
    rows = pa.table(
        {"x": [None, 0.0], "y": [400.0, 0.0], "word": ["a", None]},
        pa.schema([("x", pa.float64()), ("y", pa.float64()), ("word", pa.string())]),
    )

    first = [reasons[0] for reasons in detector.explain(rows)]

    assert [(one.column, one.kind) for one in first] == [
        ("x", "unexpected_null"),
        ("word", "unexpected_null"),
    ]
    assert (detector.predict(rows) == -1).all()


def test_a_strange_repair_pays_for_its_strangeness(repairer: Repairer, fresh: pa.Table) -> None:
    """A number put in costs ½ z² on the plain scale, far beyond where codes grow with the logarithm only."""
    place = [codec.name for codec in repairer.encoder.codecs].index("x")
    codec = repairer.encoder.codecs[place]
    far = [codec.center + z * codec.scale for z in (0.0, 2.0, 50.0)]
    rows = repairer.encoder.encode(wrong(fresh.slice(0, 3), "x", far))

    cost = repairer._strangeness(rows, np.full((3, 1), place))

    np.testing.assert_allclose(cost[:, 0], [0.0, 2.0, 1250.0], rtol=1e-3, atol=1e-6)
