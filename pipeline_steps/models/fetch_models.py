"""Fetch every model of the configuration into one folder, checked file by file against a lock."""

import hashlib
import json
import logging
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from tqdm import tqdm

from pipeline_steps import artifacts
from pipeline_steps.artifacts import file_sha256
from pipeline_steps.cli import run_step
from pipeline_steps.config import BaseRef, ModelRef, Models
from pipeline_steps.errors import UserError, first_line
from pipeline_steps.models.store import MANIFEST, OPEN_CLIP, STORE, HubId, Link, place, read_json, source

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

LOG = logging.getLogger(__name__)

STEMS = ("diffusion_pytorch_model", "model", "pytorch_model", "open_clip_model")
"""Names under which diffusers, transformers and open_clip look for weights."""
WEIGHTS = (".safetensors", ".bin", ".ckpt", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".onnx_data")
INDEX = "model_index.json"
"""In a pipeline's repository: its class and the class of each of its parts."""
UNREAD = {"safety_checker", "feature_extractor", "image_encoder"}
"""Parts of a diffusion model that no stage loads."""
SMALL = (".json", ".txt", ".model", ".jinja")
"""Configurations, tokenizers, and their chat templates."""
PIECE = 1 << 18
"""Bytes written at a time."""
TIMEOUT = 30
"""Seconds without an answer after which a download stops."""


def fetch_models(models: Models, lock: Path, extractors: Sequence[ModelRef] = ()) -> None:
    """Fetch what is missing, go on with what is half there, and verify all of it.

    The first fetch writes commit, sizes and SHA-256 into the lock; every later one, on any
    machine, must get the same. What is on this machine already is only verified.

    Args:
        models: the section "models".
        lock: JSON file to read and add to; keep it with the configuration.
        extractors: weights of perceptual distances, where they are models of their own.

    Raises:
        UserError: a model is gated, gone, changed or damaged, or the network failed.
    """
    # Working directories may share the folder by a link: one of them fetches, the others find it there.
    try:
        STORE.mkdir(parents=True, exist_ok=True)
        alone = FileLock(STORE / ".fetching").acquire()
    except OSError as error:
        raise UserError(
            f"{STORE}: cannot be written ({error.strerror}); let its owner run this command, all others only "
            "read there"
        ) from error
    with alone:
        _fetch_all(models, lock, extractors)


def _fetch_all(models: Models, lock: Path, extractors: Sequence[ModelRef]) -> None:
    locked = read_json(lock)
    for role, ref, left_out in _wanted(models, extractors):
        match source(ref):
            case HubId(key, _) as hub_id:
                entry = _fetch_hub(role, hub_id, place(ref), ref.variant, left_out, locked.get(key, {}))
            case Link(key, _) as link:
                entry = _fetch_link(role, link, place(ref), locked.get(key, {}))
            case None if place(ref).exists():
                continue
            case None:
                raise UserError(f"models.{role}: no such file or folder: '{ref.path}'")
        if locked.get(key) != entry:
            locked[key] = entry
            artifacts.write_text(lock, json.dumps(locked, indent=1, sort_keys=True) + "\n")


def _wanted(models: Models, extractors: Sequence[ModelRef]) -> Iterator[tuple[str, ModelRef, set[str]]]:
    """Yield role, model and the parts of it that nothing reads."""
    for role in type(models).model_fields:
        ref: ModelRef | None = getattr(models, role)
        if isinstance(ref, BaseRef):
            yield role, ref, UNREAD | ({"vae"} if ref.vae else set())
            if ref.vae:
                yield f"{role}.vae", ref.vae, set()
        elif ref:
            yield role, ref, set()
    for extractor in extractors:
        yield "extractor", extractor, set()


# --- the hub --------------------------------------------------------------------------------------


