"""One self-contained page that shows what was run and what came out of it."""

import csv
import io
import json
import math
import platform
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline_steps import artifacts
from pipeline_steps.artifacts import (
    BREAKDOWN,
    DEPTH,
    DISTANCES,
    FEATURES,
    IMAGES,
    NEGATIVES,
    SAMPLES,
    SCORES,
    TRAIN_LOG,
    Row,
    Table,
    TensorFile,
)
from pipeline_steps.cli import run_step
from pipeline_steps.config import LABELS, VARIANTS, PipelineConfig, ReportConfig
from pipeline_steps.drawing import charts, labels
from pipeline_steps.drawing.page import render
from pipeline_steps.drawing.pictures import encode, thumbnail
from pipeline_steps.errors import UserError
from pipeline_steps.report import opening, sets

CURVES = {
    "Losses": ("loss_ldm", "loss_m", "loss_p", "loss_c", "loss_prior", "loss_held_out"),
    "Gradient norms": ("gradient_norm_diffusion", "gradient_norm_perceptual", "gradient_norm_contrast"),
}
FIGURES = {
    "fig5": "Fig. 5: ranks given in the survey; a wider strip means more answers",
    "fig6": "Fig. 6: captions of training pictures as prompts; with the memorisation loss, fewer pictures "
    "repeat the training picture",
    "fig7": "Fig. 7: KID against the length of training; each point is a training of its own, bands are "
    "95% intervals",
    "fig8": "Fig. 8: prompts that name no culture; DIV is the diversity within a prompt",
    "kid_power": "How many pictures KID needs; where an interval in the legend holds 0, these pictures do "
    "not tell the two variants apart",
}
"""Captions of the figures."""
TABLES = {
    "table1": "Table 1: distance to real pictures, fit to the prompt, survey",
    "table2": "Table 2: learnt by heart, and diversity",
    "bleed": "Each culture’s LoRA on the prompts of each culture, and on prompts that name none",
}
"""Titles of the tables."""
CURVE_POINTS = 150
"""Points of a training curve; each is the mean of the updates around it."""
NEAREST = 8
"""Generated pictures shown beside the nearest training picture."""


def report(
    page: Path,
    template: Path,
    style: Path,
    images: list[Path],
    depth: list[Path],
    distances: list[Path],
    samples: list[Path],
    features: list[Path],
    references: list[Path],
    scores: list[Path],
    train_logs: list[Path],
    settings: PipelineConfig,
    negatives: list[Path] | None = None,
    tables: list[Path] | None = None,
    figures: list[Path] | None = None,
    set_samples: list[Path] | None = None,
    set_scores: list[Path] | None = None,
    breakdowns: list[Path] | None = None,
) -> None:
    """Write the page: what was run, scores, pictures, negatives, depth, curves, licence and consent.

    Files of several cultures are told apart by the culture stored in them; samples and their
    features by the variant in their name.

    Args:
        page: HTML file to write; it needs no other file and no network.
        template: Jinja template of the page.
        style: its CSS.
        images: the cultures' pictures.
        depth: their depth maps.
        distances: DreamSim distances of the negatives.
        samples: ``…/samples/{variant}.parquet``.
        features: ``…/features/{variant}.safetensors``.
        references: ``…/features/images.safetensors``.
        scores: merged scores.
        train_logs: of the full variant.
        settings: the whole configuration.
        negatives: all negatives; none: none are shown.
        tables: CSV files of the paper's tables.
        figures: SVG or PNG files.
        set_samples: ``…/runs/{set}/samples/{variant}.parquet`` of the further sets of prompts.
        set_scores: their merged scores.
        breakdowns: scores by category, era and prompt, of test prompts and sets.
    """
    sources: dict[str, tuple[Table | TensorFile, list[Path]]] = {
        "depth": (DEPTH, depth),
        "negatives": (NEGATIVES, negatives or []),
        "distances": (DISTANCES, distances),
        "samples": (SAMPLES, samples),
        "features": (FEATURES, features),
        "references": (FEATURES, references),
        "scores": (SCORES, scores),
        "train_logs": (TRAIN_LOG, train_logs),
        "set_samples": (SAMPLES, set_samples or []),
        "set_scores": (SCORES, set_scores or []),
        "breakdowns": (BREAKDOWN, breakdowns or []),
    }
    by_culture = {name: _grouped(kind, paths, images) for name, (kind, paths) in sources.items()}
    cultures = [_culture(path, by_culture, settings.report) for path in images]
    text = render(
        template,
        style,
        cultures=cultures,
        charts=_overview(cultures),
        variants=VARIANTS,
        sets=list(dict.fromkeys(name for culture in cultures for name in culture["sets"])),
        broken_down=any(culture["lost"] for culture in cultures),
        tables=[_table(path) for path in tables or []],
        figures=[_figure(path, settings) for path in figures or []],
        settings=settings,
        run=_run(settings, references),
    )
    artifacts.write_text(page, text)


