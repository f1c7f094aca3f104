"""A simulated AI4Arctic dataset: raw and ready-to-train files of exactly the real ones' form, with known truth.

    <scene>/SIMULATED_<raw name>.nc         40 m, polygons and their codes
    <scene>/SIMULATED_<scene>_prep.nc       80 m, standard scores and classes, made from the raw file
    <scene>/SIMULATED_<scene>_truth.nc      the true surface
    <scene>/scene.json                      how they were made
    SIMULATED.txt

Test scenes have their charts in ``SIMULATED_<scene>_prep_reference.nc``. Scenes have names, times and ice services of
scenes of the official lists, so that the official split can be used. No real file has such a name.
"""

from __future__ import annotations

from pathlib import Path

from floemap.datasets.ai4arctic.scenes import Ai4Scene, official
from floemap.datasets.extremeearth.find import SIMULATED_MARK
from floemap.errors import ConfigError
from floemap.progress import Progress, part_of, silent
from floemap.results.stage import make_folder, os_errors, refuse_within, write_whole
from floemap.simulation.ai4arctic_scene import (
    FULL_PX,
    SMALLEST_PX,
    SimulatedScene,
    finished_scene,
    make_scene,
)
from floemap.version import __version__

_NOTICE = f"""Everything below this folder was simulated by floemap {__version__}. It has the form of the AI4Arctic
dataset and its scenes' names and times, and shows nothing real: it is no evidence about ice anywhere.
"""
MOST_SCENES = 532


def make_ai4arctic(
    out: str | Path,
    scenes: int = 10,
    *,
    size: int = 400,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = silent,
) -> tuple[SimulatedScene, ...]:
    """Make scenes in the form of the AI4Arctic dataset. Finished scenes are skipped.

    Parameters
    ----------
    out
        Folder of the dataset.
    scenes
        Number of scenes, 1 to 532. A fifth of them, rounded up, are test scenes, if there are three or more.
    size
        Samples of the ready-to-train files: 5213 is the size of real ones, with pixels of 80 m. Smaller scenes have
        larger pixels and cover the same ground.
    seed
        Seed of ice, speckle and noise.
    overwrite
        Make finished scenes again.
    progress
        Progress callback, called as progress(done, total, message).

    Raises
    ------
    ConfigError
        If the number of scenes, the size or the seed is out of range.
    OutputError
        If the files cannot be written, or would replace something else.
    """
    if not 1 <= scenes <= MOST_SCENES:
        raise ConfigError(f"the number of scenes is {scenes}.", hint=f"Give 1 to {MOST_SCENES}.")
    if not SMALLEST_PX <= size <= FULL_PX:
        raise ConfigError(f"the size is {size}.", hint=f"Give {SMALLEST_PX} to {FULL_PX} samples.")
    if seed < 0:
        raise ConfigError(f"the seed is {seed}.", hint="It must be a whole number from 0.")
    out = Path(out)
    refuse_within(out, into=True)
    with os_errors(out):
        make_folder(out)
    write_whole(out / SIMULATED_MARK, _NOTICE.encode())
    made = []
    for i, (scene, test) in enumerate(chosen := choose(scenes)):
        one = SimulatedScene(scene, out / scene.name, test)
        finished = None if overwrite else finished_scene(one, size, seed)
        if finished is None:
            make_scene(one, size, seed, progress=part_of(progress, i, len(chosen), scene.name))
        made.append(finished or one)
    progress(1, 1, "done")
    return tuple(made)


def choose(scenes: int) -> tuple[tuple[Ai4Scene, bool], ...]:
    """Return scenes of the official lists, spread over the months, and whether they are test scenes."""
    tests = min(-(-scenes // 5), 20) if scenes >= 3 else 0
    lists = official()
    chosen = [(s, False) for s in _spread(lists["train"], min(scenes - tests, len(lists["train"])))]
    return (*chosen, *((s, True) for s in _spread(lists["test"], scenes - len(chosen))))


def _spread(scenes: tuple[Ai4Scene, ...], number: int) -> list[Ai4Scene]:
    by_month = sorted(scenes, key=lambda s: (s.start.month, s.service, s.name))
    return [by_month[(2 * i + 1) * len(by_month) // (2 * number)] for i in range(number)]