def _fetch_hub(
    role: str,
    hub_id: HubId,
    folder: Path,
    variant: str | None,
    left_out: set[str],
    locked: dict[str, Any],
) -> dict[str, Any]:
    """Fetch one model of the hub; return its commit and the size and SHA-256 of its files."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HTTPError,  # of whichever client the hub's library uses
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repo = hub_id.name
    name = f"models.{role}: '{repo}'"
    revision = hub_id.revision or locked.get("revision")
    try:
        info = HfApi().model_info(repo, revision=revision, files_metadata=True)
    except GatedRepoError as error:
        raise _gated(name, repo) from error
    except RevisionNotFoundError as error:
        raise UserError(
            f"{name} has no commit {revision}; check what stands behind the @ in models.{role}.path, or in "
            "config/models.lock.json"
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"{name} is not on the hub, or private: check the id, or run 'hf auth login'"
        ) from error
    except (HTTPError, OSError) as error:
        raise UserError(
            f"{name}: the hub gives no answer ({first_line(error)}); run the same command again"
        ) from error
    siblings, sha = info.siblings or [], str(info.sha)
    old = locked.get("files", {}) if locked.get("revision") == sha else {}
    index = next((file for file in siblings if file.rfilename == INDEX), None)
    parts = {"."}
    if index:
        _fetch_file(name, repo, sha, index, folder, old)
        parts |= _components(folder / INDEX) - left_out
    chosen = list(_chosen(name, siblings, variant, parts))
    files = {}
    for number, file in enumerate(chosen, 1):
        LOG.info("%s (%d of %d): %s", repo, number, len(chosen), file.rfilename)
        files[file.rfilename] = _fetch_file(name, repo, sha, file, folder, old)
    # Roles may share a model; each adds the files it reads.
    held = read_json(folder / MANIFEST)
    files = (held["files"] if held.get("revision") == sha else {}) | files
    entry = {"revision": sha, "files": files}
    artifacts.write_text(folder / MANIFEST, json.dumps(entry, indent=1, sort_keys=True) + "\n")
    return {"revision": sha, "files": old | files}


def _gated(name: str, repo: str) -> UserError:
    return UserError(
        f"{name} is gated: accept its licence at https://huggingface.co/{repo}, run 'hf auth login' "
        "and this command again"
    )


def _components(index: Path) -> set[str]:
    """Return the parts of which a pipeline names library and class; its other folders are exports."""
    named = {part: value for part, value in read_json(index).items() if isinstance(value, list)}
    return {part for part, value in named.items() if len(value) == 2 and all(value)}


def _chosen(
    name: str, siblings: "list[RepoSibling]", variant: str | None, parts: set[str]
) -> "Iterator[RepoSibling]":
    """Choose what ``from_pretrained`` reads: configurations, tokenizers, and one set of weights a folder.

    Safetensors wherever they are offered; a pickle only where a folder has nothing else.
    """
    folders: dict[str, list[RepoSibling]] = {}
    for file in siblings:
        folders.setdefault(str(PurePosixPath(file.rfilename).parent), []).append(file)
    for part in sorted(parts & folders.keys()):
        files = {PurePosixPath(file.rfilename).name: file for file in folders[part]}
        if INDEX in files:  # the whole model as one file lies here too, for other programs
            yield files[INDEX]
            continue
        readable = [file for name_, file in files.items() if name_.endswith(SMALL)]
        yield from (file for file in readable if ".index." not in file.rfilename)
        weights = [name_ for name_ in files if name_.endswith(WEIGHTS)]
        if weights:
            found = [*_weights(name, part, list(files), variant), *({OPEN_CLIP} & files.keys())]
            yield from (files[name_] for name_ in dict.fromkeys(found))


def _weights(name: str, part: str, files: list[str], variant: str | None) -> list[str]:
    """Choose one set of weights of a folder; sharded ones come with their index."""
    infix = f".{variant}" if variant else ""
    for ending in (".safetensors", ".bin"):
        for stem in STEMS:
            whole = f"{stem}{infix}{ending}"
            index = f"{stem}{ending}.index{infix}.json"
            if whole in files or index in files:
                if ending == ".bin":
                    LOG.warning("%s offers no safetensors: its pickle is read as tensors only", name)
                if whole in files:
                    return [whole]
                shards = [file for file in files if file.startswith(f"{stem}{infix}-")]
                return [index, *sorted(file for file in shards if file.endswith(ending))]
    where = "" if part == "." else f" in {part}/"
    asked = f" of variant '{variant}'" if variant else ""
    raise UserError(f"{name} offers no weights{asked}{where}; it has {', '.join(sorted(files))}")


def _fetch_file(
    name: str, repo: str, revision: str, file: "RepoSibling", folder: Path, locked: dict[str, Any]
) -> dict[str, Any]:
    """Fetch one file unless it is there, verify it, and try a damaged one once more.

    The hub's own client begins a broken-off file anew; gigabytes are better gone on with.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    path = folder / file.rfilename
    url = hf_hub_url(repo, file.rfilename, revision=revision)
    for _ in range(2):
        if not path.exists():
            try:
                _download(f"{name}: {file.rfilename}", url, path, build_hf_headers())
            except PermissionError as error:
                raise _gated(name, repo) from error
        found = {"size": path.stat().st_size, "sha256": file_sha256(path)}
        promised = file.lfs.sha256 if file.lfs else None
        right = found["sha256"] == promised if file.lfs else _git_id(path) == file.blob_id
        if right and locked.get(file.rfilename, found) == found:
            return found
        path.unlink()
        if right:
            raise UserError(
                f"{name}: {file.rfilename} differs from config/models.lock.json (SHA-256 {found['sha256']}): "
                "the model changed at its source; remove its entry from the lock if that is what you want"
            )
        LOG.warning("%s: %s was damaged and is fetched again", name, file.rfilename)
    raise UserError(
        f"{name}: {file.rfilename} arrives damaged (SHA-256 {found['sha256']}, promised is "
        f"{promised or file.blob_id}); run the same command again later"
    )


