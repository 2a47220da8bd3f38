"""Functions written as LLVM's intermediate representation: a thin layer of Python over llvmlite, for kernels.

A kernel is a Python function that runs once, when the kernels are compiled. Its values stand for those of the compiled
function: `+` writes an addition, `x[i]` a load, `with code.loop(n) as i` a loop. Each operation is one IEEE operation,
on one number or on each lane of a vector. Nothing is reordered or contracted, as no fast-math flag is ever set.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Union

from llvmlite import ir

U8, I64, F32, F64 = ir.IntType(8), ir.IntType(64), ir.FloatType(), ir.DoubleType()
TYPES = {"u8": U8, "i64": I64, "f32": F32, "f64": F64}
SIZES = {U8: 1, F32: 4, I64: 8, F64: 8}  # bytes
Number = Union["Value", int, float]


@dataclass(frozen=True)
class Target:
    """A processor, and what its registers hold. That decides the speed, and no bit."""

    cpu: str
    features: str  # by LLVM's names
    lanes: int  # float32 numbers in a vector
    registers: int  # for vectors


def _operator(integer: str, floating: str = "", swapped: bool = False) -> Callable[["Value", Number], "Value"]:
    """Return the method of an operator: it writes llvmlite's instruction of this name for whole or floating numbers."""

    def method(self: "Value", other: Number) -> "Value":
        a, b = self.ir, self.code.constant(other, self.ir.type)
        name = floating if _element(self.ir.type) in (F32, F64) else integer
        return self.like(getattr(self.code.builder, name)(*((b, a) if swapped else (a, b))))

    return method


class Value:
    """A number, or a vector of numbers, of the compiled function."""

    def __init__(self, code: "Code", value: Any):
        self.code, self.ir = code, value

    def like(self, value: Any) -> "Value":
        """Return llvmlite's `value` as one of ours."""
        return Value(self.code, value)

    def __neg__(self) -> "Value":
        return self.like(self.code.builder.fneg(self.ir))

    __add__ = __radd__ = _operator("add", "fadd")
    __sub__, __rsub__ = _operator("sub", "fsub"), _operator("sub", "fsub", swapped=True)
    __mul__ = __rmul__ = _operator("mul", "fmul")
    __truediv__, __rtruediv__ = _operator("", "fdiv"), _operator("", "fdiv", swapped=True)
    __mod__ = _operator("urem")
    __and__, __or__ = _operator("and_"), _operator("or_")
    __lshift__, __rshift__ = _operator("shl"), _operator("ashr")

    def compare(self, operator: str, other: Number) -> "Value":
        """Return whether `<`, `>`, `==` or `!=` holds (lane by lane); it never holds for NaN."""
        b = self.code.constant(other, self.ir.type)
        integer = _element(self.ir.type) is I64
        make = self.code.builder.icmp_signed if integer else self.code.builder.fcmp_ordered
        return self.like(make(operator, self.ir, b))

    def is_nan(self) -> "Value":
        """Return whether this is NaN (lane by lane)."""
        return self.like(self.code.builder.fcmp_unordered("uno", self.ir, self.ir))

    def at_most(self, other: Number) -> "Value":
        """Return the smaller of two numbers."""
        return self.compare("<", other).choose(self, other)

    def choose(self, yes: Any, no: Any) -> Any:
        """Return `yes` where this value, a comparison, holds, and `no` where it does not; two values or pointers."""
        other = no.ir if isinstance(yes, Pointer) else self.code.constant(no, yes.ir.type)
        return yes.like(self.code.builder.select(self.ir, yes.ir, other))

    def to(self, name: str) -> "Value":
        """Return the number as "f32" or "f64", rounded to nearest."""
        source, element = self.ir.type, TYPES[name]
        target = ir.VectorType(element, source.count) if isinstance(source, ir.VectorType) else element
        builder = self.code.builder
        convert = {U8: builder.uitofp, I64: builder.sitofp, F32: builder.fpext, F64: builder.fptrunc}[_element(source)]
        return self.like(convert(self.ir, target))

    def bits_as(self, name: str) -> "Value":
        """Return the same 64 bits as another type."""
        return self.like(self.code.builder.bitcast(self.ir, TYPES[name]))

    def spread(self, lanes: int) -> "Value":
        """Return a vector whose lanes all are this number."""
        if lanes == 1:
            return self
        kind = ir.VectorType(self.ir.type, lanes)
        first = self.code.builder.insert_element(ir.Constant(kind, ir.Undefined), self.ir, ir.Constant(I64, 0))
        return self.like(first).shuffled([0] * lanes)

    def shuffled(self, places: list[int], other: "Value | None" = None) -> "Value":
        """Return the lanes at `places`, a vector or one number; behind the lanes of this one are those of `other`."""
        if len(places) == 1:
            return self.like(self.code.builder.extract_element(self.ir, ir.Constant(I64, places[0])))
        second = ir.Constant(self.ir.type, ir.Undefined) if other is None else other.ir
        mask = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
        return self.like(self.code.builder.shuffle_vector(self.ir, second, mask))


