"""Sort readouts by the image that they make, and tell when an image is complete."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from mri_recon.io.formats.ismrmrd import Header
from mri_recon.io.formats.mrd_readouts import FLAGS
from mri_recon_service.stream.errors import SessionError
from mri_recon_service.stream.messages import Readout

__all__ = ["Image", "Images"]

_LAST_IN_SLICE, _LAST_IN_MEASUREMENT = (1 << (bit - 1) for bit in (8, 25))
_BITS = {kind: 1 << (bit - 1) for kind, bit in FLAGS.items()}
_NOISE, _CALIBRATION = _BITS["noise scans"], _BITS["calibration lines"]
_NO_IMAGE = sum(
    bit
    for kind, bit in _BITS.items()
    if kind not in ("calibration lines", "calibration and image lines", "reversed lines")
)
_MOST_ENCODINGS = 16
_MOST_PARTITIONS = 1 << 12
_MOST_LINES = 1 << 16  # of one image whose places are kept
_MOST_PLACES = 1 << 18  # of all images of a session

Key = tuple[int, int | None, int, int, int, int]


@dataclass(eq=False)
class Image:
    """The readouts of one image; those of a whole scan, where the method looks at all slices together.

    Attributes:
        number: number of the image in the session.
        key: encoding, slice (None: all of them), contrast, phase, repetition and set.
        first: the first readout without its bytes, for the header of the image.
        readouts: number of readouts since the image was last made.
        lines: number of them that are lines of the image.
        made: number of times that the image was made.
        partitions: the partitions that came, one bit for each.
        last_average: largest number of an average.
        places: places of the lines that came.
    """

    number: int
    key: Key
    first: Readout
    readouts: int = 0
    lines: int = 0
    made: int = 0
    partitions: int = 0
    last_average: int = 0
    places: set[int] = field(default_factory=set)

    @property
    def name(self) -> str:
        """The image in words: the slice, and the other counters that are not zero."""
        names = ("encoding", "slice", "contrast", "phase", "repetition", "set")
        told = [f"{name} {value}" for name, value in zip(names, self.key, strict=True) if value or name == "slice"]
        return ", ".join(told).replace("slice None", "all slices")


class Images:
    """The images of a session.

    Args:
        encoding: function that returns the header of an encoding.
        by_slice: whether every slice is an image of its own.
        most: largest number of images.

    Attributes:
        num_noise: number of noise scans, which belong to no image.
    """

    def __init__(self, encoding: Callable[[int], Header], *, by_slice: bool, most: int) -> None:
        self._encoding = encoding
        self._by_slice = by_slice
        self._most = most
        self._images: dict[Key, Image] = {}
        self._never_made: dict[Key, Image] = {}
        self._headers: dict[int, Header] = {}
        self._num_places = 0
        self.num_noise = 0

    def add(self, readout: Readout) -> tuple[Image | None, list[Image]]:
        """Sort a readout.

        Returns:
            The image that the readout belongs to, None for a noise scan; and the images that are complete with it. An
        image is complete once: lines that come later wait for the end of the session.

        Raises:
            SessionError: too many images or encodings.
            FormatError: an encoding that the header does not have.
        """
        image = None
        complete = False
        if readout.flags & _NOISE:
            self.num_noise += 1
        else:
            image = self._image_of(readout)
            image.readouts += 1
            if not readout.flags & _NO_IMAGE:
                complete = self._add_line(image, readout) and self._by_slice
        if readout.flags & _LAST_IN_MEASUREMENT:
            return image, [one for one in self._never_made.values() if one.lines]
        return image, [image] if image is not None and complete else []

    def unmade(self) -> list[Image]:
        """List the images with lines that have come since they were last made."""
        return [one for one in self._images.values() if one.lines]

    def num_unused(self) -> int:
        """Count the readouts that no image was made of, because none of their kind was a line of an image."""
        return sum(one.readouts for one in self._images.values() if not (one.lines or one.made))

    def making(self, image: Image) -> None:
        """Note that an image is made of the readouts so far."""
        image.readouts = image.lines = 0
        image.made += 1
        self._never_made.pop(image.key, None)
        self._num_places -= len(image.places)
        image.places.clear()

    def _image_of(self, readout: Readout) -> Image:
        which = readout.slice if self._by_slice else None
        key = (readout.encoding, which, readout.contrast, readout.phase, readout.repetition, readout.set)
        image = self._images.get(key)
        if image is None:
            if len(self._images) >= self._most:
                raise SessionError(
                    f"expected at most {self._most} slices, contrasts, repetitions and so on, got more: send the scan "
                    "in parts, or have MRI_RECON_STREAM_MAX_IMAGES raised"
                )
            image = Image(len(self._images), key, replace(readout, content=b""))
            self._images[key] = self._never_made[key] = image
        return image

    def _add_line(self, image: Image, readout: Readout) -> bool:
        """Count a line of an image, and tell whether the image is complete with it.

        It is by the flag of its last line, which counts once every partition and the last average came: some scanners
        set it in each of them. Otherwise it is when every place of the header's limits came, which never happens in
        an undersampled scan.
        """
        header = self._headers.get(readout.encoding)
        if header is None:
            if len(self._headers) >= _MOST_ENCODINGS:
                raise SessionError(
                    f"expected lines of at most {_MOST_ENCODINGS} encodings, got more: the stream is damaged, or send "
                    "the scan in parts"
                )
            header = self._headers[readout.encoding] = self._encoding(readout.encoding)
        if readout.flags & _CALIBRATION and not header.calibration_in_image:
            return False
        image.lines += 1
        if image.made:
            return False
        lines, partitions, averages = _limits(header)
        image.last_average = max(image.last_average, readout.average)
        if readout.partition < _MOST_PARTITIONS:
            image.partitions |= 1 << readout.partition
        if readout.flags & _LAST_IN_SLICE and image.partitions.bit_count() >= partitions:
            return image.last_average >= averages - 1
        inside = readout.line < lines and readout.partition < partitions and readout.average < averages
        total = lines * partitions * averages
        if not inside or total > _MOST_LINES or self._num_places >= _MOST_PLACES:
            return False
        before = len(image.places)
        image.places.add((readout.average * partitions + readout.partition) * lines + readout.line)
        self._num_places += len(image.places) - before
        return len(image.places) == total


def _limits(header: Header) -> tuple[int, int, int]:
    """Numbers of lines, partitions and averages by the limits of a header; no lines where it has no such limit."""
    lines = 0 if header.limit_maximum is None else header.limit_maximum + 1
    depth = header.depth or 1
    partitions = 1 if depth == 1 else depth if header.partition_maximum is None else header.partition_maximum + 1
    return lines, partitions, (header.average_maximum or 0) + 1
