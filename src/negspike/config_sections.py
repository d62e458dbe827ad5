"""Parts of the configuration: lists and numbers as its keys have them, sections, and data sets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, create_model, model_validator
from pydantic_core import PydanticCustomError

from negspike.data.registry import AUGMENTATIONS, DATASETS, FORMATS, DatasetSpec
from negspike.errors import InputError

# No experiment has more epochs, time steps or images of a batch.
LARGEST_COUNT = 1_000_000


def _once(entries: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(entries)) < len(entries):
        raise PydanticCustomError("repeated", "repeated")
    return entries


Entry = TypeVar("Entry")
as_tuple = BeforeValidator(lambda given: tuple(given) if isinstance(given, list) else given)
ListOf = Annotated[tuple[Entry, ...], Field(min_length=1), as_tuple]
Distinct = Annotated[ListOf[Entry], AfterValidator(_once), Field(json_schema_extra={"uniqueItems": True})]
Count = Annotated[int, Field(ge=1, le=LARGEST_COUNT)]
Name = Annotated[str, Field(pattern="^[A-Za-z0-9_]+$")]


class Section(BaseModel):
    """A mapping of known keys; 16.0, true and "16" are no integers."""

    model_config = {"strict": True, "extra": "forbid", "frozen": True, "allow_inf_nan": False}

    @model_validator(mode="before")
    @classmethod
    def _know_every_key(cls, given: Any) -> Any:
        """Before anything else: an unknown key explains the one that is missing beside it."""
        known = [field.alias or name for name, field in cls.model_fields.items()]
        for key, entry in given.items() if isinstance(given, dict) else ():
            if key not in known and not cls._takes(key, entry):
                raise PydanticCustomError("unknown", "unknown", {"key": key, "known": known})
        return given

    @classmethod
    def _takes(cls, key: str, entry: Any) -> bool:
        """Whether an entry of another name may stand there."""
        return False


class File(Section):
    """Where a file comes from."""

    url: str = Field(pattern="^(https|http|file)://", description="where it is downloaded or copied from")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="checksum of the whole file")
    size: Annotated[int, Field(ge=1, le=10**15)] | Literal[None] = Field(None, description="bytes; null if not known")


_FILES = sorted({file for files in FORMATS.values() for file in files})
_Size = Annotated[int, Field(ge=1, le=65_535)]


class _Pictures(Section):
    """A data set of one's own: what its files hold, and how its images are presented (docs/experiment.md)."""

    format: Literal[tuple(FORMATS)] = Field(description="what its files are")  # type: ignore[valid-type]
    image_shape: Annotated[tuple[_Size, _Size, _Size], as_tuple] = Field(description="channels, height and width")
    classes: int = Field(ge=2, le=65_536, description="labels are 0 to one less")
    folder: str | None = Field(None, min_length=1, description="of `image_folder`, instead of an archive of it")
    resize: bool = Field(False, description="images of other sizes are scaled and cut; else they are refused")
    crop: Annotated[tuple[_Size, _Size], as_tuple] | None = Field(
        None, description="height and width that networks see, in the centre for test images"
    )
    padding: int = Field(
        0, ge=0, le=1_000, description="zeros around training images before they are cropped at random"
    )
    pixel_levels: int = Field(255, ge=1, le=65_535, description="pixels are divided by this")
    mean: Annotated[tuple[float, ...], as_tuple] = Field((), description="then less the mean, one number a channel")
    std: Annotated[tuple[float, ...], as_tuple] = Field((), description="then divided by this, one number a channel")
    standardize: bool = Field(False, description="instead, each image by its own mean and standard deviation")
    augmentation: Literal[tuple(AUGMENTATIONS)] = Field(  # type: ignore[valid-type]
        "none", description="what happens to training images at random"
    )
    validation: int = Field(0, ge=0, description="training images, evenly from all of them, that are held out")


_sources: Any = {name: (File | None, Field(None, description="where this file comes from")) for name in _FILES}
Pictures: Any = create_model("Pictures", __base__=_Pictures, __doc__=_Pictures.__doc__, **_sources)


def own_spec(name: str, pictures: Any) -> DatasetSpec:
    """Raises InputError: its values do not go with one another, or its files are not those of its format."""
    same = DatasetSpec.__dataclass_fields__.keys() - {"name", "levels"}
    try:
        spec = DatasetSpec(name=name, levels=pictures.pixel_levels, **{key: getattr(pictures, key) for key in same})
    except InputError as error:
        raise InputError(f"config key 'datasets.{name}': {error}") from None
    if spec.standardize and "pixel_levels" in pictures.model_fields_set:
        raise InputError(f"config key 'datasets.{name}.pixel_levels' has no effect on images that are standardised")
    given = {key for key in ("folder", *_FILES) if getattr(pictures, key) is not None}
    folder = spec.format == "image_folder" and given == {"folder"}
    if given != set(spec.files) and not folder:
        files = ", ".join(spec.files) or "no file"
        either = " or folder" if spec.format == "image_folder" else ""
        raise InputError(
            f"config key 'datasets.{name}' has {', '.join(sorted(given)) or 'no file'}: {spec.format} is read from"
            f" {files}{either}"
        )
    return spec


class _Datasets(Section):
    """Where the files of each dataset come from, and what those of one's own are."""

    model_config = {"extra": "allow"}
    __pydantic_extra__: dict[str, Pictures] = Field(init=False)

    @classmethod
    def _takes(cls, key: str, entry: Any) -> bool:
        return re.fullmatch("[A-Za-z0-9_]+", key) is not None and isinstance(entry, dict) and "format" in entry


def _known_files(name: str, files: Iterable[str]) -> Any:
    known: Any = dict.fromkeys(files, (File, ...))
    return create_model(name, __base__=Section, __doc__="Where its files come from.", **known)


_known: Any = {name: (_known_files(name, spec.files), None) for name, spec in DATASETS.items()}
Datasets: Any = create_model("Datasets", __base__=_Datasets, __doc__=_Datasets.__doc__, **_known)
