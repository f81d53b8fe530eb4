"""Privacy amplification by a random Toeplitz matrix, multiplied by fast Fourier transforms.

The matrix is cut into square tiles. Each is a convolution of real 0/1 sequences, whose integer results are
recovered by rounding; that every rounding is right follows from an error bound which is checked on each
call, and the observed distance to the nearest integer is checked as well.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from qflsec.base import ConfigError, Secrets

__all__ = ["draw_seed", "rounding_bound", "toeplitz_hash", "toeplitz_seed_bits"]

Bits = npt.NDArray[np.uint8]
_TILE = 1 << 20
_MOST_TILES = 16
# The bound below is proved for radix 2; the library mixes radices with no more roundings per level.
_RESERVE = 16.0
_DRAW = 1 << 15


def toeplitz_seed_bits(n: int, length: int) -> int:
    """Bits that define a Toeplitz matrix of ``length`` rows and ``n`` columns."""
    return n + length - 1


def draw_seed(secrets: Secrets, n_bits: int) -> Bits:
    """Public random bits, which must be drawn after what they are to be independent of.

    Args:
        secrets: The drawing party's source; the bits are announced.
        n_bits: How many.
    """
    n_bytes = -(-n_bits // 8)
    pieces = [secrets.draw(min(_DRAW, n_bytes - at)) for at in range(0, n_bytes, _DRAW)]
    return np.unpackbits(np.frombuffer(b"".join(pieces), dtype=np.uint8), count=n_bits)


def rounding_bound(transform: int, norm_a: float, norm_b: float, terms: int = 1) -> float:
    """Bound on the error of a cyclic convolution that is computed by floating-point transforms.

    Args:
        transform: Length of the transforms, a power of two.
        norm_a: Euclidean norm of one operand.
        norm_b: Euclidean norm of the other.
        terms: How many products are added before the inverse transform.

    Source:
        Brent and Zimmermann, Modern Computer Arithmetic (2010), theorem 3.6, after Percival,
        Math. Comp. 72, 387 (2003); here with a reserve of 16 for other radices.
    """
    levels = int(math.log2(transform))
    unit = 2.0**-53
    growth = (
        3 * levels * unit + (3 * levels + 1) * math.sqrt(5.0) * unit + 3 * levels * 2 * unit + terms * unit
    )
    return _RESERVE * norm_a * norm_b * math.expm1(growth)


def toeplitz_hash(bits: Bits, seed: Bits, length: int) -> Bits:
    """Multiply a bit string by the Toeplitz matrix T[i, j] = seed[i - j + n - 1] over GF(2).

    A uniform seed makes this family universal_2, which the leftover hash lemma asks for. The time grows as
    n log n: the number of tiles is bounded.

    Args:
        bits: The reconciled key, 0/1.
        seed: Public uniform bits, drawn after reconciliation.
        length: Rows of the matrix: the length of the result.

    Shapes:
        bits [n]; seed [n + length - 1]; result [length].

    Raises:
        ConfigError: The shapes do not fit.

    Source:
        Krawczyk, CRYPTO '94 (Toeplitz hashing); Renner, PhD thesis (2005), corollary 5.6.1.
    """
    n = bits.size
    if not 0 < length <= n or seed.size != toeplitz_seed_bits(n, length):
        raise ConfigError(
            "the matrix does not fit the key", got=f"{length} rows, {n} bits, a seed of {seed.size}",
            expected="0 < rows <= bits and a seed of rows + bits - 1",
        )  # fmt: skip
    from scipy.fft import irfft

    tile = 1 << max(0, (n - 1).bit_length())
    if tile > _TILE:
        tile = max(_TILE, tile // _MOST_TILES)
    columns, rows = -(-n // tile), -(-length // tile)
    key = np.zeros(columns * tile)
    key[:n] = bits
    spectra = [_spectrum(block, tile) for block in key.reshape(columns, tile)]
    sums = _multiply(spectra, seed, n=n, rows=rows, tile=tile)
    norms = math.sqrt(float(bits.sum(dtype=np.int64))), math.sqrt(2.0 * float(seed.sum(dtype=np.int64)))
    bound = rounding_bound(2 * tile, *norms, terms=columns)
    assert bound < 0.25, f"rounding is not safe: error bound {bound}"
    result = np.empty(rows * tile, dtype=np.uint8)
    for row, total in enumerate(sums):
        values = irfft(total, 2 * tile)[tile - 1 : 2 * tile - 1]
        whole = np.rint(values)
        off = float(np.abs(values - whole).max())
        assert off < 0.25, f"rounding is not safe: {off} off the nearest integer"
        result[row * tile : (row + 1) * tile] = whole.astype(np.int64) & 1
    return result[:length]


def _spectrum(block: npt.NDArray[np.float64], tile: int) -> npt.NDArray[np.complex128]:
    from scipy.fft import rfft

    found: npt.NDArray[np.complex128] = rfft(block, 2 * tile)
    return found


def _multiply(
    spectra: list[npt.NDArray[np.complex128]], seed: Bits, *, n: int, rows: int, tile: int
) -> list[npt.NDArray[np.complex128]]:
    """Spectra of the result's blocks; the tiles on one diagonal are equal and transformed once."""
    columns = len(spectra)
    first = n - tile - (columns - 1) * tile
    # Seed bits for every diagonal of tiles, with zeros where a tile reaches past the matrix.
    padded = np.zeros((columns + rows) * tile, dtype=np.uint8)
    low, high = max(0, -first), min(padded.size, seed.size - first)
    padded[low:high] = seed[low + first : high + first]
    sums = [np.zeros(tile + 1, dtype=np.complex128) for _ in range(rows)]
    for diagonal in range(1 - columns, rows):
        start = (diagonal + columns - 1) * tile
        spectrum = _spectrum(padded[start : start + 2 * tile - 1].astype(np.float64), tile)
        for row in range(max(0, diagonal), min(rows, columns + diagonal)):
            sums[row] += spectrum * spectra[row - diagonal]
    return sums