def _culture(
    images: Path, by_culture: dict[str, dict[str, list[Path]]], config: ReportConfig
) -> dict[str, Any]:
    """Everything the page shows of one culture."""
    note = IMAGES.note(images)
    name = str(note["culture"])
    own = {kind: group.get(name, []) for kind, group in by_culture.items()}
    side = config.thumbnail
    thumbnails = {row["image_id"]: thumbnail(row["image"], side) for row in IMAGES.rows(images)}
    rows = IMAGES.read(images, [column for column in IMAGES.schema.names if column != "image"])
    captions = {row["image_id"]: row["caption"] for row in rows}
    scores = [row for part in own["scores"] for row in SCORES.rows(part)]
    nearest = _Nearest(own, rows)
    blank = [pair for part in own["scores"] for pair in SCORES.note(part)["blank"].items()]
    return {
        "name": name,
        "fingerprint": note["fingerprint"],
        "data": _data(rows),
        "scores": scores,
        "by_score": sets.by_score(scores),
        "csv": _csv(scores),
        "opening": _opening(own, scores, nearest, config),
        "blank": {variant: count for variant, count in blank if count},
        "variants": sets.present(own["samples"]),
        "prompts": sets.contact_sheet(own["samples"], config.pictures_per_prompt, side),
        "nearest": nearest.panels(thumbnails, side),
        "positives": _positives(own, captions, thumbnails, config.positives, side),
        "kept": Counter(row["kept"] for part in own["distances"] for row in DISTANCES.rows(part)),
        "curves": [chart for part in own["train_logs"] for chart in _curves(name, part)],
        "looks": [row for part in own["train_logs"] for row in _seen(part)],
        "sets": {
            sets.set_of(path): sets.further(path, sets.of_set(path, own["set_samples"]), config)
            for path in own["set_scores"]
        },
        "lost": {
            sets.set_of(path): sets.lost(
                path, sets.of_set(path, [*own["samples"], *own["set_samples"]]), config
            )
            for path in own["breakdowns"]
        },
    }


def _grouped(
    kind: Table | TensorFile, paths: Iterable[Path], images: Iterable[Path]
) -> dict[str, list[Path]]:
    """Map cultures to their files, which must be made from the culture's very pictures."""
    pictures = {str(IMAGES.note(path)["culture"]): path for path in images}
    groups: dict[str, list[Path]] = {}
    for path in paths:
        culture = str(kind.note(path)["culture"])
        if culture not in pictures:
            raise UserError(
                f"{path}: belongs to culture '{culture}', which is not shown; {artifacts.rebuild(path)}"
            )
        artifacts.same_origin((IMAGES, pictures[culture]), (kind, path))
        groups.setdefault(culture, []).append(path)
    return groups


def _run(settings: PipelineConfig, references: Sequence[Path]) -> dict[str, Any]:
    """What the reader needs to run it again."""
    networks = json.loads(FEATURES.metadata(references[0])["networks"]) if references else {}
    packages = ("torch", "diffusers", "transformers", "peft", "torch-fidelity", "snakemake")
    return {
        "networks": networks,
        "versions": {"Python": platform.python_version(), **{name: version(name) for name in packages}},
        "settings": json.dumps(settings.model_dump(mode="json"), indent=1),
    }


def _data(rows: Sequence[Row]) -> dict[str, Any]:
    """Count pictures, contributors, licences and consents."""

    def counted(column: str) -> list[tuple[str, int]]:
        return sorted(
            Counter(row[column] or "not stated" for row in rows).items(), key=lambda pair: (-pair[1], pair[0])
        )

    return {
        "splits": counted("split"),
        "licences": counted("licence"),
        "consents": counted("consent"),
        "categories": counted("category"),
        "contributors": len({row["contributor"] for row in rows if row["contributor"]}),
    }


