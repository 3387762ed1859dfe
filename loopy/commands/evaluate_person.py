"""`loopy evaluate person`: a model of one person on held-out sentences of that person."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from loopy.devices import Precision, dtype_of
from loopy.diffusion.options import SamplingOptions, named_with
from loopy.drafts import folder_of_results, writing
from loopy.evaluation.person.films import (
    Judge,
    held_out_sentences,
    in_a_row,
    measure_sentences,
)
from loopy.evaluation.person.recognition import DlibFaces
from loopy.evaluation.person.rows import person_results, person_sheet, table
from loopy.evaluation.toon.thresholds import as_json
from loopy.faces.mesh import FaceMesh
from loopy.faces.networks import models_folder
from loopy.pipeline import LoopyPipeline
from loopy.typed_values import write_record


def evaluate_person(
    benchmark: Literal["person"],
    *,
    model: str,
    store: Path,
    out: Path,
    face: Path | None = None,
    sentences: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    dtype: Precision = "float32",
    sampling: SamplingOptions = SamplingOptions(),  # noqa: B008 (frozen)
) -> None:
    """Measures a model of one person on the held-out sentences of its store.

    Needs `loopy faces install`, and the videos where they were preprocessed.

    Args:
        benchmark: The word person.
        model: A model folder.
        store: The store it was trained on; its validation split is measured.
        out: A folder for report.json, sheet.png (truth over made, worst sentences first) and a
            video of each sentence, truth on the left.
        face: For identity: dlib_face_recognition_resnet_model_v1.dat (pip install dlib-bin; the
            package face_recognition_models has the file).
        sentences: So many of the held-out ones; all if not given.
        seed: Of the model's noise and of the intervals.
        device: Where the model computes, for example cpu or cuda.
        dtype: Precision of the networks that denoise.
        sampling: What to sample otherwise than the model itself says.

    Raises:
        LoopyError: No such model or store, or the folder cannot be written.
    """
    folder_of_results(out)
    judge = Judge(FaceMesh(models_folder(), iris=False), None if face is None else DlibFaces(face))
    pipe = LoopyPipeline.from_pretrained(model).to(device, dtype=dtype_of(dtype))
    pipe.settings = replace(pipe.settings, sampling=pipe.settings.sampling.altered(sampling))
    held_out = list(held_out_sentences(store, most=sentences))
    measured = measure_sentences(pipe, judge, held_out, seed=seed, videos=out)
    rows = measure_sentences(pipe, judge, in_a_row(held_out), seed=seed, videos=out)
    results = person_results(measured, rows, seed=seed)
    name = named_with(sampling, model, dtype)
    print(f"person, model {name}: {len(measured)} held-out sentences, seed {seed}\n")
    print(table(results))
    write_record(out / "report.json", {"model": name, "seed": seed, "rows": as_json(results)})
    with writing(out / "sheet.png") as hidden:
        person_sheet(measured).save(hidden)
    print(f"\nreport, sheet and videos: {out}")
