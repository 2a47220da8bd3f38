"""An entropy coder, asymmetric numeral systems (Duda 2013): symbols that their contexts predict, in few bytes.

page/data.js has the decoder. The lanes, many sequences of one length, are coded side by side, each with its own state.
"""

import base64

import numpy as np

PRECISION = 12  # bits of a probability
WORD = 16  # bits that a state gives out at a time


def encode(symbols: np.ndarray, contexts: np.ndarray) -> dict[str, str | int]:
    """Return `symbols` (lanes, steps; from 0) for the page, each in its context, a number in `contexts` (lanes, steps).

    In each context the symbols have frequencies of their own. A symbol's context must follow from the symbols before it
    in its lane, as the decoder knows no others.
    """
    frequency = frequencies(symbols, contexts)
    start = frequency.cumsum(1) - frequency
    pairs = contexts.astype(np.int32) * frequency.shape[1] + symbols  # places in `frequency`
    state = np.full(len(symbols), 1 << WORD, dtype=np.int64)
    words = []
    for pair in pairs.T[::-1].copy():  # the decoder goes forward; a copy has each step's pairs side by side
        share = frequency.take(pair)
        full = state >= share << 2 * WORD - PRECISION
        words.append(state[full] & (1 << WORD) - 1)
        state[full] >>= WORD
        quotient, rest = np.divmod(state, share)
        state = (quotient << PRECISION) + rest + start.take(pair)
    low, high = state & (1 << WORD) - 1, state >> WORD
    stream = np.concatenate([low, high, *words[::-1]])
    return {
        "lanes": len(symbols),
        "symbols": frequency.shape[1],
        "frequencies": embedded(frequency, "<u2"),
        "stream": embedded(stream, "<u2"),
    }


def frequencies(symbols: np.ndarray, contexts: np.ndarray) -> np.ndarray:
    """Return how often, of 2 ** PRECISION times, each symbol occurs in each context (contexts, symbols)."""
    counts = np.zeros((contexts.max() + 1, symbols.max() + 1), dtype=np.int64)
    np.add.at(counts, (contexts.ravel(), symbols.ravel()), 1)
    shares = (counts << PRECISION) // np.maximum(1, counts.sum(1, keepdims=True))
    shares = np.where(counts, np.maximum(1, shares), 0)
    rows = np.arange(len(shares))
    shares[rows, shares.argmax(1)] += (1 << PRECISION) - shares.sum(1)
    return shares


def embedded(values: np.ndarray, kind: str) -> str:
    """Return `values` in base64, as numbers of the NumPy type `kind`."""
    return base64.b64encode(values.astype(kind).tobytes()).decode()
