"""What is odd about one picture or one caption: asked by ingest, the report and the collection alike."""

from collections.abc import Collection, Sequence
from itertools import dropwhile

from pipeline_steps.config import DataConfig
from pipeline_steps.data import picture_files as pictures
from pipeline_steps.data.findings import MEND, NOTE, Finding
from pipeline_steps.drawing.labels import many
from pipeline_steps.inputs.text import shown

FEW = {"train": 50, "test": 10}
"""Below this the method has little to stand on (the paper has 150 to 200 pictures a culture)."""


def sizes_of(config: DataConfig) -> Sequence[pictures.Size]:
    """Return the sizes that training pictures may have."""
    side = config.resolution
    return pictures.buckets(side) if config.aspect == "buckets" else [(side, side)]


def look(name: str, data: bytes, config: DataConfig) -> tuple[pictures.Cut, list[Finding]]:
    """Cut a picture as training sees it, and say what is odd about it.

    Args:
        name: of the picture, for the findings.
        data: the file's bytes.
        config: resolution, shape, limits.

    Raises:
        UnusableError: it has to be left out.
    """
    cut = pictures.cut(data, sizes_of(config), config.max_megapixels)
    oddities = [*cut.oddities, pictures.misnamed(name, cut.format)]
    found = [Finding(NOTE, "picture", name, oddity) for oddity in oddities if oddity]
    width, height = cut.picture.size
    if cut.crop[2] - cut.crop[0] < width:
        least = f"{config.resolution}" if width == height else f"{width}×{height}"
        size = f"{cut.width}×{cut.height} is smaller than {least} pixels"
        if not config.allow_upscale:
            raise pictures.UnusableError(f"{size}; find a larger one, or set data.allow_upscale")
        found.append(Finding(MEND, "small", name, f"{size} and is enlarged; find a larger one"))
    return cut, found


def duplicate(name: str, twin: str, same: str) -> Finding:
    """Name one of two pictures that are, or look, the same.

    Args:
        name: of the later one.
        twin: name of the other.
        same: "is the same picture as" or "looks the same as".
    """
    return Finding(MEND, "duplicate", shown(name), f"{same} {shown(twin)}; keep one of them")


def name_in(suffix: str) -> str:
    """Return what the suffix of prompts calls a culture: "South Africa" of ", in South Africa"."""
    words = suffix.strip(" ,.").split()
    # "in the" goes before a name that has a capital, or whose script knows none.
    name = [*dropwhile(str.islower, words)]
    return " ".join(name or words[1:] or words)


def culture_names(culture: str, name: str, suffix: str) -> tuple[str, ...]:
    """What a caption may call the culture: its names, and that in the suffix of its prompts; casefolded."""
    return tuple({word.casefold() for word in (culture, name, name_in(suffix)) if word})


def nameless(picture: str, caption: str, names: Collection[str]) -> Finding | None:
    """Say so where a caption does not name the culture; ``names`` are casefolded."""
    if any(word in caption.casefold() for word in names):
        return None
    return Finding(NOTE, "culture", picture, f"its caption names none of {', '.join(sorted(names))}")


def too_few(split: str, count: int) -> Finding | None:
    """Say so where a split has few pictures."""
    if count >= FEW[split]:
        return None
    return Finding(
        MEND, "number", "", f"only {many(count, f'{split} picture')}; {FEW[split]} or more serve better"
    )


def too_long(picture: str, tokens: int, limit: int) -> Finding | None:
    """Say so where a caption has more tokens than are read."""
    if tokens <= limit:
        return None
    return Finding(MEND, "caption", picture, f"its caption has {tokens} tokens, {limit} are read; shorten it")
