"""Negatives are deleted wherever they lie, and nothing else; the inventory says what is installed."""

import json
import re
from importlib.metadata import version

import pytest
import torch

from pipeline_steps.artifacts import (
    DEPTH,
    DISTANCES,
    NEGATIVE_CACHE,
    NEGATIVES,
    NEGATIVES_KEPT,
    TARGETS,
    Origin,
)
from pipeline_steps.errors import UserError
from pipeline_steps.negatives.purge_negatives import purge_negatives
from pipeline_steps.report.sbom import sbom
from tests import ROOT
from tests.artifacts.test_artifacts import cut, write


def latents(kind, path):
    kind.write(path, {"x": torch.zeros(1)}, Origin("korea", "f" * 64))
    return path


def test_every_negative_goes_and_nothing_else(tmp_path):
    korea = tmp_path / "korea"
    goes = [
        write(NEGATIVES, korea / "negatives.parquet"),
        write(NEGATIVES_KEPT, korea / "negatives_kept.parquet"),
        write(NEGATIVES_KEPT, korea / "runs/loose/negatives_kept.parquet"),
        write(NEGATIVES, korea / "shards/1_of_2/negatives.parquet"),
        write(NEGATIVES, korea / "called otherwise.parquet"),
        write(NEGATIVES, tmp_path / "wales/negatives.parquet"),
        latents(NEGATIVE_CACHE, korea / "negative_cache.safetensors"),
        latents(NEGATIVE_CACHE, korea / "runs/loose/negative_cache.safetensors"),
        korea / ".negatives.parquet.0123abcd.part",
        korea / "shards/1_of_2/.negatives.parquet.0123abcd.part",
        korea / ".negative_cache.safetensors.0123abcd.part",
        tmp_path / "report.html",
    ]
    cut(goes[5], NEGATIVES)
    for path in goes[8:]:
        path.write_text("pictures")
    stays = [write(DISTANCES, korea / "distances.parquet"), write(DEPTH, korea / "depth.parquet")]
    stays += [latents(TARGETS, korea / "targets.safetensors")]
    stays += [korea / "lora.safetensors", korea / "report.html"]
    for path in stays[3:]:
        path.write_text("no negatives")
    purge_negatives(tmp_path, (tmp_path / "report.html",))
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(stays)


def test_inventory(tmp_path):
    lock = tmp_path / "lock"
    sums = ["ab" * 32, "cd" * 32]
    lock.write_text(
        "# a comment with numpy==1\n"
        f"numpy=={version('numpy')} \\\n    --hash=sha256:{sums[0]} \\\n    --hash=sha256:{sums[1]}\n"
        "psycopg[binary]==0.0.1 ; python_version > '3'\nno-such-package==1.0\n"
    )
    sbom(lock, tmp_path / "sbom.json", tmp_path / "table.md")
    content = json.loads((tmp_path / "sbom.json").read_text())
    assert (content["bomFormat"], content["specVersion"]) == ("CycloneDX", "1.6")
    numpy, psycopg, unknown = content["components"]
    assert numpy["purl"] == f"pkg:pypi/numpy@{version('numpy')}"
    assert [one["content"] for one in numpy["hashes"]] == sums
    assert "BSD" in numpy["licenses"][0]["license"]["name"]
    assert psycopg["properties"] == [{"name": "installed", "value": version("psycopg")}]
    assert "licenses" not in unknown
    first = (tmp_path / "sbom.json").read_bytes()
    sbom(lock, tmp_path / "sbom.json", tmp_path / "table.md")
    assert (tmp_path / "sbom.json").read_bytes() == first
    lock.write_text("numpy>=2\n")
    with pytest.raises(UserError, match="pins no package"):
        sbom(lock, tmp_path / "sbom.json", tmp_path / "table.md")


def test_the_documented_licences_are_those_of_the_lock_file():
    pins = dict(
        re.findall(
            r"^([A-Za-z0-9._-]+)(?:\[.*\])?==(\S+)", (ROOT / "envs/requirements.lock").read_text(), re.M
        )
    )
    rows = dict(
        re.findall(r"^\| ([A-Za-z0-9._-]+) \| ([0-9]\S*) \|", (ROOT / "docs/licences.md").read_text(), re.M)
    )
    assert rows == pins, "mend it with: python -m pipeline_steps.report.sbom (see docs/licences.md)"


def test_every_pin_has_a_hash_and_no_registry_is_named():
    text = (ROOT / "envs/requirements.lock").read_text()
    assert text.count("--hash=sha256:") >= len(re.findall(r"^\S+==", text, re.M)) > 100
    assert "http" not in text.replace("httpx", "").replace("httpcore", "").replace("httptools", "")
