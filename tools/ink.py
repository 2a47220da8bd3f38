"""Find the digits in a picture: what is paper, what is ink, and which marks make one digit."""

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.sparse import csgraph

from stages.common.errors import StageError

SMALLEST = 48  # pixels of the longest side: a smaller picture is enlarged before it is looked at
FLAT = 700  # grey values from side to side: where they change more slowly is one zone, however it is lit
THICK = 0.12  # of a zone's size, from its middle to its edge: what is thinner is a stroke, not paper
SOLID = 0.32  # in the same way: thicker is a sheet, a dot or a speck. A bold digit has 0.25, of 5 x 5 pixels 0.31
CONTRAST = 24  # of 255, between ink and paper, at least
INK = 0.35  # of the ink's contrast: what is fainter is paper, or the noise of JPEG
DIRT = 0.2  # of the size of the largest mark: what is smaller is no part of a digit
MOST = 100  # marks
STROKE = 0.1  # of a digit's size: a thinner stroke would fade when it is scaled down
NEIGHBOURS = np.ones((3, 3))


def find(grey: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return what may be a digit in `grey` (height, width; 0..255), from left to right: its ink and its box.

    The ink (height, width; 0..1) is cut out. The box (2, 2) is the first and last row, and the first and last column,
    as shares of the picture. Raises StageError if no strokes stand out from the paper, or too many.
    """
    scale = max(1, SMALLEST / max(grey.shape))
    size = [round(side * scale) for side in grey.shape[::-1]]
    ink = ink_of(np.asarray(Image.fromarray(grey.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)))
    ruled = rules(ink > INK)
    upright = np.flatnonzero(ruled.any(0))
    if (ink[~ruled] > INK).any() or np.ptp(upright) > 0.1 * ruled.shape[1]:  # else one line is all there is: a 1
        ink[ruled] = 0
    marks, _ = ndimage.label(ink > INK, NEIGHBOURS)
    boxes = np.array([[(of.start, of.stop) for of in box] for box in ndimage.find_objects(marks)]).reshape(-1, 2, 2)
    found, solid = [], []
    for group in sorted(grouped(marks, boxes), key=lambda group: boxes[group, 1, 0].min()):
        box = np.stack([boxes[group, :, 0].min(0), boxes[group, :, 1].max(0)], axis=1)
        place = tuple(slice(*ends) for ends in box)
        cut = np.where(np.isin(marks[place], group + 1), ink[place], 0)
        solid.append(thickness(cut > INK) > SOLID)
        found.append((thickened(cut), box / np.array(ink.shape)[:, None]))
    if all(solid):
        raise StageError("no digit: only ruled lines, a border, specks or filled areas")
    return found


def ink_of(grey: np.ndarray) -> np.ndarray:
    """Return how much ink there is (height, width; 0..1) in `grey`: what differs from the paper near it."""
    paper, page = paper_of(grey)
    smooth = ndimage.gaussian_filter(grey, 0.7)
    nearest = ndimage.distance_transform_edt(~paper, return_distances=False, return_indices=True)
    around = ndimage.gaussian_filter(grey, 1)[tuple(nearest)]
    # What is between two papers, such as the edge of a shadow, is no ink
    near = max(5, max(grey.shape) // 20)
    differences = ndimage.minimum_filter(around, near) - smooth, smooth - ndimage.maximum_filter(around, near)
    ink = max((np.where(page & (of > CONTRAST / 2), of, 0) for of in differences), key=lambda of: (of**2).sum())
    if ink.max() < CONTRAST:
        raise StageError("blank: no digit stands out from the paper")
    return np.clip(ink * ink.sum() / (ink**2).sum(), 0, 1)


def paper_of(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which pixels of `grey` are paper, and which are on the page, that is paper or ink (height, width; bool).

    Paper is flat, and reaches the frame. Flat ground that does not, but has marks on it, is a page: on a desk, say.
    """
    everywhere = np.ones(grey.shape, dtype=bool)
    side, edge = max(grey.shape), ends(grey)
    if side <= SMALLEST:  # nothing in it is flat
        level = max(grey.max(), grey.min(), key=lambda level: -abs(level - edge.mean()))
        return abs(grey - level) < CONTRAST, everywhere
    slope = side * ndimage.gaussian_gradient_magnitude(grey, max(1, side / 200), mode="nearest")
    zones, count = ndimage.label(slope < FLAT)
    reach = np.bincount(ends(zones), minlength=count + 1) / len(edge)
    area = np.bincount(zones.ravel(), minlength=count + 1) / zones.size
    thick = [zone for zone in np.flatnonzero(area > 0.03) if zone and thickness(zones == zone) > THICK]
    pages = [
        (page.sum(), zone, page)
        for zone in thick
        if reach[zone] < 0.5 and (page := with_marks(zones == zone, grey)).any()
    ]
    if pages:
        _, zone, page = min(pages, key=lambda of: of[0])
        return zones == zone, page
    level = np.median(edge[ends(zones) > 0]) if reach[1:].any() else np.median(grey)
    levels = ndimage.median(grey, zones, range(count + 1))
    like = np.flatnonzero((abs(levels - level) < CONTRAST) & (reach > 0))
    return np.isin(zones, [*like, *(zone for zone in thick if reach[zone] > 0.2)]) & (zones > 0), everywhere


def ends(values: np.ndarray) -> np.ndarray:
    """Return the outermost of `values` (height, width), side by side."""
    return np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])


