"""From what was sent to a stored picture: decoded in a process of its own, within limits.

What is stored is what was seen, encoded anew: whatever else the bytes held, camera and position, scripts or
another file behind the picture, ends in that process.
"""

import errno
import hashlib
import multiprocessing
import os
import resource
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline_steps.config import DataConfig
from pipeline_steps.data import picture_files
from pipeline_steps.data.checks import look
from pipeline_steps.data.names import content_name
from pipeline_steps.data.picture_files import UnusableError
from pipeline_steps.errors import FULL
from pipeline_steps.machine.cores import cores

SECONDS = 30.0
"""One picture may take; a telephone's takes one."""
QUALITY = 95
"""Of the stored JPEG."""
PREVIEW = 480
"""Longest side of a preview in pixels."""
OUTSIDE = 0.35
"""How bright a preview is where training does not look."""


@dataclass(frozen=True)
class Taken:
    """A picture that is taken in.

    Attributes:
        name: of its files, by their content.
        width: of the upright picture in pixels.
        height: of the upright picture in pixels.
        small: its central square, 16 × 16 RGB, by which duplicates are found.
        findings: what is odd about it: severity, kind and line of each.
    """

    name: str
    width: int
    height: int
    small: bytes
    findings: list[tuple[int, str, str]]


class FullError(OSError):
    """There is no room left."""


@dataclass
class Intake:
    """Takes pictures in, as many at once as there are cores; each in a process that can be ended.

    Attributes:
        config: what training sees of a picture, and how large one may be.
        seconds: one may take.
    """

    config: DataConfig
    seconds: float = SECONDS
    workers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(cores(), "intake"))

    def __post_init__(self) -> None:
        # A process that is forked from one that has the packages begins in milliseconds.
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload([__name__])

    def take_in(self, sent: Path, stored: Path, preview: Path) -> Taken:
        """Decode a picture and store what is seen, on the disk before this returns.

        Args:
            sent: file with the bytes as they came.
            stored: JPEG to write: upright, sRGB, nothing but the pixels.
            preview: small JPEG to write; what training leaves out is dark.

        Raises:
            UnusableError: it is no picture, or one that cannot be used, or too much work.
            FullError: the disk is full.
            OSError: it could not be read or stored.
        """
        ours, theirs = self.context.Pipe(duplex=False)
        arguments = (sent, stored, preview, self.config, self.seconds, theirs)
        process = self.context.Process(target=_work, args=arguments, daemon=True)
        process.start()
        theirs.close()
        try:
            if not ours.poll(self.seconds):
                raise UnusableError("takes too long to decode; export it as JPEG")
            outcome, content = ours.recv()
        except EOFError:
            raise UnusableError("takes too much to decode; export it as JPEG") from None
        finally:
            process.kill()
            process.join()
            process.close()
            ours.close()
        if outcome == "taken":
            return Taken(*content)
        raise {"full": FullError, "failed": OSError, "unusable": UnusableError}[outcome](content)


def _work(
    sent: Path, stored: Path, preview: Path, config: DataConfig, seconds: float, answer: Connection
) -> None:
    """The process: answers with what became of the picture, or is ended."""
    os.nice(5)  # pages come first
    memory = int(1.5e9 + 20e6 * config.max_megapixels)
    for kind, limit in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, int(seconds) + 1),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (limit, limit))
    try:
        answer.send(("taken", _take(sent, stored, preview, config)))
    except UnusableError as error:
        answer.send(("unusable", str(error)))
    except OSError as error:
        answer.send((_fault(error), str(error)))
    except (MemoryError, ValueError):
        answer.send(("unusable", "takes too much to decode; export it as JPEG"))


def _fault(error: OSError) -> str:
    """What is at fault: a full disk, the machine, or the picture; what Pillow cannot encode has no number."""
    if error.errno in FULL:
        return "full"
    return "unusable" if error.errno in (None, errno.ENOMEM) else "failed"


def _take(sent: Path, stored: Path, preview: Path, config: DataConfig) -> tuple[Any, ...]:
    whole = picture_files.decode(sent.read_bytes(), config.max_megapixels)
    _save(whole.picture, stored, QUALITY)
    data = stored.read_bytes()
    name = content_name(hashlib.sha256(data).hexdigest())
    cut, found = look(name, data, config)
    _save(_preview(whole.picture, cut.crop), preview, 85)
    odd = [(finding.severity, finding.kind, finding.line) for finding in found]
    odd += [(2, "picture", oddity) for oddity in whole.oddities]
    return name, cut.width, cut.height, cut.small.tobytes(), odd


def _preview(picture: Image.Image, crop: tuple[int, int, int, int]) -> Image.Image:
    """Return a small copy, dark where training does not look."""
    small = picture.copy()
    small.thumbnail((PREVIEW, PREVIEW))
    scale = small.width / picture.width
    left, top, right, bottom = (round(edge * scale) for edge in crop)
    inside = small.crop((left, top, right, bottom))
    dark = small.point([round(OUTSIDE * value) for value in range(256)] * 3)
    dark.paste(inside, (left, top))
    return dark


def _save(picture: Image.Image, path: Path, quality: int) -> None:
    picture.info.clear()
    with path.open("wb") as file:
        picture.save(file, "JPEG", quality=quality)
        file.flush()
        os.fsync(file.fileno())
