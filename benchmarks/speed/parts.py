"""The parts of the benchmark: what each measures, and the goal of each figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.speed.data import Table
from benchmarks.speed.goals import Figure, Part
from benchmarks.speed.pairs import Contender, Rounds, interleaved, load, walled

if TYPE_CHECKING:
    from benchmarks.learning import Pair
    from benchmarks.speed.ours import Ours

__all__ = ["PARTS", "Bench"]

MIB = 2**20


@dataclass(frozen=True)
class Bench:
    """Sizes and places of one run.

    Attributes
    ----------
    rows
        Of the table.
    rounds
        How often each pair is measured.
    folder
        Where the table, the models and what is written while measuring lie.
    shards
        Files of the table that each engine is given.
    sampled
        Rows to fit on, and for peers that take 10 µs a row and more.
    group
        Rows of one row group that is read whole.
    texts
        Rows with a text of 8,000 characters.
    """

    rows: int
    rounds: int
    folder: Path
    shards: int = 40
    sampled: int = 20_000
    group: int = 2_000_000
    texts: int = 100_000

    @cached_property
    def table(self) -> Table:
        """The table; its files are written when they are first asked for."""
        return Table(self.folder / f"table-{self.rows}", self.rows)

    @property
    def sample(self) -> Path:
        """A short file: to fit on, to warm up, and for what is slow."""
        return self.table.slice(self.sampled)

    @property
    def scratch(self) -> Path:
        """Folder for what is written while measuring."""
        folder = self.folder / "scratch"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def files(self) -> list[Path]:
        """A file of the table for each round; short tables start over."""
        files = self.table.files()
        return [files[i % len(files)] for i in range(self.rounds)]

    def ours(self, model: str, **settings: Any) -> Ours:
        """Our stream with one of the models."""
        from benchmarks.speed.ours import NO_RULES, Ours, fitted

        detector = fitted(model, self.sample, self.folder)
        return Ours(detector, self.scratch, **{"suite": NO_RULES, **settings})


def scoring(bench: Bench) -> Part:
    """Ours over the floors: what cannot be left out."""
    part = Part()
    goals = {"single": ("score_over_floor", 1.15), "ensemble": ("score_over_floor_ensemble", 1.25)}
    rates = [["rows a CPU second", "decode", "forward", "ours"]]
    for model, (key, goal) in goals.items():
        rounds = _over_floor(bench, model)
        said = f"scoring / (decode + forward), {model}"
        part.figures.append(Figure(key, said, rounds.ratio("ours", "decode", "forward"), goal))
        rates.append([model, *(f"{rounds.rate(name):,.0f}" for name in ("decode", "forward", "ours"))])
        part.tables[f"Where the time goes, {model}"] = _profile(bench.ours(model), bench, rounds)
    part.tables["Rates"] = rates
    return part


def _over_floor(bench: Bench, model: str) -> Rounds:
    from benchmarks.speed.floors import Forward, decode

    ours = bench.ours(model)
    contenders: dict[str, Contender] = {
        "decode": decode,
        "forward": Forward(ours.detector.model_),
        "ours": ours,
    }
    return interleaved(contenders, bench.files(), bench.sample)


def _profile(ours: Ours, bench: Bench, rounds: Rounds) -> list[list[str]]:
    """Nanoseconds a row of each stage beside the floors."""
    costs = ours.pace(bench.files()[0]).nanoseconds
    floors = {"read": "decode", "encode and score": "forward"}
    below = {stage: 1e9 / rounds.rate(name) for stage, name in floors.items()}
    rows = [
        [stage, f"{cost:.0f}", f"{below[stage]:.0f}" if stage in below else ""]
        for stage, cost in costs.items()
    ]
    return [["stage", "CPU ns a row", "floor"], *rows]


def peers(bench: Bench) -> Part:
    """Others from Parquet to flagged Parquet, over ours."""
    from benchmarks.speed.floors import Forward, decode
    from benchmarks.speed.peers import PEERS, fitted_peers

    large = bench.table.slice(5 * bench.sampled)
    found = fitted_peers(bench.sample, bench.sample, large, bench.scratch / "flagged.parquet")
    explained = bench.ours("single", reasons=True)
    ours: dict[str, Contender] = {
        "ours": bench.ours("single"),
        "ours, with reasons": lambda _: explained(bench.sample),
    }
    floors: dict[str, Contender] = {
        "decode": decode,
        "forward": Forward(bench.ours("single").detector.model_),
    }
    rounds = interleaved({**ours, **found, **floors}, bench.files(), bench.sample)
    keys = ("pyod32_over_ours", "pyod8192_over_ours", "pyod_ae32_over_ours", "pyod_ae8192_over_ours")
    goals = (17.0, 6.5, None, None, None, 4.0)
    part = Part()
    for key, name, goal in zip((*keys, "forest_over_ours", "pandas_over_ours"), PEERS, goals, strict=True):
        part.figures.append(Figure(key, f"{name} / ours", rounds.ratio(name, "ours"), goal, most=False))
    part.figures.append(
        Figure("reasons_over_ours", "ours with reasons / without", rounds.ratio("ours, with reasons", "ours"))
    )
    rates = [
        [name, f"{rounds.rate(name):,.0f}", f"{rounds.ratio(name, 'decode', 'forward'):.2f}"]
        for name in (*ours, *found)
    ]
    part.tables["Parquet to flagged Parquet, rows a CPU second"] = [
        ["", "rows", "time over decode + forward"],
        *rates,
    ]
    return part


def memory(bench: Bench) -> Part:
    """Peak memory of short and long nights, and of odd files."""
    from benchmarks.speed.memory import Peak, peak

    bench.ours("single")  # fitted before
    model, files = bench.folder / "single-model", bench.table.files()

    def of(files: Sequence[Path], times: int = 1) -> Peak:
        """The middle one of three nights: which pages two workers hold at once is chance."""
        nights = [
            peak(model, files, bench.scratch, workers=2, times=times) for _ in range(min(bench.rounds, 3))
        ]
        return sorted(nights, key=lambda night: night.bytes)[len(nights) // 2]

    nights = {
        f"{bench.rows:,} rows": of(files),
        f"{10 * bench.rows:,} rows, the same files ten times": of(files, times=10),
        f"one row group of {bench.group:,} rows": of([bench.table.one_group(bench.group)]),
        f"{bench.texts:,} texts of 8,000 characters": of([bench.table.bomb(bench.texts)]),
    }
    short, long, group, text = nights.values()
    part = Part()
    part.figures = [
        Figure(
            "rss_growth_5m_50m",
            "peak memory of ten times the rows / of the rows - 1",
            long.bytes / short.bytes - 1,
            0.05,
        ),
        Figure(
            "rss_row_group_mib",
            "peak memory, one row group of 2,000,000 rows",
            group.bytes / MIB,
            1536,
            unit=" MiB",
        ),
        Figure("rss_text_mib", "peak memory, a text column of 0.8 GB", text.bytes / MIB, 1536, unit=" MiB"),
    ]
    rows = [[name, f"{one.bytes / MIB:,.0f}", f"{one.seconds:.1f}"] for name, one in nights.items()]
    part.tables["Peak memory, two workers"] = [["night", "MiB", "CPU seconds"], *rows]
    return part


def rules(bench: Bench) -> Part:
    """Sixty row rules beside the default ensemble."""
    from benchmarks.speed.rules import suite

    ruled = bench.ours("ensemble", suite=suite())
    rounds = interleaved({"with": ruled, "without": bench.ours("ensemble")}, bench.files(), bench.sample)
    share = 1 - 1 / rounds.ratio("with", "without")
    part = Part(
        [Figure("rules_share", "60 row rules, share of the CPU with the default ensemble", share, 0.2)]
    )
    part.tables["Where the time goes, ensemble and 60 rules"] = _stages(ruled, bench)
    return part


def _stages(ours: Ours, bench: Bench) -> list[list[str]]:
    costs = ours.pace(bench.files()[0]).nanoseconds
    return [["stage", "CPU ns a row"], *([stage, f"{cost:.0f}"] for stage, cost in costs.items())]


def workers(bench: Bench) -> Part:
    """Two workers over one, rows a second of wall time."""
    from flows.engines import Threads

    one, two = (bench.ours("single", engine=Threads(n)) for n in (1, 2))
    files = bench.table.files()
    night = [files[i % len(files)] for i in range(4)]
    one(*night[:1])
    ratios = [
        walled(lambda: one(*night))[1] / walled(lambda: two(*night))[1] for _ in range(min(bench.rounds, 3))
    ]
    said = f"two workers / one, rows a wall second (load {load()})"
    return Part([Figure("two_workers_speedup", said, median(ratios), 1.8, most=False)])


def engines(bench: Bench) -> Part:
    """What threads and Dask add to the work of their shards."""
    from benchmarks.speed.engines import dask_overhead, threads_overhead

    files, said = bench.table.files(), f"over the sum of {bench.shards} shards"
    single, ensemble = bench.ours("single"), bench.ours("ensemble")
    found = {
        "threads": threads_overhead(single, files, bench.shards),
        "dask": dask_overhead(ensemble, files, bench.shards, bench.folder),
        "dask_single": dask_overhead(single, files, bench.shards, bench.folder),
    }
    names = {
        "threads": "threads",
        "dask": "Dask, two processes, default ensemble",
        "dask_single": "Dask, two processes, single",
    }
    return Part(
        [
            Figure(f"engine_overhead.{key}", f"{names[key]}: time {said} - 1", share, 0.03)
            for key, share in found.items()
        ]
    )


def training(bench: Bench) -> Part:
    """Epochs over their products, jointly trained members, PyOD's epoch."""
    from benchmarks.learning import epoch_and_floor, joint_and_sequential, peer_and_ours

    def middle(pairs: Sequence[Pair]) -> float:
        return median(pair.ratio for pair in pairs)

    epoch = middle(epoch_and_floor(pairs=bench.rounds))
    joint = middle(joint_and_sequential(pairs=bench.rounds))
    peer = middle(peer_and_ours(pairs=min(bench.rounds, 3)))
    eight = middle(epoch_and_floor(pairs=bench.rounds, rows=8_192, batch=512, members=8))
    plain = middle(epoch_and_floor(pairs=bench.rounds, rows=8_192, batch=512, variances=False))
    part = Part(
        [
            Figure("train_over_gemm", "training epoch / its matrix products, batch 2048", epoch, 1.3),
            Figure(
                "joint_over_sequential", "8 members one by one / jointly, batch 512", joint, 2.5, most=False
            ),
            Figure("pyod_epoch_over_ours", "PyOD VAE epoch / ours, batch 512", peer, 3.5, most=False),
        ]
    )
    over = {
        "ours, batch 2048": epoch,
        "ours, 8 members jointly, batch 512": eight,
        "ours, 8 members one by one, batch 512": eight * joint,
        "ours without variances, batch 512": plain,
        "PyOD VAE, batch 512": plain * peer,
    }
    part.tables["Epochs over their own matrix products"] = [
        ["epoch of", "over its products"],
        *([who, f"{n:.2f}"] for who, n in over.items()),
    ]
    return part


def start(bench: Bench) -> Part:
    """From the shell to the first flagged row, and where the time goes."""
    from benchmarks.speed.start import cold_score

    cold = cold_score(bench.folder / "start")
    part = Part(
        [
            Figure(
                "first_flag_cpu_seconds",
                "cold `vaewatch score`, CPU seconds to the first flags",
                cold.seconds,
                unit=" s",
            )
        ]
    )
    rows = [[name, f"{spent:.2f}"] for name, spent in cold.by_part.items()]
    part.tables["A cold `vaewatch score` of a small night against a running server, CPU seconds"] = [
        ["part", "s"],
        *rows,
    ]
    return part


PARTS: dict[str, Callable[[Bench], Part]] = {
    "scoring": scoring,
    "peers": peers,
    "rules": rules,
    "memory": memory,
    "workers": workers,
    "engines": engines,
    "training": training,
    "start": start,
}
