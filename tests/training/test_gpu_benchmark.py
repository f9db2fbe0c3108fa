"""What ``python -m benchmarks.gpu`` runs on a GPU, here at tiny size: its figures mean nothing."""

import json

import pytest
import torch

from benchmarks import gpu, measures, shapes
from tests import ROOT


def test_an_update_of_the_trainer_is_timed_and_finite():
    found = measures.update("sd15", "trainer", "ldm", "float32", 2, tiny=True)
    assert found["finite"] and found["seconds"] > 0


@pytest.mark.parametrize("part", gpu.CAP)
def test_every_stage_under_a_cap_runs(part):
    kinds = {}
    for row in gpu.levers(*gpu.CAP[part]):  # of rows that differ in the batch alone the smallest
        kinds[row["model"], row["stage"], row.get("gradient_checkpointing")] = row
    for row in kinds.values():
        assert measures.fits(**row, caps=gpu.CAPS, tiny=True)["cap"] == 8, row


def test_an_update_of_a_flow_is_timed_and_finite():
    row = next(gpu.flows())
    found = measures.update(**row | {"dtype": "float32"}, tiny=True)
    assert row["model"] == "zimage" and found["finite"] and found["seconds"] > 0
    assert measures.operations("zimage", "scoft_mpc", tiny=True)["trainer"] > 0


def test_a_flows_latents_are_shifted_and_scaled():
    networks = shapes.build("zimage", torch.device("cpu"), torch.float32, tiny=True)
    latents = torch.randn(1, *networks.latents_shape)
    found = networks.decode_latents(networks.vae, (latents - 0.1159) * 0.3611)  # as its autoencoder has them
    expected = (networks.vae.decode(latents).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(found, expected)
    unit = torch.rand(1, 3, networks.side, networks.side)
    posterior = networks.vae.encode(unit * 2 - 1).latent_dist
    expected = (posterior.mean - 0.1159) * 0.3611
    torch.testing.assert_close(networks.encode_pictures(networks.vae, unit)[0], expected)


def test_pictures_and_caps_of_a_flow_are_measured():
    row = next(gpu.pictures("zimage")) | {"steps": 2}
    assert measures.draw(**row, tiny=True)["pictures_per_minute"] > 0
    assert {row["stage"] for row in gpu.levers("zimage")} == {"train", "sample"}


def test_the_authors_arrangement_takes_more_operations():
    for variant in ("ldm", "scoft_mpc"):
        counted = measures.operations("sd15", variant, tiny=True)
        assert counted["authors"] > counted["trainer"] > 0


def test_what_was_measured_is_whole():
    found = json.loads((ROOT / "resources/measured/gpu.json").read_text())
    assert "H100" in found["machine"]["gpu"]
    assert all("error" in row or (row["finite"] and row["seconds"] > 0) for row in found["updates"])
    assert gpu.merged([ROOT / "resources/measured/gpu.json"]) == found


def test_sixteen_bits_leave_the_noise_schedule_whole():
    networks = shapes.build("sd15", torch.device("cpu"), torch.bfloat16, tiny=True)
    a = networks.noise_process.alpha_bars
    assert a.dtype == torch.float32 and a[0] < 1 and bool((a.diff() < 0).all())
