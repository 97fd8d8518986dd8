"""Metadata that a fused image takes over from its visible image."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms
from PIL.ExifTags import GPS, IFD, Base

from rpfnet_jax.data import read_stored, write_image
from rpfnet_jax.data.metadata import Metadata

RGB = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
PLACE = {GPS.GPSLatitudeRef: "N", GPS.GPSLatitude: (52.0, 31.0, 12.25), GPS.GPSLongitudeRef: "E", GPS.GPSAltitude: 81.5}
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif(orientation=6):
    found = Image.Exif()
    found[Base.Orientation] = orientation
    found[Base.Make], found[Base.DateTime] = "DJI", "2026:11:27 12:00:00"
    found[IFD.Exif] = {Base.ExposureTime: 0.004, Base.LensModel: "24 mm", Base.ExifImageWidth: 40}
    found[IFD.GPSInfo] = PLACE
    # As if read from a file: Pillow's TIFF writer takes no other.
    read = Image.Exif()
    read.load(found.tobytes())
    return read


def visible(path):
    """A visible image as drones write it: lying on its side, with a thumbnail's worth of tags."""
    Image.fromarray(RGB).save(path, exif=exif(), icc_profile=PROFILE, dpi=(300, 300))
    return read_stored(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_profile_place_and_resolution_go_along_and_the_orientation_is_right(tmp_path, suffix, dtype):
    stored = visible(tmp_path / f"a{suffix}")
    assert stored.pixels.shape == (40, 24, 3)
    path = tmp_path / ("fused.png" if dtype == "uint8" else "fused.tif")
    write_image(
        path,
        (stored.pixels / 255 * {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]).astype(dtype),
        stored.metadata,
    )
    with Image.open(path) if dtype == "uint8" else tifffile.TiffFile(path) as file:
        if dtype == "uint8":
            tags, profile, dpi = file.getexif(), file.info["icc_profile"], file.info.get("dpi")
        else:
            tags, page = Image.Exif(), file.pages[0]
            tags.load(path.read_bytes())
            profile, dpi = page.tags[34675].value, page.get_resolution("INCH")
        assert profile == PROFILE
        if suffix != ".webp":  # Which stores no resolution.
            assert dpi == pytest.approx((300, 300), abs=0.01)
        assert tags.get(Base.Orientation, 1) == 1
        assert (tags[Base.Make], tags[Base.DateTime]) == ("DJI", "2026:11:27 12:00:00")
        assert tags.get_ifd(IFD.Exif)[Base.LensModel] == "24 mm"
        assert float(tags.get_ifd(IFD.Exif)[Base.ExposureTime]) == 0.004
        assert Base.ExifImageWidth not in tags.get_ifd(IFD.Exif)
        place = tags.get_ifd(IFD.GPSInfo)
        assert tuple(map(float, place[GPS.GPSLatitude])) == PLACE[GPS.GPSLatitude]
        assert place[GPS.GPSLatitudeRef] == "N"
    # And again from the fused image.
    again = read_stored(path).metadata
    assert again.icc == PROFILE
    assert again.tags()[IFD.GPSInfo][GPS.GPSLatitudeRef] == "N"


def test_a_profile_goes_along_only_where_it_fits():
    rgb, gray = (bytes(16) + space + bytes(100) for space in (b"RGB ", b"GRAY"))
    for profile, channels in ((rgb, (3, 4)), (gray, (1, 2)), (bytes(16) + b"CMYK" + bytes(9), ())):
        assert [count for count in (1, 2, 3, 4) if Metadata(profile).profile(count)] == list(channels)
    assert Metadata().profile(3) is None


def test_files_without_metadata_get_none(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    assert read_stored(tmp_path / "a.png").metadata == Metadata()
    write_image(tmp_path / "b.tif", RGB.astype(np.uint16))
    assert read_stored(tmp_path / "b.tif").metadata == Metadata()


def test_descriptions_of_the_structure_of_a_tiff_stay_behind(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", RGB, photometric="rgb", description="ImageJ=1.11a\nimages=7", software="camera"
    )
    assert read_stored(tmp_path / "a.tif").metadata.tags() == {int(Base.Software): "camera"}


@pytest.mark.filterwarnings("ignore")  # Pillow's, about the damage.
@pytest.mark.parametrize("position", range(0, 330, 7))
def test_damaged_exif_costs_neither_the_image_nor_the_result(tmp_path, position):
    data = bytearray(exif(orientation=1).tobytes())
    data[position % len(data)] ^= 0xFF
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=bytes(data))
    stored = read_stored(tmp_path / "a.png")
    assert stored.pixels.size == RGB.size
    for dtype in ("uint8", "uint16"):
        path = tmp_path / ("fused.png" if dtype == "uint8" else "fused.tif")
        write_image(path, stored.pixels.astype(dtype), stored.metadata)
        np.testing.assert_array_equal(read_stored(path).pixels, stored.pixels)


def test_metadata_of_pillows_images():
    data = io.BytesIO()
    Image.fromarray(RGB).save(data, "JPEG", exif=exif(), dpi=(72, 72))
    from rpfnet_jax.data.images import from_pillow

    with Image.open(data) as image:
        stored = from_pillow(image)
    assert stored.metadata.dpi == (72, 72)
    assert stored.metadata.tags()[IFD.GPSInfo][GPS.GPSLatitudeRef] == "N"
