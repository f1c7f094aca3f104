"""Worker process for one cell of a comparison: ``python -m floemap.study.worker FOLDER CELL [--overwrite]``."""

from __future__ import annotations

import logging
import sys

from floemap.errors import FloemapError
from floemap.stopping import TRY_AGAIN, Stopped, stopped_by_signals
from floemap.study.processes import end_with_parent, tell_parent
from floemap.study.spread import run_cell

if __name__ == "__main__":
    end_with_parent()
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("floemap").setLevel(logging.INFO)
    try:
        with stopped_by_signals():
            run_cell(sys.argv[1], sys.argv[2], overwrite=sys.argv[3:] == ["--overwrite"], progress=tell_parent())
    except FloemapError as e:
        sys.exit(str(e).replace("\n", " "))
    except Stopped:
        sys.exit(TRY_AGAIN)
