"""Fetching models: the real hub client against a small server that speaks the hub's API."""

import io
import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline_steps.config import BaseRef, ModelRef, Models
from pipeline_steps.errors import UserError
from pipeline_steps.models.store import commit, locate, pinned
from tests import ROOT
from tests.hub import SHA, Hub, sha256

BIG = os.urandom(3_000_000)
SOURCE = str(ROOT)


@pytest.fixture
def hub():
    with Hub.serving() as server:
        fill(server)
        yield server


def fill(server: Hub) -> None:
    server.repos["someone/sdxl"] = {
        "model_index.json": json.dumps(
            {
                "_class_name": "StableDiffusionXLPipeline",
                "_diffusers_version": "0.19.0",
                "force_zeros_for_empty_prompt": True,
                "feature_extractor": [None, None],
                "image_encoder": [None, None],
                "text_encoder": ["transformers", "CLIPTextModel"],
                "tokenizer": ["transformers", "CLIPTokenizer"],
                "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
                "unet": ["diffusers", "UNet2DConditionModel"],
                "vae": ["diffusers", "AutoencoderKL"],
            }
        ).encode(),
        "README.md": b"words",
        "whole.safetensors": b"another program's",
        "unet/config.json": b"{}",
        "unet/diffusion_pytorch_model.safetensors": b"float32" * 10,
        "unet/diffusion_pytorch_model.fp16.safetensors": BIG,
        "unet/diffusion_pytorch_model.bin": b"a pickle",
        "text_encoder/config.json": b"{}",
        "text_encoder/model.fp16-00001-of-00002.safetensors": b"one",
        "text_encoder/model.fp16-00002-of-00002.safetensors": b"two",
        "text_encoder/model.safetensors.index.fp16.json": b"{}",
        "tokenizer/vocab.json": b"{}",
        "tokenizer/merges.txt": b"#",
        "vae/config.json": b"{}",
        "vae/diffusion_pytorch_model.fp16.safetensors": b"not wanted: replaced",
        "safety_checker/model.safetensors": b"not wanted",
        # As in stabilityai/stable-diffusion-xl-base-1.0: exports for other programs.
        "text_encoder/flax_model.msgpack": b"not wanted",
        "text_encoder/model.onnx": b"not wanted",
        "text_encoder/openvino_model.bin": b"not wanted",
        "unet/model.onnx_data": b"not wanted",
        "unet/openvino_model.xml": b"not wanted",
        "vae_1_0/config.json": b"not wanted",
        "vae_1_0/diffusion_pytorch_model.safetensors": b"not wanted",
        "vae_decoder/config.json": b"not wanted",
        "vae_decoder/model.onnx": b"not wanted",
        "vae_decoder/openvino_model.bin": b"not wanted",
        "vae_encoder/model.onnx": b"not wanted",
    }
    server.repos["someone/vae"] = {"config.json": b"{}", "diffusion_pytorch_model.safetensors": b"vae"}
    server.repos["someone/old"] = {"config.json": b"{}", "pytorch_model.bin": b"pickle", "model.onnx": b"x"}
    # As in timm/resnet101_clip.openai: "model" is the picture side alone, for timm.
    server.repos["someone/open_clip"] = {
        "config.json": b"{}",
        "open_clip_config.json": b"{}",
        "model.safetensors": b"timm's",
        "open_clip_model.safetensors": b"both sides",
        "open_clip_pytorch_model.bin": b"a pickle",
        "pytorch_model.bin": b"timm's pickle",
    }


def models(home: Path, **roles) -> Models:
    """A configuration of local folders but for the given roles."""
    here = home / "here"
    here.mkdir(exist_ok=True)
    local = {role: {"path": str(here)} for role in Models.model_fields}
    return Models.model_validate(local | {"oracle": None} | roles)


def start(home: Path, hub: Hub, wanted: Models, *extractors: ModelRef) -> subprocess.Popen:
    environment = os.environ | {
        "HF_ENDPOINT": hub.url, "HF_HOME": str(home / "hf"), "PYTHONPATH": SOURCE, "HF_HUB_DISABLE_XET": "1",
    }  # fmt: skip
    command = [
        sys.executable, "-m", "pipeline_steps.models.fetch_models",
        "--models", wanted.model_dump_json(), "--lock", str(home / "lock.json"),
        *(["--extractors", *(ref.model_dump_json() for ref in extractors)] if extractors else []),
    ]  # fmt: skip
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=home, env=environment, **pipes)


