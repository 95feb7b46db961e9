"""Images of the streaming server are those of `reconstruct` on the same readouts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mri_recon as mr
from tests.io.mrd_files import NOISE, Readout, messages_of, mrd, stream_header, write_stream
from tests.service.stream.conftest import Running
from tests.service.stream.scans import LAST_IN_MEASUREMENT, KspaceOf, header_of, scan_lines, undersampled
from tests.support.mrd_client import Client, hold_session
from tests.support.patience import PATIENCE
from tests.support.service import until

pytest.importorskip("ismrmrd", reason="the library ismrmrd is not installed")

pytestmark = pytest.mark.usefixtures("left_nothing")


def _expected(path: Path, method: str = "zero-filled", variable: str | None = None, **options: Any) -> Any:
    """The images of `reconstruct` on a file."""
    scan = mr.load(path, variable=variable)
    mask = scan.mask if scan.mask is not None else mr.random_mask(scan.width, 1, seed=0, support=scan.support)
    return mr.reconstruct(mr.undersample(scan.kspace, mask), mask, method=method, **options).image.numpy()


@pytest.mark.parametrize("configuration", ["zero-filled", "cg-sense", "cs-wavelet max_iters=20", "unet", "unrolled"])
@pytest.mark.parametrize("shape", [(3, 4, 33, 42), (1, 1, 48, 31)])
def test_equal_to_the_file(
    server: Running, kspace: KspaceOf, tmp_path: Path, configuration: str, shape: tuple[int, ...]
) -> None:
    full = kspace(*shape)
    lines, header = scan_lines(full, undersampled(shape[-1])), header_of(full)
    answer = hold_session(server.port, configuration, header, messages_of(lines))
    method, *options = configuration.split()
    expected = _expected(mrd(tmp_path / "a.h5", lines, header), method, **({"max_iters": 20} if options else {}))
    assert answer.closed
    assert len(answer.images) == shape[0]
    # The service runs several slices through a network at once, which rounds in another order.
    tolerance = 1e-5 * np.abs(expected).max() if method in ("unet", "unrolled") else 0
    np.testing.assert_allclose(answer.pixels, expected, rtol=0, atol=tolerance)
    assert "Research only" in answer.texts[0]
    assert answer.texts[-1] == f"{shape[0]} images of {len(lines)} readouts are sent"


def test_a_full_scan_and_options_that_draw_a_mask(server: Running, kspace: KspaceOf, tmp_path: Path) -> None:
    full = kspace(2, 2, 24, 30)
    lines, header = scan_lines(full), header_of(full)
    path = mrd(tmp_path / "a.h5", lines, header)
    answer = hold_session(server.port, "zero-filled", header, messages_of(lines))
    np.testing.assert_array_equal(answer.pixels, _expected(path))
    drawn = '{"parameters": {"config": "cg-sense", "acceleration": 3, "seed": 5, "max_iters": "4"}}'
    answer = hold_session(server.port, drawn, header, messages_of(lines))
    scan = mr.load(path)
    mask = mr.random_mask(scan.width, 3, seed=5, support=scan.support)
    expected = mr.reconstruct(mr.undersample(scan.kspace, mask), mask, method="cg-sense", max_iters=4).image.numpy()
    np.testing.assert_array_equal(answer.pixels, expected)


def test_all_slices_together_where_the_method_looks_at_all(server: Running, kspace: KspaceOf, tmp_path: Path) -> None:
    """`auto` and the hold-out check weigh a whole scan; the check's map of trust is a second series."""
    full = kspace(2, 2, 32, 36)
    lines, header = scan_lines(full, undersampled(36)), header_of(full)
    scan = mr.load(mrd(tmp_path / "a.h5", lines, header))
    options = {"max_iters": 10, "method": "cs-wavelet", "check": "holdout"}
    expected = mr.reconstruct(mr.undersample(scan.kspace, scan.mask), scan.mask, **options)
    answer = hold_session(server.port, "cs-wavelet max_iters=10 check=holdout", header, messages_of(lines))
    assert [one.image_series_index for one in answer.images] == [0, 0, 1, 1]
    assert [one.slice for one in answer.images] == [0, 1, 0, 1]
    assert [one.image_index for one in answer.images] == [1, 2, 3, 4]
    np.testing.assert_array_equal(answer.pixels[:2], expected.image.numpy())
    assert expected.trust_map is not None
    np.testing.assert_array_equal(answer.pixels[2:].real, expected.trust_map.numpy())
    candidates = "auto candidates=zero-filled,cg-sense"
    answer = hold_session(server.port, candidates, header, messages_of(lines))
    expected = mr.reconstruct(
        mr.undersample(scan.kspace, scan.mask), scan.mask, method="auto", candidates="zero-filled,cg-sense"
    )
    np.testing.assert_allclose(
        answer.pixels[:2], expected.image.numpy(), rtol=0, atol=1e-5 * float(expected.image.abs().max())
    )