class _Nearest:
    """Each variant's pictures beside the training picture nearest to them, by DreamSim's cosine."""

    def __init__(self, own: dict[str, list[Path]], rows: Sequence[Row]) -> None:
        self.own, self.rows = own, rows
        self.train = [number for number, row in enumerate(rows) if row["split"] == "train"]
        self.seen = {path.stem: _looks(path) for path in own["features"]}
        self.real = _looks(own["references"][0])[0] if own["references"] and self.train else None

    def copied(self, variant: str) -> tuple[int, int] | None:
        """The pictures of a variant that are more like a training picture than any held-out one is."""
        if self.real is None or variant not in self.seen or len(self.train) == len(self.rows):
            return None
        (generated, blank), train = self.seen[variant], self.real[self.train]
        held_out = np.delete(self.real, self.train, axis=0)
        return opening.copied((generated[~blank] @ train.T).max(1), (held_out @ train.T).max(1))

    def panels(self, thumbnails: dict[str, str], side: int) -> dict[str, list[dict[str, Any]]]:
        """For each variant its pictures most like a training picture."""
        if self.real is None:
            return {}
        found = {
            path.stem: self._pairs(path, thumbnails, side)
            for path in self.own["samples"]
            if path.stem in self.seen
        }
        return {variant: found[variant] for variant in VARIANTS if variant in found}

    def _pairs(self, samples: Path, thumbnails: dict[str, str], side: int) -> list[dict[str, Any]]:
        assert self.real is not None
        generated, blank = self.seen[samples.stem]
        cosines = generated @ self.real[self.train].T
        order = np.argsort(-cosines.max(1), kind="stable")
        best = order[~blank[order]][:NEAREST]
        wanted = {int(number): int(cosines[number].argmax()) for number in best}
        pairs = {}
        for number, row in enumerate(SAMPLES.rows(samples)):
            if number in wanted:
                match = self.rows[self.train[wanted[number]]]
                pairs[number] = {
                    "generated": thumbnail(row["image"], side),
                    "prompt": row["prompt"],
                    "training": thumbnails[match["image_id"]],
                    "caption": match["caption"],
                    "cosine": float(cosines[number, wanted[number]]),
                }
        return [pairs[number] for number in wanted]


def _looks(features: Path) -> tuple[np.ndarray, np.ndarray]:
    """What DreamSim saw in each picture, rows of length 1 in double precision, and which are blank."""
    import torch.nn.functional as F

    tensors = FEATURES.read(features)
    return F.normalize(tensors["dreamsim"].double(), dim=-1).numpy(), tensors["blank"].numpy()


def _opening(
    own: dict[str, list[Path]], found: Sequence[Row], nearest: _Nearest, config: ReportConfig
) -> dict[str, Any] | None:
    """What the page opens with: the first and the last variant; nothing where there is one alone."""
    variants = sets.present(own["samples"])
    if len(variants) < 2:
        return None
    before, after = variants[0], variants[-1]
    scores = {(row["metric"], row["variant"]): row for row in found}
    samples = {path.stem: path for path in own["samples"]}
    told = opening.headlines(scores, before, after)
    return {
        "before": before,
        "after": after,
        "pictures": opening.before_after(samples, before, after, config.opening),
        "headlines": told,
        "doubts": opening.doubts(scores, told, after, nearest.copied(after)),
    }