def fetch(home: Path, hub: Hub, wanted: Models, *extractors: ModelRef) -> subprocess.CompletedProcess:
    process = start(home, hub, wanted, *extractors)
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def last_line(done: subprocess.CompletedProcess) -> str:
    """The one line of a mendable failure."""
    assert done.returncode == 1, done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("ERROR ") and "Traceback" not in done.stderr
    return line


XL = {"path": "someone/sdxl", "variant": "fp16", "vae": {"path": "someone/vae"}}


def test_only_what_is_read_is_fetched_and_the_lock_holds_it(hub, tmp_path, monkeypatch):
    wanted = models(tmp_path, base=XL, clip={"path": "someone/old"})
    done = fetch(tmp_path, hub, wanted)
    assert done.returncode == 0, done.stderr
    store = tmp_path / "models"
    found = {str(p.relative_to(store)) for p in store.rglob("*") if p.is_file()} - {".fetching"}
    assert found == {
        *(f"someone/sdxl/{name}" for name in (
            "fetched.json", "model_index.json", "unet/config.json",
            "unet/diffusion_pytorch_model.fp16.safetensors", "text_encoder/config.json",
            "text_encoder/model.fp16-00001-of-00002.safetensors",
            "text_encoder/model.fp16-00002-of-00002.safetensors",
            "text_encoder/model.safetensors.index.fp16.json", "tokenizer/vocab.json", "tokenizer/merges.txt",
        )),
        "someone/vae/fetched.json", "someone/vae/config.json",
        "someone/vae/diffusion_pytorch_model.safetensors",
        "someone/old/fetched.json", "someone/old/config.json", "someone/old/pytorch_model.bin",
    }  # fmt: skip
    assert "offers no safetensors" in done.stderr
    lock = json.loads((tmp_path / "lock.json").read_text())
    entry = lock["someone/sdxl"]["files"]["unet/diffusion_pytorch_model.fp16.safetensors"]
    assert lock["someone/sdxl"]["revision"] == SHA
    assert entry == {"size": len(BIG), "sha256": sha256(BIG)}

    monkeypatch.chdir(tmp_path)
    assert locate(wanted.base, "base") == Path("models/someone/sdxl")
    (tmp_path / "config").mkdir()
    other = lock | {"someone/sdxl": {"revision": "3" * 40}}
    (tmp_path / "config/models.lock.json").write_text(json.dumps(other))
    with pytest.raises(UserError, match=rf"'someone/sdxl' is here as {SHA}, not as 3333333"):
        locate(wanted.base, "base")
    assert pinned(wanted.base).path == f"someone/sdxl@{'3' * 40}"
    (tmp_path / "config/models.lock.json").write_text(json.dumps(lock))
    assert locate(wanted.base, "base") == Path("models/someone/sdxl")
    assert commit(wanted.base) == SHA and commit(ModelRef(path=".")) is None
    assert pinned(wanted.base).path == f"someone/sdxl@{SHA}" and pinned(wanted.base).vae.path.startswith(
        "someone/vae@"
    )
    assert pinned(ModelRef(path="resources")).path == "resources"
    with pytest.raises(UserError, match=rf"'someone/sdxl' is here as {SHA}, not as 2222222"):
        locate(BaseRef(path="someone/sdxl@2222222"), "base")
    (store / "someone/sdxl/tokenizer/merges.txt").unlink()
    with pytest.raises(UserError, match=r"merges.txt is missing or cut short; .*snakemake --cores 1 models"):
        locate(wanted.base, "base")

    asked = len(hub.asked)
    assert fetch(tmp_path, hub, wanted).returncode == 0
    again = [path for method, path, _ in hub.asked[asked:] if method == "GET" and "resolve" in path]
    assert again == [f"/someone/sdxl/resolve/{SHA}/tokenizer/merges.txt"]


def test_the_weights_of_several_distances_are_fetched(hub, tmp_path):
    done = fetch(tmp_path, hub, models(tmp_path), ModelRef(path="someone/vae"), ModelRef(path="someone/old"))
    assert done.returncode == 0, done.stderr
    assert set(json.loads((tmp_path / "lock.json").read_text())) == {"someone/vae", "someone/old"}