def test_a_slice_comes_back_before_the_next_is_sent(server: Running, kspace: KspaceOf, tmp_path: Path) -> None:
    full = kspace(3, 2, 24, 30)
    lines, header = scan_lines(full, undersampled(30)), header_of(full)
    expected = _expected(mrd(tmp_path / "a.h5", lines, header))
    with Client(server.port) as client:
        client.configure(name="zero-filled")
        client.header(header)
        for number in range(3):
            client.send(messages_of([one for one in lines if one.idx["slice"] == number]))
            until(lambda number=number: len(client.answer.images) == number + 1)  # type: ignore[misc]
        answer = client.finish()
    np.testing.assert_array_equal(answer.pixels, expected)


def test_without_flags_the_limits_tell_that_a_slice_is_complete(server: Running, kspace: KspaceOf) -> None:
    full = kspace(1, 1, 9, 12)
    with Client(server.port) as client:
        client.configure(name="zero-filled.xml")
        client.header(header_of(full))
        client.send(messages_of(scan_lines(full, flag=False)))
        until(lambda: len(client.answer.images) == 1)
        assert client.finish().closed


def test_slices_in_turns(server: Running, kspace: KspaceOf, tmp_path: Path) -> None:
    """Interleaved slices, and slices from the last to the first."""
    full = kspace(3, 2, 21, 16)
    lines, header = scan_lines(full), header_of(full)
    expected = _expected(mrd(tmp_path / "a.h5", lines, header))
    turns = sorted(lines, key=lambda one: (one.idx["kspace_encode_step_1"], -one.idx["slice"]))
    answer = hold_session(server.port, "zero-filled", header, messages_of(turns))
    assert [one.slice for one in answer.images] == [2, 1, 0]
    np.testing.assert_array_equal(answer.pixels, expected[::-1])


def test_contrasts_repetitions_and_sets_are_images_each(server: Running, kspace: KspaceOf, tmp_path: Path) -> None:
    full = kspace(4, 2, 14, 12)
    lines = []
    for number, counters in enumerate([{}, {"contrast": 1}, {"repetition": 2}, {"set": 1, "phase": 3}]):
        for one in scan_lines(full[number : number + 1]):
            lines.append(Readout(one.data, one.flags, {**one.idx, **counters}, one.fields))  # noqa: PERF401
    header = header_of(full)
    path = mrd(tmp_path / "a.h5", lines, header)
    answer = hold_session(server.port, "zero-filled", header, messages_of(lines))
    found = [(one.contrast, one.repetition, one.set, one.phase) for one in answer.images]
    assert found == [(0, 0, 0, 0), (1, 0, 0, 0), (0, 2, 0, 0), (0, 0, 1, 3)]
    names = ["contrast=0", "contrast=1", "repetition=1", "cardiac=1"]
    for image, name in zip(answer.pixels, names, strict=True):
        np.testing.assert_array_equal(image, _expected(path, variable=name)[0])


def test_partitions_of_a_slab(server: Running, kspace: KspaceOf, tmp_path: Path) -> None:
    """A 3-D scan: the slab is complete with its last partition, and gives all its slices."""
    full = kspace(5, 2, 12, 10)
    lines = [
        Readout(one.data, one.flags, {**one.idx, "slice": 0, "kspace_encode_step_2": one.idx["slice"]}, one.fields)
        for one in scan_lines(full)
    ]
    header = header_of(full).replace("<z>1</z>", "<z>5</z>")
    expected = _expected(mrd(tmp_path / "a.h5", lines, header))
    assert len(expected) == 5
    with Client(server.port) as client:
        client.configure(text="zero-filled")
        client.header(header)
        client.send(messages_of(lines))
        until(lambda: len(client.answer.images) == 5)
        answer = client.finish()
    np.testing.assert_array_equal(answer.pixels, expected)
    assert [one.image_index for one in answer.images] == [1, 2, 3, 4, 5]


