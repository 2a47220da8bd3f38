"""The product behind convolutions, linear layers and their gradients, its sums in registers."""

from collections.abc import Iterator
from typing import Any

from stages.net.kernels.code import Code, Target, Value
from stages.net.kernels.compiler import kernel

WIDEST, TALLEST = 3, 8  # vectors and rows of a tile, at most


@kernel(
    "f32* a, i64* row, i64 rows, i64 panel, f32* b, f32* c, i64 stride, i64 columns, f32* start, i64 fresh,"
    "i64 segments, i64* first, i64* place, i64* a_tap, i64* b_tap, i64 inner, i64 step"
)
def product(code: Code, *arguments: Any) -> None:
    """c[m, s, n] = start[n] + the chain, over the taps t of segment s and over j < inner, of
    a[row[m] + a_tap[t] + j step] * b[b_tap[t] + j columns + n]: one fused multiply-add after the other.

    c[m, s, n] is at c + m stride + place[s] + n. Segment s has the taps from first[s] up to first[s + 1]. Only the
    `fresh` first segments begin with start; the chains of the others go on with what is in c.

    The order in which different sums are computed is free. So a tile of some rows and columns is summed at a time, as
    large as the registers allow: each number that is loaded serves a whole row or column of it. `panel` rows are
    computed for all segments and columns before the next rows, so that what they read stays in the processor's cache.
    """
    a, row, rows, panel, b, c, stride, columns, start, fresh, segments, first, place, a_tap, b_tap, inner, step = (
        arguments
    )

    def tile(height: int, width: int, top: Value, left: Value, s: Value) -> None:
        """Compute the sums of `height` rows from `top` and `width` columns from `left` in segment `s`, in registers."""
        parts = list(vectors(width, code.target.lanes))
        a_rows = [a + row[top + m] for m in range(height)]
        c_rows = [c + (top + m) * stride + place[s] + left for m in range(height)]
        begins = [s.compare("<", fresh).choose(start + left, c_row) for c_row in c_rows]
        sums = [[code.variable((begin + at).load_first(*size)) for at, *size in parts] for begin in begins]
        with code.loop(first[s + 1], first[s]) as t:
            a_at, b_at = code.variable(a_tap[t]), code.variable(b_tap[t] + left)
            with code.loop(inner):
                b_parts = [(b + b_at.load() + at).load_first(*size) for at, *size in parts]
                for a_row, of_row in zip(a_rows, sums, strict=True):
                    factor = a_row[a_at.load()]
                    for (_, _, lanes), b_part, total in zip(parts, b_parts, of_row, strict=True):
                        total.store(code.fma(factor.spread(lanes), b_part, total.load()))
                a_at.store(a_at.load() + step)
                b_at.store(b_at.load() + columns)
        for c_row, of_row in zip(c_rows, sums, strict=True):
            for (at, *size), total in zip(parts, of_row, strict=True):
                (c_row + at).store_first(total.load(), *size)

    widest = WIDEST * code.target.lanes
    with code.loop(rows, step=panel) as top:
        bottom = (top + panel).at_most(rows)
        with code.loop(segments) as s, code.loop(columns, step=widest) as left:
            for width in code.cases((columns - left).at_most(widest), range(1, widest + 1)):
                begin = top
                for height in heights(width, code.target):
                    end = bottom - (bottom - begin) % height
                    with code.loop(end, begin, step=height) as m:
                        tile(height, width, m, left, s)
                    begin = end


def heights(width: int, target: Target) -> list[int]:
    """Return the rows of a tile of `width` columns: as many as the registers allow, then fewer for the rest."""
    sums = len(list(vectors(width, target.lanes)))
    # A row takes a register for each of its sums; the part of b takes as many, and a's factor one.
    tallest = min(TALLEST, (target.registers - 1) // sums - 1)
    return sorted({tallest, *(height for height in (4, 2, 1) if height < tallest)}, reverse=True)


def vectors(width: int, widest: int) -> Iterator[tuple[int, int, int]]:
    """Yield place, columns and lanes of the vectors for `width` columns; the last one may have more lanes than columns.

    Then the lanes that are left over compute what nobody reads: one wide operation takes no longer than a narrow one.
    """
    for place in range(0, width, widest):
        columns = min(widest, width - place)
        yield place, columns, 1 << (columns - 1).bit_length()
