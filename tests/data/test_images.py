"""Folders of images: one subfolder for each class, pixels as Pillow reads them."""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qflsec.base import DataError, MissingExtra
from qflsec.base.places import place_digest
from qflsec.data import DataSpec, RawData, load

Read = Callable[..., RawData]
Image = pytest.importorskip("PIL.Image")


def put(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture
def grey(tmp_path: Path) -> Path:
    """Two classes of 4x4 images, of which each has another grey in each pixel."""
    for index in range(30):
        put(
            tmp_path / ("cat" if index % 2 else "dog") / f"{index}.png",
            np.arange(16).reshape(4, 4) * 8 + index,
        )
    (tmp_path / "cat" / ".DS_Store").write_text("no image")
    return tmp_path


def test_grey_images_row_by_row(grey: Path, read: Read) -> None:
    raw = read(grey, name="folder", label_column=None)
    assert raw.class_names == ("cat", "dog")
    assert raw.image_shape == (1, 4, 4)
    np.testing.assert_array_equal(raw.features[0], np.arange(16) * 8 + 1)
    assert raw.ranges == ((0.0, 255.0),) * 16
    assert raw.feature_names[5] == "pixel 1,1"


def test_they_are_loaded_without_a_fit_on_any_record(grey: Path) -> None:
    spec = DataSpec(
        name="folder", path=str(grey), n_features=4, reduction="pool", preprocessing="fixed-range",
        feature_range=(0, 255), members=10, nonmembers=6, auxiliary=6, test=8,
    )  # fmt: skip
    data = load(spec, 1)
    row = int(np.flatnonzero(data.source_rows.numpy() == 0)[0])
    blocks = (np.arange(16) * 8 + 1).reshape(2, 2, 2, 2).mean(axis=(1, 3)).reshape(-1)
    np.testing.assert_allclose(data.features[row].numpy(), blocks, atol=1e-4)
    assert data.fitted_on.startswith("no record")
    assert data.remarks == ()


def test_colour_is_channel_after_channel_and_one_colour_image_makes_all_so(grey: Path, read: Read) -> None:
    colour = np.zeros((4, 4, 3))
    colour[..., 0], colour[0, 0, 2] = 200, 7
    put(grey / "cat" / "0.png", colour)
    raw = read(grey, name="folder", label_column=None)
    assert raw.image_shape == (3, 4, 4)
    np.testing.assert_array_equal(raw.features[0], [200] * 16 + [0] * 16 + [7] + [0] * 15)
    np.testing.assert_array_equal(raw.features[1], np.tile(np.arange(16) * 8 + 1, 3))
    assert raw.feature_names[16] == "channel 1 pixel 0,0"
    assert read(grey, name="folder", label_column=None, channels=1).image_shape == (1, 4, 4)


def test_several_sizes_need_a_common_one(grey: Path, read: Read) -> None:
    put(grey / "dog" / "large.png", np.repeat(np.repeat(np.arange(16).reshape(4, 4), 4, axis=0), 4, axis=1))
    with pytest.raises(DataError, match=r"several sizes: .*large.png; got 16x16; expected 4x4 .*set size"):
        read(grey, name="folder", label_column=None)
    raw = read(grey, name="folder", label_column=None, size=(4, 4))
    np.testing.assert_array_equal(raw.features[-1], np.arange(16))
    assert read(grey, name="folder", label_column=None, size=(2, 3)).image_shape == (1, 2, 3)


@pytest.mark.parametrize(
    ("place", "content", "sentence"),
    [
        ("cat/notes.txt", b"no image", "a file is no image; got .*notes.txt"),
        ("stray.png", b"", r"one subfolder of images for each class; got stray.png"),
        ("cat/broken.png", b"\x89PNG\r\n\x1a\n", "broken.png"),
    ],
)
def test_files_that_do_not_belong(grey: Path, read: Read, place: str, content: bytes, sentence: str) -> None:
    (grey / place).write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        read(grey, name="folder", label_column=None)


def test_a_cut_image_deep_pixels_and_too_many_features(grey: Path, read: Read) -> None:
    with pytest.raises(DataError, match=r"4x4 pixels, 1 channels\) has too few columns; got n_features=17"):
        read(grey, name="folder", label_column=None, n_features=17)
    content = (grey / "cat" / "1.png").read_bytes()
    (grey / "cat" / "1.png").write_bytes(content[:-30])
    with pytest.raises(DataError, match=r"1\.png cannot be read as an image"):
        read(grey, name="folder", label_column=None)
    Image.fromarray(np.ones((4, 4), dtype=np.uint16)).save(grey / "cat" / "1.png")
    with pytest.raises(DataError, match="more than 8 bits"):
        read(grey, name="folder", label_column=None)


def test_one_class_or_no_folder(grey: Path, read: Read) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read(grey / "none", name="folder", label_column=None)
    for path in (grey / "dog").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="single class; got 'cat'"):
        read(grey, name="folder", label_column=None)


def test_the_digest_follows_every_image_and_its_class(grey: Path) -> None:
    first = place_digest(str(grey))
    (grey / "cat" / ".DS_Store").write_text("another")
    assert place_digest(str(grey)) == first
    (grey / "cat" / "1.png").rename(grey / "dog" / "1.png")
    second = place_digest(str(grey))
    put(grey / "dog" / "1.png", np.zeros((4, 4)))
    assert len({first, second, place_digest(str(grey))}) == 3


def test_without_pillow(grey: Path, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtra, match=r"Pillow.*pip install 'qflsec\[data\]'"):
        read(grey, name="folder", label_column=None)


@pytest.mark.parametrize(
    ("what", "sentence"), [("pixels", "larger than Pillow takes for safe"), ("text", "too large")]
)
def test_what_swells_beyond_bounds_is_refused(grey: Path, read: Read, what: str, sentence: str) -> None:
    """Small files of 400 million pixels, and of 10^7 bytes of text."""
    path = grey / "cat" / "1.png"
    if what == "pixels":
        Image.new("1", (20_000, 20_000)).save(path)
    else:
        text = b"k\0\0" + zlib.compress(b"a" * 10**7)
        chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
        content = path.read_bytes()
        path.write_bytes(content[:33] + chunk + content[33:])
    assert path.stat().st_size < 100_000
    with pytest.raises(DataError, match=sentence):
        read(grey, name="folder", label_column=None)