class Pointer:
    """An address of elements of one type: `p[i]` and `p[i] = value` load and store, `p + i` moves by i elements."""

    def __init__(self, code: "Code", address: Any, element: Any):
        self.code, self.ir, self.element = code, address, element

    def __add__(self, offset: Number) -> "Pointer":
        place = self.code.constant(offset, I64)
        return self.like(self.code.builder.gep(self.ir, [place], source_etype=self.element))

    def like(self, address: Any) -> "Pointer":
        """Return llvmlite's `address` as one of ours, of the same elements."""
        return Pointer(self.code, address, self.element)

    def load(self, lanes: int = 1) -> Value:
        """Return the first `lanes` elements."""
        kind = ir.VectorType(self.element, lanes) if lanes > 1 else self.element
        return Value(self.code, self.code.builder.load(self.ir, typ=kind, align=SIZES.get(self.element)))

    def store(self, value: Number, lanes: int = 1) -> None:
        """Write the first `lanes` elements."""
        kind = ir.VectorType(self.element, lanes) if lanes > 1 else self.element
        self.code.builder.store(self.code.constant(value, kind), self.ir, align=SIZES.get(self.element))

    def load_first(self, count: int, lanes: int) -> Value:
        """Return the first `count` elements in a vector of `lanes`, whose other lanes mean nothing; no more is read."""
        if count == lanes:
            return self.load(lanes)
        vector = self.code.number(0.0, "f32", lanes)
        for place, piece in powers_of_two(count):
            part = (self + place).load(piece)
            if piece == 1:
                vector = vector.like(self.code.builder.insert_element(vector.ir, part.ir, ir.Constant(I64, place)))
            else:
                wide = part.shuffled([*range(piece), *[0] * (lanes - piece)])
                vector = vector.shuffled([*range(place), *range(lanes, 2 * lanes - place)], wide)
        return vector

    def store_first(self, value: Value, count: int, lanes: int) -> None:
        """Write the first `count` of the `lanes` of `value`."""
        if count == lanes:
            self.store(value, lanes)
            return
        for place, piece in powers_of_two(count):
            (self + place).store(value.shuffled([*range(place, place + piece)]), piece)

    def __getitem__(self, place: Number) -> Value:
        return (self + place).load()

    def __setitem__(self, place: Number, value: Number) -> None:
        (self + place).store(value)