def _csv(scores: Sequence[Row]) -> str:
    """All scores as the text of a CSV file."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, SCORES.schema.names)
    table.writeheader()
    table.writerows({name: row[name] for name in SCORES.schema.names} for row in scores)
    return text.getvalue()


def _positives(
    own: dict[str, list[Path]], captions: dict[str, str], thumbnails: dict[str, str], count: int, side: int
) -> list[dict[str, Any]]:
    """Training pictures with depth and negatives; first those that lost most negatives."""
    distances = {
        (row["image_id"], row["index"]): row for path in own["distances"] for row in DISTANCES.rows(path)
    }
    dropped = Counter(image_id for (image_id, _), row in distances.items() if not row["kept"])
    names = sorted({image_id for image_id, _ in distances}, key=lambda name: (-dropped[name], name))
    half = names[: count // 2]
    shown = half + sorted(set(names) - set(half))[: count - len(half)]
    found: dict[str, dict[str, Any]] = {
        name: {"caption": captions[name], "uri": thumbnails[name], "depth": None, "negatives": []}
        for name in shown
    }
    for path in own["depth"]:
        for row in DEPTH.rows(path):
            if row["image_id"] in found:
                found[row["image_id"]]["depth"] = thumbnail(row["image"], side)
    for path in own["negatives"]:
        for row in NEGATIVES.rows(path):
            judged = distances.get((row["image_id"], row["index"]))
            if row["image_id"] in found and judged:
                found[row["image_id"]]["negatives"].append(
                    {
                        "uri": thumbnail(row["image"], side),
                        "prompt": row["prompt"],
                        "distance": judged["distance"],
                        "kept": judged["kept"],
                    }
                )
    return list(found.values())


def _curves(culture: str, path: Path) -> list[str]:
    """Losses and gradient norms against updates, without those that overflowed: the loss scale skips them."""
    rows = TRAIN_LOG.read(path)
    drawn = []
    for title, columns in CURVES.items():
        series = {}
        for column in columns:
            points = [
                (row["update"], row[column])
                for row in rows
                if row[column] is not None and math.isfinite(row[column])
            ]
            if points:
                parts = np.array_split(np.array(points, float), min(CURVE_POINTS, len(points)))
                series[column.replace("_", " ")] = [tuple(part.mean(0)) for part in parts]
        if series:
            svg = charts.line_chart(f"{culture}: {title.lower()}", series, "update", "")
            drawn.append(svg)
    return drawn


def _seen(path: Path) -> list[list[str]]:
    """Sum up what L_P and L_C saw by quarter of the schedule: pictures, S⁺, S⁻, open hinges."""
    found = defaultdict(list)
    for row in TRAIN_LOG.rows(path):
        columns = (row[f"look_{name}"] for name in ("share", "positive", "negative", "active"))
        for share, *seen in zip(*columns, strict=True):
            found[min(3, int(4 * share))].append([math.nan if value is None else value for value in seen])
    table = []
    for quarter, seen in sorted(found.items()):
        known = [[value for value in column if not math.isnan(value)] for column in zip(*seen, strict=True)]
        means = [f"{np.mean(column):.3f}" if column else "–" for column in known]
        table.append([f"{quarter / 4:g} to {(quarter + 1) / 4:g}", str(len(seen)), *means])
    return table


def _overview(cultures: Sequence[dict[str, Any]]) -> list[str]:
    """Draw the scores that have a title, those that were measured."""
    drawn = []
    for metric, label in labels.SCORES.items():
        if not label.title:
            continue
        rows: dict[str, dict[str, tuple[float, float | None, float | None]]] = {}
        for culture in cultures:
            for row in sorted(culture["scores"], key=lambda row: VARIANTS.index(row["variant"])):
                if row["metric"] == metric:
                    triple = (row["value"], row["low"], row["high"])
                    rows.setdefault(culture["name"], {})[LABELS[row["variant"]]] = triple
        if rows:
            drawn.append(charts.interval_chart(label.title, rows, list(LABELS.values())))
    return drawn


def _table(path: Path) -> dict[str, Any]:
    """A paper table with intervals folded into its cells."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    ends = ("_low", "_high", "_interval", "_generated", "_reference", "_extractor", "_weights_sha256")
    of_people = ("_participants", "_rankings")
    columns = [name for name in rows[0] if not name.endswith(ends + of_people)]
    head = [name.replace("_", " ").replace("x1000", "×10³") for name in columns]
    return {"name": TABLES[path.stem], "head": head, "columns": columns, "rows": rows}


def _figure(path: Path, settings: PipelineConfig) -> dict[str, str]:
    """A figure's contents with its caption, and the culture whose folder it lies in."""
    culture = path.parent.parent.name
    name = FIGURES[path.stem] + (f" ({culture})" if culture in settings.cultures else "")
    if path.suffix == ".svg":
        return {"name": name, "svg": path.read_text(encoding="utf-8")}
    with Image.open(path) as picture:
        return {"name": name, "uri": encode(picture).uri}


if __name__ == "__main__":
    run_step(report)
