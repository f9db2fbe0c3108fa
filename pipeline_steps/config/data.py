"""Settings of the data: cultures, and how their pictures are taken in."""

import re
import unicodedata
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipeline_steps.config.base import Section, Share

HUB = "hub:"
"""What "images" of a culture begins with where they are a data set on the Hugging Face hub."""
UNSPACED = (
    *("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "HALFWIDTH", "FULLWIDTH", "BOPOMOFO", "YI "),
    *("THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN", "TAI ", "NEW TAI", "JAVANESE", "BALINESE"),
)
"""Scripts that put no space between words, by what Unicode's names of their letters begin with. All others
do, Hangul too, and these are few."""


class Culture(Section):
    """A culture, or any group that wants to be drawn rightly."""

    suffix: str = Field(min_length=1)
    """Appended to test prompts and to BLIP's captions as it stands, so begin it with a comma or a space where
    its script parts words: ", in Korea". Your own captions stay as written: let them name the culture."""
    images: Path
    """Folder of pictures with metadata.jsonl, .csv, .tsv, .xlsx or .parquet, or one .txt per picture; or a
    Hugging Face data set as Parquet, or on the hub ("hub:owner/name", "hub:owner/name@commit"); or a .csv
    of links (url, caption), called otherwise than metadata.csv. What is not here is downloaded."""
    country: str | None = None
    """Of a table of links, take only the rows with this country_code."""
    withdrawn: Path | None = None
    """List of withdrawn pictures, one file name or image id a line; they are left out. null: withdrawn.txt in
    the pictures' folder, where there is one."""
    name: str | None = None
    """As people write it, e.g. "Yorùbá"; pages show it instead of the name in the configuration."""
    prompts: Path | None = None
    """Test prompts, one a line, or a table with the columns prompt, category and era; the suffix is appended
    to each. null: evaluation.prompts."""

    @field_validator("suffix", "name")
    @classmethod
    def _one_line(cls, text: str | None) -> str | None:
        if text is not None and (not text.strip(" ,.") or not text.isprintable() or text.startswith("-")):
            raise ValueError("must be one line of visible text without a leading '-', e.g. ', in Korea'")
        return text

    @field_validator("suffix")
    @classmethod
    def _apart(cls, suffix: str) -> str:
        if suffix[0].isalnum() and not unicodedata.name(suffix[0], "").startswith(UNSPACED):
            raise ValueError(f"would be joined to the last word of a prompt; write ', {suffix}'")
        return suffix

    @field_validator("images")
    @classmethod
    def _hub_id(cls, images: Path) -> Path:
        if str(images).startswith(HUB) and not re.fullmatch(
            r"hub:\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?", str(images)
        ):
            raise ValueError("a data set on the hub is written hub:owner/name or hub:owner/name@commit")
        return images

    @property
    def has_links(self) -> bool:
        """Whether ``images`` is a table of links: a .csv that is not the metadata of a folder."""
        return self.images.suffix.lower() == ".csv" and self.images.stem.lower() != "metadata"

    @property
    def own_list(self) -> Path | None:
        """Where the folder has its own list of withdrawn pictures; links and data sets have none."""
        if str(self.images).startswith(HUB) or self.has_links:
            return None
        folder = self.images.parent if self.images.stem.lower() == "metadata" else self.images
        return folder / "withdrawn.txt"

    @model_validator(mode="after")
    def _country_of_a_table(self) -> "Culture":
        if self.country is not None and not self.has_links:
            raise ValueError("country: only a table of links (.csv) has countries; leave it out")
        return self


class DataConfig(Section):
    """Ingest: from a folder of pictures to one table."""

    caption_column: str = "text"
    """Column of the metadata that holds the hand-written caption."""
    resolution: int = Field(64, ge=16, le=4096, multiple_of=8)
    """Side of the square training pictures in pixels."""
    aspect: Literal["square", "buckets"] = "square"
    """The central square of each picture, or the largest part that has the shape of one of a few sizes of
    about as many pixels: less is cut off, and pictures are trained on one at a time."""
    test_share: Share = 0.2
    """Share of pictures held out for evaluation when the metadata has no "split" column."""
    allow_upscale: bool = True
    """Enlarge pictures smaller than the resolution instead of leaving them out."""
    require_consent: bool = False
    """Leave out pictures whose "consent" is empty. One that is neither a clear yes nor empty is always left
    out."""
    allowed_hosts: tuple[str, ...] = ()
    """Servers of links that may lie on a private network, e.g. "pictures.example.org"; all others must have
    public addresses."""
    duplicate_difference: float = Field(4.0, ge=0, le=32)
    """Pictures that differ by no more than this (mean of 0–255, seen small) count as the same; 0: only
    identical ones."""
    max_megapixels: float = Field(120, gt=0, le=2000)
    """Larger pictures are left out: some are made to fill the memory."""
    max_megabytes: float = Field(100, gt=0, le=4000)
    """Larger files are left out."""
