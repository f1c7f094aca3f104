"""The models of a prediction or chart: their files and headers, loading, and the model that comes with floemap."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from floemap.bands import BandSet
from floemap.errors import ConfigError, ModelError
from floemap.layers.stored import hashes_of, scene_bands
from floemap.learning.models.checkpoint_header import (
    Calibration,
    calibration_of,
    check_bands_fit,
    find_bands,
    find_legend,
    heads_in,
    learnt_from,
    read_about,
    warn_if_simulated,
)
from floemap.legend import Legend
from floemap.progress import Progress
from floemap.results.stage import sha256

if TYPE_CHECKING:  # importing torch takes a second, and is done while the product is prepared
    from floemap.inference.predict.engines import Engine
    from floemap.inference.predict.predictors import Predictor
    from floemap.inference.predict.scene_maps import SceneMaps
    from floemap.learning.targets import Head
    from floemap.learning.whole_scene.pieces import Precision

logger = logging.getLogger(__name__)

#: Folder of the model that comes with floemap.
SHIPPED = Path(__file__).parents[2] / "models"


@dataclass(frozen=True)
class ModelFile:
    """A checkpoint, without its weights.

    Attributes
    ----------
    path
        Path of the file.
    about
        Header of the file; see :mod:`floemap.learning.models.checkpoint_header`.
    sha256
        SHA-256 of the file.
    """

    path: Path
    about: dict[str, Any]
    sha256: str

    @property
    def name(self) -> str:
        """Short unique name: the name of the file and the beginning of its hash."""
        stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", self.path.stem).strip("-_.") or "model"
        return f"{stem}-{self.sha256[:8]}"

    def warn_if_simulated(self) -> None:
        """Warn if the model was trained on simulated scenes."""
        warn_if_simulated(self.about, self.path.name)

    @property
    def legend(self) -> Legend:
        """Legend of the classes."""
        return find_legend(self.about["legend"], self.path)

    @property
    def heads(self) -> tuple[Head, ...]:
        """Heads of the model, that of classes first."""
        return heads_in(self.about, self.path)

    @property
    def bands(self) -> BandSet:
        """The bands that the model reads."""
        return find_bands(self.about, self.path)

    @property
    def resolution_m(self) -> float:
        """Pixel size of the training scenes, metres."""
        return float(self.about["resolution_m"])

    @property
    def simulated(self) -> bool:
        """Whether the model was trained on simulated scenes."""
        return bool(self.about["simulated"])

    @property
    def calibrated(self) -> bool:
        """Whether its probabilities are calibrated."""
        return "calibration" in self.about

    @property
    def learnt_from(self) -> str:
        """The kind of training scenes in words."""
        return learnt_from(self.about)

    def calibration(self, month: int | None) -> Calibration:
        """Return how logits become probabilities for a scene of a month; see
        :func:`floemap.learning.models.checkpoint_header.calibration_of`."""
        return calibration_of(self.about, self.path, month)

    def facts(self, month: int | None) -> dict[str, Any]:
        """Return the description of the model in the record of a chart of a month."""
        kept = ("model", "software", "created", "bands", "layers", "normalisation", "resolution_m", "simulated")
        facts = {"name": self.name, "file": self.path.name, "sha256": self.sha256}
        own = {k: self.about[k] for k in kept if k in self.about}
        return facts | self.calibration(month).to_json() | own

    def layers_of(self, product: Path, product_sha256: str) -> dict[str, str]:
        """Return the SHA-256 of each layer of a product that the model reads, by name; {} if it reads none.

        Raises
        ------
        ProductError, GridError
            If a layer is missing or cannot be used; see :func:`floemap.layers.stored.find_layer`.
        ModelError
            If a layer has another unit, or other gaps, than the model was trained on.
        """
        found = scene_bands(product, self.bands.names, wanted=self.bands, product_sha256=product_sha256)
        check_bands_fit(self.bands, found, self.path)
        return hashes_of(product, found)


def default_model() -> Path:
    """Return the model that comes with floemap, which was trained on simulated scenes only and is unfit for use.

    Raises
    ------
    ModelError
        If this installation has no such model.
    """
    found = sorted(SHIPPED.glob("*.safetensors"))
    if len(found) != 1:
        raise ModelError(
            f"contains {len(found)} models where exactly one should come with floemap, and no other model was given.",
            path=SHIPPED,
            hint="Give a checkpoint with --model; `floemap train` makes one.",
        )
    return found[0]


def find_models(models: Sequence[str | Path] | None) -> tuple[ModelFile, ...]:
    """Read the headers of models, by default of the model that comes with floemap.

    Raises
    ------
    ModelError
        If a model cannot be read, or several differ in classes, further heads or pixel size. They may read different
        bands.
    ConfigError
        If a model is given twice.
    """
    paths = [default_model()] if not models else [Path(m) for m in models]
    found = tuple(ModelFile(p, read_about(p), sha256(p)) for p in paths)
    first = found[0]
    keys = [c.key for c in first.legend.classes]
    for i, other in enumerate(found[1:], 1):
        for what, one, two in (
            ("classes", keys, [c.key for c in other.legend.classes]),
            ("heads", *([f"{h.name} ({h.target})" for h in m.heads[1:]] for m in (first, other))),
            ("pixel size", first.resolution_m, other.resolution_m),
        ):
            if one != two:
                raise ModelError(
                    f"differs from {first.path} in its {what}: {two}, not {one}.",
                    path=other.path,
                    hint="Models of one ensemble must be alike in these.",
                )
        if other.sha256 in {m.sha256 for m in found[:i]}:
            raise ConfigError("was given twice as a model.", path=other.path, hint="Give each model once.")
    return found


def check_computation(engine: Engine, precision: Precision, device: str) -> None:
    """Refuse an engine, precision or device that this machine does not have, before any work.

    The usual ones need no check. Then torch is not imported, which takes a second and is done beside other work.

    Raises
    ------
    ConfigError
        With what there is.
    """
    if (engine, precision, device) != ("torch", "auto", "auto"):
        from floemap.inference.predict.engines import choose_computation

        choose_computation(engine, precision, device)


class LoadedModels:
    """The models of a call, loaded once, by a thread, while the first product is prepared.

    Raises
    ------
    ConfigError
        As :func:`check_computation` does.
    """

    def __init__(self, files: tuple[ModelFile, ...], engine: Engine, precision: Precision, device: str) -> None:
        check_computation(engine, precision, device)
        self.files = files
        self.configuration = {"engine": engine, "precision": precision, "device": device}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="floemap-load")
        self._loading: Future[list[Predictor]] | None = None
        self.failed = False

    def begin(self) -> None:
        """Start loading the models, unless that has started."""
        self._loading = self._loading or self._pool.submit(self._load)

    def _load(self) -> list[Predictor]:
        from floemap.inference.predict.predictors import make_predictor  # importing torch takes a second or two

        return [make_predictor(m.path, **self.configuration) for m in self.files]  # type: ignore[arg-type]

    def predictors(self) -> list[Predictor]:
        """Return the loaded models."""
        self.begin()
        assert self._loading is not None
        try:
            return self._loading.result()
        except BaseException:
            self.failed = True
            raise

    def predict(self, product: Path, progress: Progress) -> SceneMaps:
        """Predict a prepared product; see :func:`floemap.inference.predict.predictors.predict_maps`."""
        from floemap.inference.predict.predictors import predict_maps

        return predict_maps(product, self.predictors(), progress=progress)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)
