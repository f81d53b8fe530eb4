"""Images as records: a folder with one subfolder for each class."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qflsec.base import DataError, MissingExtra
from qflsec.base.places import files_at
from qflsec.data.raw import RawData, numbered
from qflsec.data.spec import DataSpec
from qflsec.data.tables import check_width, pixel_names, refuse_target

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["read_folder"]

_BYTE = (0.0, 255.0)
_GREY = frozenset({"1", "L", "LA"})
_DEEP = frozenset({"I", "I;16", "I;16B", "I;16L", "F"})


def read_folder(spec: DataSpec) -> RawData:
    """The images below a folder: pixels from 0 to 255, channel after channel and row by row.

    Raises:
        DataError: A file is no image, images have several sizes and none is set, or there are fewer than two classes.
        MissingExtra: Pillow is not installed.
    """
    assert spec.path is not None
    root = Path(spec.path)
    if not root.is_dir():
        raise DataError("there is no such folder of images", got=root, fix="check path")
    places = [(path, path.relative_to(root).parts) for path in files_at(spec.path)]
    stray = [path for path, parts in places if len(parts) != 2]
    if stray:
        raise DataError(
            f"{root} needs one subfolder of images for each class",
            got=f"{stray[0].relative_to(root)}",
            expected="class/image.png",
        )
    refuse_target([parts[0] for _, parts in places], f"the subfolders of {root}")
    heads = [_head(path) for path, _ in places]
    size, channels = _common(spec, [path for path, _ in places], heads)
    shape = (channels, *size)
    names = pixel_names(shape)
    check_width(len(names), spec, shape, f"{root} ({size[0]}x{size[1]} pixels, {channels} channels)")
    classes, labels = numbered([parts[0] for _, parts in places])
    return RawData(
        features=np.stack([_pixels(path, size, channels) for path, _ in places]),
        labels=labels,
        feature_names=tuple(names),
        class_names=classes,
        ranges=(_BYTE,) * len(names),
        image_shape=shape,
    )


def _opened(path: Path) -> Image:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MissingExtra(
            "folders of images need Pillow, which is not installed", fix="pip install 'qflsec[data]'"
        ) from error
    try:
        return Image.open(path)
    except UnidentifiedImageError as error:
        raise DataError("a file is no image", got=path, fix="move it out of the folder") from error
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{path} is larger than Pillow takes for safe", got=error, fix="make it smaller"
        ) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path} cannot be read", got=error) from error


def _head(path: Path) -> tuple[tuple[int, int], bool]:
    """Height and width, and whether the image is in colour; pixels are not read for it."""
    with _opened(path) as image:
        if image.mode in _DEEP:
            raise DataError(
                f"{path} has more than 8 bits for a pixel", got=image.mode, fix="save it with 8 bits"
            )
        return (image.height, image.width), image.mode not in _GREY


def _common(
    spec: DataSpec, paths: list[Path], heads: list[tuple[tuple[int, int], bool]]
) -> tuple[tuple[int, int], int]:
    """The size and the number of channels that all images get."""
    channels = spec.channels or (3 if any(colour for _, colour in heads) else 1)
    if spec.size is not None:
        return spec.size, channels
    (size, _), *others = Counter(size for size, _ in heads).most_common()
    if others:
        odd = next(path for path, (other, _) in zip(paths, heads, strict=True) if other != size)
        found = dict(zip(paths, heads, strict=True))[odd][0]
        raise DataError(
            f"images have several sizes: {odd}",
            got=f"{found[0]}x{found[1]}",
            expected=f"{size[0]}x{size[1]} (height x width) as most have",
            fix="set size = [height, width] to scale all of them",
        )
    return size, channels


def _pixels(path: Path, size: tuple[int, int], channels: int) -> NDArray[np.float64]:
    from PIL import Image

    try:
        with _opened(path) as image:
            ready = image.convert("L" if channels == 1 else "RGB")
    except (OSError, SyntaxError, ValueError) as error:  # Pillow raises all three for broken files
        raise DataError(f"{path} cannot be read as an image", got=error) from error
    if (ready.height, ready.width) != size:
        ready = ready.resize((size[1], size[0]), Image.Resampling.BOX)  # means of blocks, as reduction "pool"
    pixels: NDArray[Any] = np.asarray(ready, dtype=np.float64)
    return pixels.reshape(*size, channels).transpose(2, 0, 1).reshape(-1)
