"""The exponential and the logarithm in float64, of our own: those of the systems' libraries differ in the last bit."""

import math

from stages.net.kernels.code import Code, Pointer, Value

TERMS = 13  # of the exponential's series: the next is below 2^-60 for |r| <= log(2) / 2
ROUND = 1.5 * 2.0**52  # a float64 beside this number has no bits after the point
LOG2E, LN2 = 1.4426950408889634, 0.6931471805599453
LN2_HIGH, LN2_LOW = 0.6931471803691238, 1.9082149292705877e-10  # their sum has more digits; k LN2_HIGH is exact


def power_of_e(code: Code, x: Value) -> Value:
    """Return e^x for x <= 0, as 2^k e^r with the Taylor series of e^r by Horner's rule; 0 below -700.

    e^NaN is NaN.
    """
    shifted = code.fma(x, LOG2E, ROUND)
    k = shifted - ROUND
    r = code.fma(-k, LN2_LOW, code.fma(-k, LN2_HIGH, x))
    total = code.number(1 / math.factorial(TERMS), "f64")
    for n in reversed(range(TERMS)):
        total = code.fma(total, r, 1 / math.factorial(n))
    # the last bits of `shifted` are k; those of 2^k are k + 1023, 52 places further up
    power = ((shifted.bits_as("i64") + 1023) << 52).bits_as("f64")
    return x.compare("<", -700.0).choose(code.number(0.0, "f64"), total * power)


def natural_log(code: Code, x: Value) -> Value:
    """Return the logarithm of x >= 1: k log(2) + 2 artanh(t), where x = 2^k (1 + t) / (1 - t), by artanh's series.

    The logarithm of NaN is NaN.
    """
    bits = x.bits_as("i64")
    mantissa = ((bits & (2**52 - 1)) | (1023 << 52)).bits_as("f64")
    k = ((bits >> 52) - 1023).to("f64")
    great = mantissa.compare(">", 1.4142135623730951)
    mantissa, k = great.choose(mantissa * 0.5, mantissa), great.choose(k + 1.0, k)
    t = (mantissa - 1.0) / (mantissa + 1.0)
    square = t * t
    total = code.number(1 / 23, "f64")
    for odd in range(21, 0, -2):
        total = code.fma(total, square, 1 / odd)
    return code.fma(k, LN2, 2.0 * t * total) + (x - x)  # + 0, or NaN for NaN and infinity


def log_of_sum(code: Code, row: Pointer, classes: Value) -> Value:
    """Return the logarithm of the sum of e^row[c] over the `classes`, in float64; the largest is taken out first."""
    top = code.variable(row[0])
    with code.loop(classes) as c:
        top.store(row[c].compare(">", top.load()).choose(row[c], top.load()))
    total = code.variable(code.number(0.0, "f64"))
    most = top.load().to("f64")
    with code.loop(classes) as c:
        total.store(total.load() + power_of_e(code, row[c].to("f64") - most))
    return natural_log(code, total.load()) + most
