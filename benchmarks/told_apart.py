"""How often losses are told apart that are equal, and how often those that differ: the tables of docs/spread.md.

    python benchmarks/told_apart.py [--trials 1000] [--coverage]

Counts of many trainings are SIMULATED block by block: losses that are equal on average, with noise between trainings,
between blocks, and between losses from scene to scene. The report's own code makes rows and sentences of them. A
comparison errs where it tells any losses apart, in any of its 13 measures. Standard errors of what it prints are about
1 % at 1000 trials.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter
from scipy.stats import norm, studentized_range

from floemap.evaluation.checks.measures import NEAR
from floemap.evaluation.statistics.bootstrap import resample
from floemap.evaluation.statistics.spread import spread
from floemap.legend import EXTREMEEARTH
from floemap.report.findings import Finding, findings
from floemap.report.measures import Numbers, measures
from floemap.report.numbers import row_of, tell_apart

#: The first table's, without those that follow from another.
MEASURES = [m for m in measures(EXTREMEEARTH) if m.main][:13]


@dataclass(frozen=True)
class Design:
    """A comparison, and what its numbers differ by. Standard deviations are in units of the score.

    Attributes
    ----------
    losses, repeats, scenes, blocks
        How many; blocks in a scene.
    training
        Between trainings of one loss, the same on all scenes.
    unsteady
        How many times that the first loss's trainings differ.
    interaction
        Between losses, from scene to scene.
    cancels
        Whether that adds up to nothing over the scenes: losses that are equal on these scenes. Otherwise they are equal
        over all scenes there may be, and differ on these.
    block
        Between blocks.
    of_loss
        Share of the variance between blocks that is the same in all trainings of a loss.
    each_its_own
        Whether each scene is tested by a training of its own, as where each is left out in turn.
    better
        By how much the first loss's score is higher.
    """

    losses: int = 3
    repeats: int = 3
    scenes: int = 2
    blocks: int = 40
    training: float = 0.008
    unsteady: float = 1.0
    interaction: float = 0.01
    cancels: bool = True
    block: float = 0.05
    of_loss: float = 0.5
    each_its_own: bool = False
    better: float = 0.0


def counts_of(design: Design, rng: np.random.Generator) -> dict[str, list[dict[str, NDArray[np.float64]]]]:
    """Draw the counts of all trainings: by loss, repeat and scene, (blocks, measures, 2); quotients are the numbers."""
    d, m = design, len(MEASURES)
    trained = d.training * rng.standard_normal((d.losses, d.repeats, d.scenes if d.each_its_own else 1, 1, m))
    trained[0] *= d.unsteady
    suits = d.interaction * rng.standard_normal((d.losses, 1, d.scenes, 1, m))
    if d.cancels:
        suits -= suits.mean(axis=2, keepdims=True)
    ground = d.block * np.sqrt(d.of_loss) * rng.standard_normal((d.losses, 1, d.scenes, d.blocks, m))
    own = d.block * np.sqrt(1 - d.of_loss) * rng.standard_normal((d.losses, d.repeats, d.scenes, d.blocks, m))
    hard = 0.1 * rng.standard_normal((1, 1, d.scenes, d.blocks, m))  # for all losses alike
    values = trained + suits + ground + own + hard
    for i, measure in enumerate(MEASURES):
        if measure.better != NEAR:
            values[..., i] += 0.8
        elif measure.key != "seam_ratio":  # that one is right on average, this one as far off to either side
            values[..., i] += 0.1 * (-1) ** np.arange(d.losses)[:, None, None, None]
        if measure.key == "weighted_f1":
            values[0, ..., i] += d.better
    stacked = np.stack([values, np.ones_like(values)], axis=-1)
    return {
        f"loss {k}": [{f"{s:02}": stacked[k, r, s] for s in range(d.scenes)} for r in range(d.repeats)]
        for k in range(d.losses)
    }


def compared(design: Design, rng: np.random.Generator, resamples: int = 200) -> tuple[Numbers, list[Finding]]:
    """Simulate a comparison; return its rows and its sentences, as the report makes them."""
    counts = counts_of(design, rng)
    evaluated = resample(counts, n=resamples, seed=int(rng.integers(2**31))).evaluate(lambda c: c[..., 0] / c[..., 1])
    rows = [
        row_of(m, own.map(np.exp), own) if m.better == NEAR else row_of(m, own)
        for m, own in ((m, evaluated[i]) for i, m in enumerate(MEASURES))
    ]
    numbers = Numbers(tell_apart(rows), {}, {}, {}, {}, dict.fromkeys(counts, design.repeats))
    return numbers, findings(numbers, {key: key for key in counts})


class Tail:
    """`studentized_range.sf`, which takes 10 to 20 ms, interpolated where it is wanted thousands of times."""

    @staticmethod
    @functools.cache
    def _table(losses: int, degrees: float) -> PchipInterpolator:
        at = np.geomspace(0.3, 150, 22)
        return PchipInterpolator(np.log(at), np.log(np.maximum(studentized_range.sf(at, losses, degrees), 1e-12)))

    def sf(self, q: float, losses: int, degrees: float) -> float:
        """Probability that the range of as many means is larger than q."""
        return float(np.exp(self._table(losses, degrees)(np.log(np.clip(q, 0.3, 150)))))


@contextmanager
def quick_tails() -> Iterator[None]:
    """Let comparisons look the studentized range up."""
    with mock.patch("floemap.evaluation.statistics.compare.studentized_range", Tail()):
        yield


def told(design: Design, trials: int, seed: int = 0) -> tuple[float, float]:
    """Share of comparisons that tell any losses apart, and of those that find the first loss to score best."""
    rng = np.random.default_rng(seed)
    wrong = right = 0
    with quick_tails():
        for _ in range(trials):
            numbers, _ = compared(design, rng)
            score = numbers.row("weighted_f1")
            wrong += any(r.told_apart for r in numbers.rows)
            right += score is not None and score.told_apart is True and score.best == "loss 0"
    return wrong / trials, right / trials


def levels(trials: int) -> None:
    """Print how often losses are told apart that are equal."""
    print("| scenes | losses | repeats | noise of blocks: each training's own | half and half | the loss's |")
    print("| --- | --- | --- | --: | --: | --: |")
    for scenes, losses, repeats in (
        (2, 3, 3), (2, 3, 5), (1, 3, 3), (12, 3, 3), (2, 5, 3), (2, 5, 5), (12, 5, 3), (2, 2, 3), (2, 2, 2), (2, 3, 2),
    ):  # fmt: skip
        design = Design(losses, repeats, scenes, each_its_own=scenes > 2)
        n = trials if scenes < 10 else trials // 4
        each = [told(replace(design, of_loss=share), n)[0] for share in (0.0, 0.5, 1.0)]
        print(f"| {scenes} | {losses} | {repeats} | " + " | ".join(f"{100 * x:.1f} %" for x in each) + " |", flush=True)
    print("\nTwo scenes, three losses, three repeats, unless it is said otherwise:\n")
    odd = {
        "one repeat": Design(repeats=1),
        "one loss's trainings differ 3 times as much": Design(unsteady=3),
        "the same with five repeats": Design(unsteady=3, repeats=5),
        "10 blocks in a scene": Design(blocks=10),
        "equal over all scenes, not on these 2": Design(cancels=False),
        "equal over all scenes, not on this 1": Design(cancels=False, scenes=1),
        "equal over all scenes, not on these 5": Design(cancels=False, scenes=5),
        "equal over all scenes, not on these 12": Design(cancels=False, scenes=12, each_its_own=True),
    }
    for title, design in odd.items():
        n = trials if design.scenes < 5 else trials // 4
        print(f"| {title} | {100 * told(design, n)[0]:.1f} % |", flush=True)


def power(trials: int) -> None:
    """Print how often a loss that is better in the score, and in nothing else, is found to be."""
    gains = (0.01, 0.02, 0.03, 0.04, 0.06, 0.1)
    print("\n| scenes | losses | repeats | " + " | ".join(f"{g:g}" for g in gains) + " |")
    print("| --- | --- | --- |" + " --: |" * len(gains))
    for scenes, losses, repeats in ((2, 3, 3), (2, 3, 5), (2, 3, 10), (2, 2, 3), (2, 5, 3), (1, 3, 3), (12, 3, 3)):
        design = Design(losses, repeats, scenes, each_its_own=scenes > 2)
        n = trials // (4 if scenes < 10 else 10)
        found = [told(replace(design, better=gain), n)[1] for gain in gains]
        print(
            f"| {scenes} | {losses} | {repeats} | " + " | ".join(f"{100 * x:.0f} %" for x in found) + " |", flush=True
        )


def coverage(trials: int) -> None:
    """Print how often intervals of one training hold the truth, by the size of blocks and by their number."""
    truth = float(norm.cdf(0.9))
    sizes = (8, 16, 32, 48, 64, 100)
    print("\n| errors hang together over | " + " | ".join(f"blocks of {s} km" for s in sizes) + " |")
    print("| --- |" + " --: |" * len(sizes))
    rng = np.random.default_rng(0)
    for reach_km in (8, 16, 32):
        hits = dict.fromkeys(sizes, 0)
        sigma = reach_km / 4  # pixels of 2 km: the correlation of the smoothed field falls to 1/e at 2 sigma
        for trial in range(trials):
            field = gaussian_filter(rng.standard_normal((200, 200)), sigma, mode="wrap")
            right = field < 0.9 / (2 * sigma * np.sqrt(np.pi))
            for size in sizes:
                edges = np.rint(np.linspace(0, 200, max(1, round(400 / size)) + 1)).astype(int)
                sums = [
                    np.add.reduceat(np.add.reduceat(x, edges[:-1], axis=0), edges[:-1], axis=1).ravel()
                    for x in (right.astype(float), np.ones_like(right, float))
                ]
                hits[size] += _holds({"scene": np.stack(sums, axis=1)}, truth, trial)
        print(f"| {reach_km} km | " + " | ".join(f"{100 * hits[s] / trials:.0f} %" for s in sizes) + " |", flush=True)
    print("\nIndependent blocks of uneven size:\n")
    for blocks in (10, 20, 150):
        n = 0
        for trial in range(trials):
            size = rng.uniform(20, 100, blocks)
            counts = np.stack([rng.beta(6.4, 1.6, blocks) * size, size], axis=1)
            n += _holds({"scene": counts}, 0.8, trial)
        print(f"{blocks} blocks: {100 * n / trials:.0f} %", flush=True)
    print("\nScenes that are drawn, however few, where their scores differ by 0.07:\n")
    with mock.patch("floemap.evaluation.statistics.bootstrap.FEW_SCENES", 2):
        for scenes in (2, 3, 5, 8, 10, 12, 20):
            n = 0
            for trial in range(trials):
                right = {
                    str(i): np.clip(rng.normal(0.8 + 0.07 * rng.standard_normal(), 0.15, 40), 0, None)
                    for i in range(scenes)
                }
                n += _holds({name: np.stack([x, np.ones(40)], axis=1) for name, x in right.items()}, 0.8, trial)
            print(f"{scenes} scenes: {100 * n / trials:.0f} %", flush=True)


def widths() -> None:
    """Print how wide the interval is of the accuracy of a simulated chart against its truth, by the size of blocks."""
    from checks_lab.grounds import twin_ground

    from floemap.evaluation.statistics.blocks import block_confusions
    from floemap.simulation.twin import make_twin

    with tempfile.TemporaryDirectory() as name:
        (month,) = make_twin(Path(name) / "twin", "small", months=(1,))
        made = twin_ground(month, Path(name))
    print("\nThe small twin's January, chart against truth:\n")
    for block_km in (8, 16, 32, 64, 100, 133):
        counts = block_confusions(made.truth, made.ground.reference, 6, made.ground.pixel_m, 1000 * block_km)
        evaluated = resample({"it": [{"scene": counts}]}).evaluate(
            lambda c: np.trace(c, axis1=-2, axis2=-1) / c.sum(axis=(-2, -1))
        )
        found = spread(evaluated, "it")
        print(
            f"blocks of {block_km} km ({len(counts)}): {found.value:.3f}, {found.low:.3f} to {found.high:.3f}",
            flush=True,
        )


def _holds(counts: dict[str, NDArray[np.float64]], truth: float, seed: int) -> bool:
    evaluated = resample({"it": [counts]}, n=400, seed=seed).evaluate(lambda c: c[..., 0] / c[..., 1])
    found = spread(evaluated, "it")
    return found.low is not None and found.high is not None and found.low <= truth <= found.high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--coverage", action="store_true", help="of intervals instead")
    args = parser.parse_args()
    if args.coverage:
        coverage(args.trials)
        widths()
    else:
        levels(args.trials)
        power(args.trials)


if __name__ == "__main__":
    main()
