"""``floemap predict``."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Literal

import typer

from floemap.cli.app import command
from floemap.cli.many import run_each
from floemap.cli.out_option import OutForEach

Engine = Annotated[Literal["torch", "openvino"], typer.Option("--engine", help="Library that runs the network.")]
Precision = Annotated[
    Literal["auto", "fp32", "bf16"],
    typer.Option("--precision", help="auto is bf16 where the processor or GPU has it."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")]


@command("predict")
def predict(
    products: Annotated[
        list[Path], typer.Argument(metavar="PRODUCT", help="Prepared products: folders, or their product.tif.")
    ],
    model: Annotated[Path, typer.Option("--model", metavar="CHECKPOINT", help="A trained model, .safetensors.")],
    out: OutForEach,
    engine: Engine = "torch",
    precision: Precision = "auto",
    device: Device = "auto",
    probabilities: Annotated[
        bool, typer.Option("--probabilities/--no-probabilities", help="Write the classes' probabilities.")
    ] = True,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Make finished predictions again; also replace others of the same name."),
    ] = False,
) -> None:
    """Predict the ice type of every pixel of prepared products.

    For each PRODUCT, DIR gets a folder of its name with:

    - classes.tif: the most probable class, in WMO colours, 255 where the product has no data (a cloud-optimised
      GeoTIFF);

    - probabilities.tif: a band for each class; prediction.json: how it was made;

    - out_of_distribution.tif: how unlike the model's training scenes each square of 16 x 16 pixels is.

    Whole scenes are predicted in tiles, with the result of one pass. A finished prediction is skipped. A product that
    cannot be predicted does not stop the others; the exit code is then 1.

        floemap predict prepared/S1A_EW_GRDM_1SDH_* --model run/model/model.safetensors --out predictions
    """
    from floemap.inference.predict.predict import predict_all

    work = functools.partial(
        predict_all,
        products,
        model,
        out,
        engine=engine,
        precision=precision,
        device=device,
        probabilities=probabilities,
        overwrite=overwrite,
    )
    run_each(products, "predicted", work)