def _git_id(path: Path) -> str:
    """Return git's name for a file's contents, by which the hub knows its small files."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _download(what: str, url: str, path: Path, headers: dict[str, str] | None = None) -> None:
    """Fetch a URL beside its final name, going on where an earlier attempt stopped.

    Raises:
        PermissionError: the server wants to know who asks.
        UserError: it cannot be had, or the network failed.
    """
    import requests

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    there = part.stat().st_size if part.exists() else 0
    wanted = (headers or {}) | {"Accept-Encoding": "identity"}
    wanted |= {"Range": f"bytes={there}-"} if there else {}
    try:
        with requests.get(url, headers=wanted, stream=True, timeout=TIMEOUT) as answer:
            if answer.status_code in (401, 403):
                raise PermissionError(url)
            if answer.status_code != 416:  # there is nothing left to fetch
                answer.raise_for_status()
                there = there if answer.status_code == 206 else 0
                total = there + int(answer.headers.get("Content-Length", 0))
                with (
                    part.open("ab" if there else "wb") as file,
                    tqdm(total=total, initial=there, unit="B", unit_scale=True, desc=path.name) as bar,
                ):
                    for chunk in answer.iter_content(PIECE):
                        file.write(chunk)
                        bar.update(len(chunk))
                if part.stat().st_size < total:
                    raise requests.ConnectionError(f"{part.stat().st_size} of {total} bytes came")
    except requests.RequestException as error:
        raise UserError(
            f"{what}: the download broke off ({first_line(error)}); run the same command again, it goes on "
            "from there"
        ) from error
    part.replace(path)


# --- elsewhere ------------------------------------------------------------------------------------


def _fetch_link(role: str, link: Link, path: Path, locked: dict[str, Any]) -> dict[str, Any]:
    """Fetch a file, or an archive that becomes a folder; return its size and SHA-256."""
    archive = link.url.endswith(".zip")
    held = read_json(path / MANIFEST) if archive else {}
    if held and locked in ({}, held) and held["sha256"].startswith(link.sha256):
        return held
    file = path.with_name(f".{path.name}.zip") if archive else path
    if not file.exists():
        try:
            _download(f"models.{role}: {link.url}", link.url, file)
        except PermissionError as error:
            raise UserError(
                f"models.{role}: {link.url} may not be read by everyone; fetch it yourself"
            ) from error
    found: dict[str, Any] = {"size": file.stat().st_size, "sha256": file_sha256(file)}
    for expected in (link.sha256, locked.get("sha256", "")):
        if not found["sha256"].startswith(expected):
            file.unlink()
            raise UserError(
                f"models.{role}: {link.url} gave a file with SHA-256 {found['sha256']}, not {expected}…; it "
                f"was removed: run the same command again; if this stays so, check models.{role}.path and "
                "config/models.lock.json"
            )
    if archive:
        _unpack(role, link.url, file, path, found)
    return found


def _unpack(role: str, url: str, archive: Path, folder: Path, found: dict[str, Any]) -> None:
    """Unpack into a folder that appears whole; members that would leave it are refused."""
    try:
        with artifacts.appears_whole(folder / MANIFEST) as note, zipfile.ZipFile(archive) as members:
            for member in members.namelist():
                if member.startswith("/") or ".." in PurePosixPath(member).parts:
                    raise UserError(f"models.{role}: {archive}: '{member}' would lie outside the folder")
            members.extractall(folder)
            note.write_text(json.dumps(found) + "\n", encoding="utf-8")
    except zipfile.BadZipFile as error:
        archive.unlink()
        raise UserError(f"models.{role}: {url} is no zip archive; run the same command again") from error
    archive.unlink()
    shutil.rmtree(folder / "__MACOSX", ignore_errors=True)


if __name__ == "__main__":
    run_step(fetch_models, network=True)