def test_averages_that_come_late_make_the_image_again(server: Running, kspace: KspaceOf, tmp_path: Path) -> None:
    """The flag is set in each average and the header does not say how many there are."""
    full = kspace(1, 2, 15, 12)
    first, second = scan_lines(full), scan_lines(kspace(1, 2, 15, 12, seed=4))
    second = [Readout(one.data, one.flags, {**one.idx, "average": 1}, one.fields) for one in second]
    header = header_of(full)
    answer = hold_session(server.port, "zero-filled", header, messages_of([*first, *second]))
    assert len(answer.images) == 2
    np.testing.assert_array_equal(answer.pixels[:1], _expected(mrd(tmp_path / "a.h5", first, header)))
    np.testing.assert_array_equal(answer.pixels[1:], _expected(mrd(tmp_path / "b.h5", [*first, *second], header)))
    assert "slice 0: more readouts came after its last one, the image is sent again" in answer.texts
    known = header_of(full, limits=True).replace(
        "</encodingLimits>", "<average><minimum>0</minimum><maximum>1</maximum></average></encodingLimits>"
    )
    answer = hold_session(server.port, "zero-filled", known, messages_of([*first, *second]))
    np.testing.assert_array_equal(answer.pixels, _expected(mrd(tmp_path / "c.h5", [*first, *second], known)))


def test_what_is_no_line_of_an_image_is_left_out_and_said(server: Running, kspace: KspaceOf, tmp_path: Path) -> None:
    import ismrmrd

    full = kspace(2, 2, 14, 12)
    noise = Readout(np.ones((2, 20), np.complex64), NOISE)
    separate = [Readout(one.data, 1 << 19, {**one.idx, "slice": 7}, one.fields) for one in scan_lines(full[:1])]
    lines, header = scan_lines(full), header_of(full)
    waveforms = [ismrmrd.Waveform.from_array(np.zeros((2, 5), np.uint32))] * 3
    image = ismrmrd.Image.from_array(np.zeros((1, 1, 3, 5), np.complex64))
    several = [*messages_of([noise, *separate]), *waveforms, image, *messages_of(lines)]
    answer = hold_session(server.port, "zero-filled", header, several)
    np.testing.assert_array_equal(answer.pixels, _expected(mrd(tmp_path / "a.h5", lines, header)))
    assert answer.texts[-1] == (
        f"2 images of {len(lines) + len(separate) + 1} readouts are sent; left out: 1 images, 3 waveforms, 1 noise "
        f"scans (the coils are not whitened), {len(separate)} readouts that are no lines of an image"
    )


def test_headers_have_the_place_and_the_counters(server: Running, kspace: KspaceOf) -> None:
    full = kspace(2, 1, 12, 10)
    lines = scan_lines(full, measurement_uid=77, acquisition_time_stamp=1234, physiology_time_stamp=(1, 2, 3))
    answer = hold_session(server.port, "zero-filled", header_of(full), messages_of(lines))
    for number, one in enumerate(answer.images):
        first = next(line for line in lines if line.idx["slice"] == number)
        np.testing.assert_allclose(one.position, first.fields["position"], atol=1e-5)
        np.testing.assert_allclose(one.read_dir, first.fields["read_dir"], atol=1e-6)
        np.testing.assert_allclose(one.slice_dir, first.fields["slice_dir"], atol=1e-6)
        assert tuple(one.field_of_view) == (12, 10, 5)
        assert (one.measurement_uid, one.acquisition_time_stamp) == (77, 1234)
        assert tuple(one.physiology_time_stamp) == (1, 2, 3)
        assert tuple(one.matrix_size) == (12, 10, 1)
        assert one.slice == number
        assert "Research only" in one.attribute_string