def thickness(zone: np.ndarray) -> float:
    """Return how far it is at most from the middle of `zone` (bool) to its edge, as a share of its size."""
    size = max(np.ptp(np.nonzero(zone), axis=1)) + 1
    return float(ndimage.distance_transform_edt(np.pad(zone, 1)).max() / size)


def with_marks(zone: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """Return `zone` (bool) and what it encloses, or nothing, if it encloses no marks of some size and contrast."""
    page = ndimage.binary_fill_holes(zone)
    other = page & ~zone & (abs(grey - np.median(grey[zone])) > CONTRAST)
    marks = ndimage.find_objects(ndimage.label(other, NEIGHBOURS)[0])
    size = max((of.stop - of.start for mark in marks for of in mark), default=0)
    return page & (size > 0.1 * max(np.ptp(np.nonzero(zone), axis=1)))


def rules(ink: np.ndarray) -> np.ndarray:
    """Return which of `ink` (height, width; bool) is ruled lines: thin, level or upright, from one side to the other.

    A stroke that crosses a line is not thin where it does.
    """
    ruled = np.zeros_like(ink)
    for of, out in ((ink, ruled), (ink.T, ruled.T)):
        height, width = of.shape
        thin = of & ~opened(of & ~out, round(0.03 * height), axis=0)
        runs = opened(thin, width // 15, axis=1)
        lines, _ = ndimage.label(~opened(~runs, width // 2, axis=1), NEIGHBOURS)
        for number, box in enumerate(ndimage.find_objects(lines), start=1):
            line = runs[box] & (lines[box] == number)
            columns = box[1].start + np.flatnonzero(line.any(0))
            if columns[0] < 0.03 * width and columns[-1] > 0.97 * width:
                out[box] |= line
    rest, _ = ndimage.label(ink & ~ruled, NEIGHBOURS)
    beside = ndimage.binary_dilation(ruled, NEIGHBOURS)
    return ink & (ruled | ~np.isin(rest, rest[~beside]))  # a mark wholly beside a line is its edge


def opened(ink: np.ndarray, length: int, axis: int) -> np.ndarray:
    """Return those of the runs in `ink` (bool) along `axis` that have more than about `length` pixels."""
    size = 3 + 2 * (length // 2)
    return ndimage.grey_opening(ink.astype(np.uint8), np.roll((size, 1), axis)).astype(bool)


def grouped(marks: np.ndarray, boxes: np.ndarray) -> list[np.ndarray]:
    """Return which of the labelled `marks`, with `boxes` (n, 2, 2), make a digit each, without borders and dirt.

    Marks of one digit stand one over the other, or all but touch.
    """
    size = np.ptp(boxes, axis=2).max(1)
    sides = marks[0], marks[-1], marks[:, 0], marks[:, -1]
    border = np.any([np.bincount(side, minlength=len(size) + 1)[1:] > len(side) / 2 for side in sides], axis=0)
    if size[~border].max(initial=0) > DIRT * size.max(initial=0):
        size = np.where(border, 0, size)
    kept = np.flatnonzero(size > DIRT * size.max(initial=0))
    if len(kept) > MOST:
        raise StageError(f"{len(kept)} marks, expected at most {MOST}: a texture, or a whole text")
    first, last, size = boxes[kept, :, 0], boxes[kept, :, 1], size[kept]
    gap = np.maximum(first[:, None] - last, first - last[:, None])  # (n, n, 2); below 0 where they overlap
    size, width = np.maximum.outer(size, size), np.minimum.outer(*2 * [(last - first)[:, 1]])
    near = (gap[..., 1] < -width / 2) & (gap[..., 0] < size / 4) | (gap.max(2) < 0.05 * size)
    count, group = csgraph.connected_components(near)
    return [kept[group == number] for number in range(count)]


def thickened(ink: np.ndarray) -> np.ndarray:
    """Return `ink` (height, width; 0..1), with a margin, its strokes no thinner than STROKE of its size."""
    least = STROKE * max(ink.shape)
    ink = np.pad(ink, int(least) + 1)
    strokes = ink > INK
    width = 4 * ndimage.distance_transform_edt(strokes)[strokes].mean() - 2
    grown = (least - width) / 2 + 0.5 - ndimage.distance_transform_edt(~strokes)
    return np.maximum(ink, np.clip(grown, 0, 1)) if width < least else ink
