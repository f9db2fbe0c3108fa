"""Pictures as tensors against Pillow and against arithmetic on their pixels."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from pipeline_steps.method.pictures import crop, draw_views, normalise, resize, to_pictures, to_unit


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_pictures_become_tensors_and_pictures_again():
    array = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 3), dtype=np.uint8)
    unit = to_unit(array)
    assert unit.shape == (2, 3, 3, 5) and unit.dtype == torch.float32
    assert unit[1, 2, 0, 4].item() == pytest.approx(array[1, 0, 4, 2] / 255)
    back = to_pictures(unit)
    assert [picture.size for picture in back] == [(5, 3)] * 2 and back[0].mode == "RGB"
    np.testing.assert_array_equal(np.stack(back), array)
    torch.testing.assert_close(to_unit(back), unit, rtol=0, atol=0)


def test_values_are_rounded_to_the_nearest_and_clamped():
    values = torch.tensor([-0.2, 0.4 / 255, 0.6 / 255, 100.7 / 255, 1.3]).half()
    (picture,) = to_pictures(values.view(1, 1, 1, 5).repeat(1, 3, 1, 1).requires_grad_())
    assert np.asarray(picture)[0, :, 0].tolist() == [0, 0, 1, 101, 255]


def test_normalise_by_hand():
    unit = noise(2, 3, 2, 2)
    found = normalise(unit, (0.1, 0.2, 0.3), (0.5, 0.25, 2.0))
    for channel, (mean, deviation) in enumerate([(0.1, 0.5), (0.2, 0.25), (0.3, 2.0)]):
        torch.testing.assert_close(found[:, channel], (unit[:, channel] - mean) / deviation)
    assert normalise(unit.double()).dtype == torch.float64


@pytest.mark.parametrize(("height", "width", "side"), [(32, 32, 12), (20, 30, 12), (8, 12, 12)])
def test_resize_is_pillows(height, width, side):
    array = (noise(height, width, 3) * 255).byte().numpy()
    expected = to_unit([Image.fromarray(array).resize((side, side), Image.Resampling.BICUBIC)])
    torch.testing.assert_close(resize(to_unit([Image.fromarray(array)]), side), expected, rtol=0, atol=0.01)


def test_a_picture_of_that_size_is_left_alone():
    unit = noise(1, 3, 4, 4) * 1.5
    assert resize(unit, 4) is unit
    assert resize(unit, 3).max() <= 1 and resize(unit - 1, 3).min() >= 0


def test_views_are_the_whole_and_crops_of_half_to_nine_tenths():
    boxes = draw_views(2000, torch.Generator().manual_seed(0))
    assert boxes[0].tolist() == [0, 0, 1, 1]
    left, top, right, bottom = boxes[1:].unbind(1)
    torch.testing.assert_close(right - left, bottom - top)
    side = right - left
    assert 0.5 <= side.min() < 0.51 and 0.89 < side.max() <= 0.9
    # Where a crop lies is even over where it can: the share of the room left to its left and above it.
    for room in (left / (1 - side), top / (1 - side)):
        assert 0 <= room.min() < 0.01 and 0.99 < room.max() <= 1
        assert room.mean() == pytest.approx(0.5, abs=0.03)
    assert abs(np.corrcoef(left / (1 - side), top / (1 - side))[0, 1]) < 0.1
    assert torch.equal(boxes, draw_views(2000, torch.Generator().manual_seed(0)))
    assert not torch.equal(boxes[1], draw_views(2, torch.Generator().manual_seed(1))[1])


def test_a_crop_is_the_enlarged_box():
    """Wide boxes of whole pixels, another for each picture; at its edges a crop sees the pixels beside it."""
    unit = noise(2, 3, 8, 12)
    found = crop(unit, torch.tensor([[0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 1.0, 0.5]]))
    assert found.shape == unit.shape
    for picture, box in ((0, np.s_[4:8, 3:9]), (1, np.s_[0:4, 0:12])):
        size = (8, 12)
        expected = F.interpolate(unit[picture : picture + 1, :, *box], size, mode="bilinear")[0]
        inner = np.s_[:, 2:-2, 2:-2]
        torch.testing.assert_close(found[picture][inner], expected[inner])
    # Beside the lower edge of the first box there is nothing: the picture's edge goes on.
    torch.testing.assert_close(found[0, :, -1, 5], unit[0, :, -1, 5] * 0.75 + unit[0, :, -1, 6] * 0.25)


def test_a_crop_of_everything_is_the_picture():
    unit = noise(2, 3, 4, 4)
    assert crop(unit, torch.tensor([[0.0, 0, 1, 1]]).repeat(2, 1)) is unit
    mixed = crop(unit, torch.tensor([[0.0, 0, 1, 1], [0.0, 0, 0.5, 0.5]]))
    torch.testing.assert_close(mixed[0], unit[0])
    assert not torch.allclose(mixed[1], unit[1])