def test_the_end_of_the_measurement_ends_every_slice(server: Running, kspace: KspaceOf) -> None:
    full = kspace(2, 1, 12, 10)
    lines = scan_lines(full, undersampled(10), flag=False)
    lines[-1] = Readout(lines[-1].data, LAST_IN_MEASUREMENT, lines[-1].idx, lines[-1].fields)
    with Client(server.port) as client:
        client.configure(name="zero-filled")
        client.header(header_of(full))
        client.send(messages_of(lines))
        until(lambda: len(client.answer.images) == 2)
        assert client.finish().closed


def test_a_client_that_reads_only_after_it_has_sent_all(server: Running, kspace: KspaceOf, tmp_path: Path) -> None:
    full = kspace(12, 1, 40, 300)
    lines, header = scan_lines(full), header_of(full)
    answer = hold_session(server.port, "zero-filled", header, messages_of(lines), read=False)
    np.testing.assert_array_equal(answer.pixels, _expected(mrd(tmp_path / "a.h5", lines, header)))


def test_a_client_that_closes_its_side_after_close(server: Running, kspace: KspaceOf) -> None:
    """The connection stays half open for the images."""
    import socket

    full = kspace(3, 1, 20, 16)
    with Client(server.port) as client:
        client.configure(text="cg-sense max_iters=5")
        client.header(header_of(full))
        client.send(messages_of(scan_lines(full, undersampled(16))))
        client.serializer.close()
        client.socket.shutdown(socket.SHUT_WR)
        answer = client.wait()
    assert answer.closed
    assert len(answer.images) == 3


def test_version_two(server: Running, kspace: KspaceOf, tmp_path: Path) -> None:
    mrd2 = pytest.importorskip("mrd", reason="the extra 'scanners' is not installed")
    import socket

    full = kspace(3, 2, 24, 30)
    lines = scan_lines(full, undersampled(30), acquisition_time_stamp=5)
    header = stream_header((24, 30, 1), fov=(24, 30, 5), center=15)
    header.user_parameters = mrd2.UserParametersType(
        user_parameter_string=[mrd2.UserParameterStringType(name="mri-recon", value="cg-sense max_iters=5")]
    )
    path = write_stream(tmp_path / "a.mrd", lines, header, waveform=True)
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        connection.sendall(path.read_bytes())
        with connection.makefile("rb") as stream, mrd2.BinaryMrdReader(stream) as reader:
            assert reader.read_header() == header
            items = [item.value for item in reader.read_data()]
    found = np.stack([one.data[0, 0].T for one in items])
    np.testing.assert_array_equal(found, _expected(path, "cg-sense", max_iters=5))
    assert [one.head.slice for one in items] == [0, 1, 2]
    assert items[0].head.image_type == mrd2.ImageType.COMPLEX
    assert items[0].head.acquisition_time_stamp == 5
    np.testing.assert_allclose(items[1].head.position, lines[len(lines) // 2].fields["position"], atol=1e-5)
    assert "Research only" in items[0].meta["ImageComment"][0].value


def test_twenty_scans_at_once_two_of_them_cut_off(server: Running, kspace: KspaceOf, tmp_path: Path) -> None:
    """More than the server takes at once: those that are refused come again, as a client does."""
    from concurrent.futures import ThreadPoolExecutor

    def scan(number: int) -> Any:
        full = kspace(2, 2, 24, 30, seed=number)
        lines, header = scan_lines(full, undersampled(30)), header_of(full)
        if number in (4, 11):
            with Client(server.port) as client:
                client.configure(text="cs-wavelet max_iters=20")
                client.header(header)
                client.send(messages_of(lines[: len(lines) * 3 // 4]))
                client.raw(messages_of(lines[-1:])[0].to_bytes()[: 10 * number])
            return None
        while True:
            try:
                answer = hold_session(server.port, "cs-wavelet max_iters=20", header, messages_of(lines))
            except OSError:  # refused while it sent
                answer = None
            if answer is not None and answer.images:
                break
            time.sleep(0.05)
        expected = _expected(mrd(tmp_path / f"{number}.h5", lines, header), "cs-wavelet", max_iters=20)
        return answer.closed, answer.pixels, expected

    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(scan, range(20)))
    for number, one in enumerate(found):
        if number not in (4, 11):
            closed, pixels, expected = one
            assert closed
            np.testing.assert_array_equal(pixels, expected)