def test_of_open_clips_repositories_its_own_weights_are_fetched(hub, tmp_path):
    assert fetch(tmp_path, hub, models(tmp_path), ModelRef(path="someone/open_clip")).returncode == 0
    found = {path.name for path in (tmp_path / "models/someone/open_clip").iterdir()}
    assert found == {
        "config.json", "open_clip_config.json", "open_clip_model.safetensors", "model.safetensors",
        "fetched.json",
    }  # fmt: skip


def test_an_interrupted_download_goes_on_where_it_stopped(hub, tmp_path, monkeypatch):
    hub.cut_after, hub.stall = 1_500_000, threading.Event()
    wanted = models(tmp_path, base=XL)
    monkeypatch.chdir(tmp_path)
    process = start(tmp_path, hub, wanted)
    assert hub.stall.wait(120)
    part = tmp_path / "models/someone/sdxl/unet/diffusion_pytorch_model.fp16.safetensors.part"
    while not part.exists() or part.stat().st_size < 1_000_000:
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.communicate()
    hub.go_on.set()
    with pytest.raises(UserError, match=r"'someone/sdxl' is half-downloaded; .*snakemake --cores 1 models"):
        locate(wanted.base, "base")
    hub.cut_after = hub.stall = None
    done = fetch(tmp_path, hub, wanted)
    assert done.returncode == 0, done.stderr
    starts = [r for method, path, r in hub.asked if method == "GET" and "fp16.safetensors" in path and r]
    assert len(starts) == 1 and int(starts[0].removeprefix("bytes=").rstrip("-")) >= 1_000_000
    weights = tmp_path / "models/someone/sdxl/unet/diffusion_pytorch_model.fp16.safetensors"
    assert weights.read_bytes() == BIG


def test_two_working_directories_fill_one_store(hub, tmp_path):
    """As a lab's, which keeps its models in one folder."""
    (tmp_path / "store").mkdir()
    running = []
    for name in ("one", "other"):
        home = tmp_path / name
        home.mkdir()
        (home / "models").symlink_to(tmp_path / "store")
        running.append(start(home, hub, models(home, base=XL)))
    for process in running:
        assert process.communicate(timeout=120) and process.returncode == 0
    weights = "unet/diffusion_pytorch_model.fp16.safetensors"
    assert (tmp_path / "store/someone/sdxl" / weights).read_bytes() == BIG
    assert len([path for method, path, _ in hub.asked if method == "GET" and path.endswith(weights)]) == 1


def test_a_store_of_somebody_elses_is_named(hub, tmp_path):
    (tmp_path / "models").write_text("stands for a folder that may not be written")
    assert last_line(fetch(tmp_path, hub, models(tmp_path, base=XL))).startswith(
        "ERROR models: cannot be written (File exists); let its owner run this command"
    )


def test_a_damaged_file_is_fetched_again_and_then_named(hub, tmp_path):
    wanted = models(tmp_path, base=XL)
    assert fetch(tmp_path, hub, wanted).returncode == 0
    weights = tmp_path / "models/someone/sdxl/unet/diffusion_pytorch_model.fp16.safetensors"
    weights.write_bytes(BIG[:-1] + bytes([BIG[-1] ^ 1]))
    done = fetch(tmp_path, hub, wanted)
    assert done.returncode == 0 and "damaged and is fetched again" in done.stderr
    assert weights.read_bytes() == BIG
    weights.unlink()
    hub.spoil.add("unet/diffusion_pytorch_model.fp16.safetensors")
    line = last_line(fetch(tmp_path, hub, wanted))
    assert (
        "models.base: 'someone/sdxl': unet/diffusion_pytorch_model.fp16.safetensors arrives damaged" in line
    )
    assert sha256(BIG) in line
    assert not weights.exists()


def test_a_model_that_changed_at_its_source_is_refused(hub, tmp_path):
    wanted = models(tmp_path, base=XL)
    assert fetch(tmp_path, hub, wanted).returncode == 0
    hub.repos["someone/vae"]["diffusion_pytorch_model.safetensors"] = b"eav"
    (tmp_path / "models/someone/vae/diffusion_pytorch_model.safetensors").unlink()
    line = last_line(fetch(tmp_path, hub, wanted))
    assert "models.base.vae: 'someone/vae': diffusion_pytorch_model.safetensors differs from" in line


