"""``floemap view``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from floemap.cli.app import command, stderr, stdout
from floemap.cli.out_option import out_option


@command("view")
def view(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER", help="Folders that floemap made, or that contain such folders.")
    ],
    *,
    export: Annotated[
        Path | None,
        out_option("Write the map to this folder, for any web server, and end.", names=("--export",)),
    ] = None,
    coast: Annotated[
        Path | None,
        typer.Option("--coast", metavar="FILE", help="Land polygons to draw the coast from. (default: a coarse coast)"),
    ] = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, metavar="N", help="Port of the page; 0 takes a free one.")
    ] = 0,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            metavar="ADDRESS",
            help="Address to listen on. The default can be reached from this machine only; whoever can reach another "
            "one can read the map.",
        ),
    ] = "127.0.0.1",
    open_page: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in the browser, where there is a screen.")
    ] = True,
) -> None:
    """Show scenes, charts and comparisons on a map in the browser, without a network.

    A FOLDER is what any command made: draft charts (`floemap chart`, `archive`, `watch`), prepared products,
    predictions, labels, published charts, a comparison with all its models, or a folder with several of these. All
    results of one product are one scene: radar image, ice types, polygons with their eggs, probabilities, uncertainty,
    labels, truth, the spots to review first. Models and losses can be compared side by side and under a swipe.

    The page is served at the printed address until ctrl-C. With --export it becomes a folder that any web server can
    serve; rasters are hard links there, which take no space, where the file system allows it.

        floemap view charts

        floemap view demo/small --export map
    """
    from floemap.cli.bars import bar
    from floemap.viewer.view import make_view, serve

    made = make_view(folders, coast=coast)
    if export is not None:
        with bar("map") as progress:
            done = made.export(export, progress=progress)
        linked = f", {_size(done.linked_bytes)} of it hard links to the originals" if done.linked_bytes else ""
        stderr.print(f"{_size(done.bytes)}{linked}; {_size(done.bytes - done.linked_bytes)} written")
        stdout.print(str(done.folder))
        return

    def ready(url: str) -> None:
        stdout.print(url)
        stderr.print("Press ctrl-C to end.")
        if open_page and _has_screen():
            import threading
            import webbrowser

            # Some browsers keep this call until they end, and the page is not served before.
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    serve(made, host=host, port=port, ready=ready)


def _has_screen() -> bool:
    """Return whether a browser can open a window. On Linux without a display it would take the terminal."""
    import os
    import sys

    on_linux = sys.platform.startswith("linux")
    return sys.stdout.isatty() and (
        not on_linux or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    )


def _size(amount: int) -> str:
    return f"{amount / 1e9:.1f} GB" if amount >= 1e9 else f"{amount / 1e6:.1f} MB"
