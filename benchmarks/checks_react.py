"""How each physical check reacts to each fault, on simulated scenes: the table of docs/physical-checks.md.

    python benchmarks/checks_react.py [--size full] [--seed 0] [--folder DIR]

Makes the twin's January and July (or takes them from the folder, where they are finished), prepares and labels them,
takes the charts as the right maps, and prints a Markdown table of score and checks for each fault. January's scene is
cut to its south-eastern part, 60 % of rows and columns, where old ice is rare, as in the study's January scene: a
weighted F1 does notice when a quarter of the map is lost. Then scores the truth against the charts, and the charts
against the truth. SIMULATED: nothing here is evidence about real ice.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from checks_lab.grounds import twin_ground
from checks_lab.reactions import FAULTS, NO_FAULT, judge, react, reaction_table

from floemap.simulation.twin import make_twin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="small", help='"full", "small" or pixels across a scene')
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="to keep the scenes in")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = args.folder or Path(name)
        size = int(args.size) if args.size.isdigit() else args.size
        january, july = make_twin(folder / "twin", size, seed=args.seed, months=(1, 7))
        cold, warm = twin_ground(january, folder), twin_ground(july, folder)
        part = tuple(slice(int(0.4 * n), None) for n in cold.truth.shape)
        winter, summer = cold.ground.window(*part), warm.ground
        print(f"SIMULATED, size {size}, seed {args.seed}, pixels of {winter.pixel_m:g} m\n")
        rows = [
            replace(react(g, NO_FAULT), title=f"the chart itself, {name}")
            for g, name in ((winter, "January"), (summer, "July"))
        ]
        rows += [react(summer if fault.check == "season" else winter, fault) for fault in FAULTS]
        print(reaction_table(rows))
        print("\nThe truth against the chart, and the chart against the truth, which no map can better:\n")
        pairs = (winter, cold.truth[part], "January"), (summer, warm.truth, "July")
        print(
            reaction_table(
                [
                    *(judge(g, truth, f"truth against chart, {month}") for g, truth, month in pairs),
                    *(
                        judge(replace(g, reference=truth), g.reference, f"chart against truth, {month}")
                        for g, truth, month in pairs
                    ),
                ]
            )
        )


if __name__ == "__main__":
    main()
