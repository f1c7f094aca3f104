"""Scores that others have published on the official test scenes of AI4Arctic, percent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedModel:
    """A model and its scores; None where the source gives none.

    Attributes
    ----------
    title
        The model.
    sic, sod, floe
        R2 of concentration, weighted F1 of stage of development and of floe size.
    combined
        (2 SIC + 2 SOD + FLOE) / 5.
    source
        Where the scores are published.
    """

    title: str
    sic: float | None
    sod: float | None
    floe: float | None
    combined: float | None
    source: str


PUBLISHED = (
    PublishedModel(
        "DeepLab with position encoding",
        None,
        89.35,
        None,
        None,
        "DOI 10.1016/j.rsase.2025.101538",
    ),
    PublishedModel("MMSeaIce", 92.0, 88.6, None, 86.3, "The Cryosphere 18, 1621, 2024"),
    PublishedModel("IceBench U-Net", None, 84.78, None, None, "Remote Sensing 17, 1646, 2025"),
)
