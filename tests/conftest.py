"""Tiny networks of the real classes, with random weights."""

import os
import signal

import hypothesis
import pytest
import torch

# No test fails because the machine is busy, and every run tries the same cases.
hypothesis.settings.register_profile(
    "here",
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("here")
# Nor because a hub of ours is slow to answer: its client gives up after ten seconds.
os.environ |= {"HF_HUB_ETAG_TIMEOUT": "120", "HF_HUB_DOWNLOAD_TIMEOUT": "120"}

# Steps are started hundreds of times; where nothing is kept compiled, each would compile the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A shell has what it runs in the background ignore Ctrl-C's signal, by which the tests end servers.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests that run beside one another (pytest -n 2) take a core each.
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, len(os.sched_getaffinity(0))))
STRICT = bool(os.environ.get("SCOFT_CI"))
"""Where everything is installed, a test that does not run is a test that fails."""


LONG = ("workflow/test_pages.py", "workflow/test_workflow.py")
"""Files that take minutes: they begin, so that no core waits for another at the end."""


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: not item.path.as_posix().endswith(LONG))


def pytest_xdist_auto_num_workers(config):
    """One process more than cores: browsers, servers and jobs are waited for."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.fixture(scope="session")
def warm_path(tmp_path_factory):
    """A PATH on which ``python`` and ``snakemake`` are forked with the libraries imported."""
    from tests import ROOT
    from tests.warm_python import WarmPython

    with WarmPython(
        tmp_path_factory.mktemp("warm") / "python", os.environ | {"PYTHONPATH": str(ROOT)}
    ) as warm:
        yield f"{warm.path}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture(scope="module")
def warm(warm_path):
    """Put it before the PATH for a module's tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", warm_path)
        yield


def _fail_if_skipped(report):
    if STRICT and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    return _fail_if_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    return _fail_if_skipped((yield))


@pytest.fixture(scope="session")
def tiny_unet():
    """Return a function that builds the UNet anew with a LoRA whose gradient is nowhere zero."""
    from diffusers import UNet2DConditionModel
    from peft import LoraConfig

    def build(seed: int = 0) -> UNet2DConditionModel:
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(
            sample_size=4,
            in_channels=4,
            out_channels=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            block_out_channels=(8, 16),
            layers_per_block=1,
            cross_attention_dim=12,
            attention_head_dim=2,
            norm_num_groups=4,
        ).requires_grad_(False)
        unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
        for parameter in unet.parameters():
            if parameter.requires_grad:
                # Larger weights amplify float32 rounding beyond what the tests allow.
                torch.nn.init.normal_(parameter, std=0.1)
        return unet.eval()

    return build


@pytest.fixture(scope="session")
def tiny_vae():
    from diffusers import AutoencoderKL

    torch.manual_seed(1)
    return (
        AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(4, 8),
            latent_channels=4,
            norm_num_groups=2,
            sample_size=8,
        )
        .requires_grad_(False)
        .eval()
    )


@pytest.fixture(scope="session")
def tiny_vision():
    from transformers import CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(2)
    config = CLIPVisionConfig(
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
    )
    return CLIPVisionModel(config).requires_grad_(False).eval()