class Code:
    """The function that is being written."""

    def __init__(self, function: ir.Function, target: Target):
        self.function, self.target = function, target
        self.builder = ir.IRBuilder(function.append_basic_block())

    def constant(self, value: Number, kind: Any) -> Any:
        """Return `value` as llvmlite's: what it is already, or a constant of the type `kind`, in all its lanes."""
        if isinstance(value, Value):
            return value.ir
        return ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value)

    def argument(self, slot: Pointer, kind: str) -> Any:
        """Return the argument of the type `kind` ("i64", "f64", "f32*", …) that stands in the 64 bits of `slot`."""
        if kind.endswith("*"):
            return Pointer(self, self.builder.inttoptr(slot.load().ir, ir.PointerType()), TYPES[kind[:-1]])
        if kind == "i64":
            return slot.load()
        value = Pointer(self, slot.ir, F64).load()
        return value if kind == "f64" else value.to(kind)

    def number(self, value: float, name: str, lanes: int = 1) -> Value:
        """Return a constant of the type "i64", "f32" or "f64", in all `lanes` of a vector."""
        kind = ir.VectorType(TYPES[name], lanes) if lanes > 1 else TYPES[name]
        return Value(self, self.constant(value, kind))

    def variable(self, value: Value) -> Pointer:
        """Return a place for values like `value`, which it has at first; LLVM keeps it in a register."""
        with self.builder.goto_entry_block():
            place = self.builder.alloca(value.ir.type)
        self.builder.store(value.ir, place)
        return Pointer(self, place, value.ir.type)

    @contextmanager
    def loop(self, stop: Number, start: Number = 0, step: Number = 1) -> Iterator[Value]:
        """Run the body for each number from `start` up to `stop`, which is left out."""
        body, end = (self.function.append_basic_block() for _ in range(2))
        counter = self.variable(Value(self, self.constant(start, I64)))
        # Looked at before the first round and after each: one jump a round
        self.builder.cbranch(counter.load().compare("<", stop).ir, body, end)
        self.builder.position_at_end(body)
        yield counter.load()
        counter.store(counter.load() + step)
        self.builder.cbranch(counter.load().compare("<", stop).ir, body, end)
        self.builder.position_at_end(end)

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """Run the body if `condition` holds."""
        with self.builder.if_then(condition.ir):
            yield

    def cases(self, value: Value, numbers: range) -> Iterator[int]:
        """Yield each of `numbers`; what is written for it runs if `value` is that number."""
        end = self.function.append_basic_block()
        choice = self.builder.switch(value.ir, end)
        for number in numbers:
            block = self.function.append_basic_block()
            choice.add_case(ir.Constant(I64, number), block)
            self.builder.position_at_end(block)
            yield number
            self.builder.branch(end)
        self.builder.position_at_end(end)

    def columns(self, count: Value) -> Iterator[tuple[Value, int]]:
        """Yield first column and lanes of parts of `count` columns: in a loop, of each whole vector; then of halves."""
        lanes = self.target.lanes
        with self.loop(count - count % lanes, step=lanes) as first:
            yield first, lanes
        while lanes > 1:
            rest = count - count % lanes
            lanes //= 2
            with self.when((count & lanes).compare("==", lanes)):
                yield rest, lanes

    def call(self, name: str, *values: Value) -> Value:
        """Return what LLVM's intrinsic `name` (fma, sqrt) gives for `values`, lane by lane."""
        kind = values[0].ir.type
        lanes = f"v{kind.count}" if isinstance(kind, ir.VectorType) else ""
        kinds = ir.FunctionType(kind, [kind] * len(values))
        intrinsic = f"llvm.{name}.{lanes}{_element(kind).intrinsic_name}"
        declared = self.function.module.declare_intrinsic(intrinsic, fnty=kinds)
        return Value(self, self.builder.call(declared, [value.ir for value in values]))

    def fma(self, a: Value, b: Number, c: Number) -> Value:
        """Return a * b + c, rounded once."""
        b, c = (Value(self, self.constant(value, a.ir.type)) for value in (b, c))
        return self.call("fma", a, b, c)


def powers_of_two(count: int) -> Iterator[tuple[int, int]]:
    """Yield place and size of the pieces of `count`, each a power of two, the largest first."""
    place = 0
    for bit in reversed(range(count.bit_length())):
        if count & (size := 1 << bit):
            yield place, size
            place += size


def _element(kind: Any) -> Any:
    return kind.element if isinstance(kind, ir.VectorType) else kind