@pytest.mark.parametrize(
    ("base", "says"),
    [
        ({"path": "someone/gated"}, r"is gated: accept its licence at .*someone/gated, run 'hf auth login'"),
        ({"path": "someone/shy"}, r"is gated: accept its licence at .*someone/shy"),
        ({"path": "someone/gone"}, r"'someone/gone' is not on the hub, or private"),
        ({"path": "someone/vae@abcabca"}, r"'someone/vae' has no commit abcabca; check .* models.base.path"),
        (
            {"path": "someone/vae", "variant": "fp16"},
            r"offers no weights of variant 'fp16'; it has config.json",
        ),
        ({"path": "someone/sdxl"}, r"offers no weights in text_encoder/"),
        ({"path": "no/such/folder"}, r"no such file or folder: 'no/such/folder'"),
    ],
)
def test_what_cannot_be_had_is_one_line(hub, tmp_path, base, says):
    hub.gated = {"someone/gated": 403}
    hub.closed = {"someone/shy": 401}  # it shows its files' names, not the files
    hub.repos["someone/shy"] = hub.repos["someone/vae"]
    line = last_line(fetch(tmp_path, hub, models(tmp_path, base=base)))
    assert line.startswith("ERROR models.base")
    import re

    assert re.search(says, line), line


def test_files_and_archives_from_elsewhere_have_a_known_hash(hub, tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("clip_vitb32_pretrain.pth.tar", b"weights")
    archive, network = packed.getvalue(), BIG
    hub.repos["files"] = {"dreamsim.zip": archive, "inception.pth": network}
    link = f"{hub.url}/inception.pth"
    roles = {
        "dreamsim": {"path": f"{hub.url}/dreamsim.zip"},
        "inception": {"path": f"{link}#sha256={sha256(network)[:8]}"},
    }
    store = tmp_path / "models" / hub.url.removeprefix("http://")
    hub.cut_after = 2_000_000
    line = last_line(fetch(tmp_path, hub, models(tmp_path, **roles)))
    assert "inception.pth: the download broke off" in line
    hub.cut_after = None
    assert fetch(tmp_path, hub, models(tmp_path, **roles)).returncode == 0
    assert any(path == "/inception.pth" and start for _, path, start in hub.asked)
    assert (store / "inception.pth").read_bytes() == network
    assert (store / "dreamsim/clip_vitb32_pretrain.pth.tar").read_bytes() == b"weights"
    assert json.loads((tmp_path / "lock.json").read_text())[f"{hub.url}/dreamsim.zip"]["sha256"] == sha256(
        archive
    )

    (store / "inception.pth").unlink()
    roles["inception"]["path"] = f"{link}#sha256={'0' * 8}"
    (tmp_path / "lock.json").unlink()
    line = last_line(fetch(tmp_path, hub, models(tmp_path, **roles)))
    assert f"SHA-256 {sha256(network)}, not 00000000" in line
    assert not (store / "inception.pth").exists()


def test_an_archive_cannot_write_outside_its_folder(hub, tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("../escaped.txt", b"x")
    hub.repos["files"] = {"bad.zip": packed.getvalue()}
    role = {"path": f"{hub.url}/bad.zip"}
    assert "would lie outside" in last_line(fetch(tmp_path, hub, models(tmp_path, dreamsim=role)))
    assert not list((tmp_path / "models").rglob("escaped.txt"))


def test_a_path_laid_over_a_preset_takes_nothing_from_it(hub, tmp_path):
    """Commit, address and hash are part of the path: they go when it goes."""
    own = tmp_path / "my_network.pth"
    own.write_bytes(b"mine")
    done = fetch(tmp_path, hub, models(tmp_path, inception={"path": str(own)}))
    assert done.returncode == 0 and own.read_bytes() == b"mine" and not hub.asked
    with pytest.raises(ValidationError, match="a link is written"):
        ModelRef(path="https://host/../../etc/passwd")
    with pytest.raises(ValidationError, match="behind the @ stands a commit"):
        ModelRef(path="someone/vae@main")


def test_a_folder_that_wants_its_own_code_run_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"auto_map": {"AutoModel": "evil.Model"}}')
    with pytest.raises(UserError, match=r"config.json asks for code of its own"):
        locate(ModelRef(path=str(tmp_path)), "captioner")
    with pytest.raises(
        UserError, match=r"'someone/blip' is not on this machine; .*run 'snakemake --cores 1 models'"
    ):
        locate(ModelRef(path="someone/blip"), "captioner")
