"""What compiled loops need below numba's own level: addresses, bits, and sums of eight lanes.

Each function is a few instructions that numba puts in place of a call. No instruction carries a
fast-math flag, so none is contracted to a fused multiply-add, reordered or dropped: the results
are those of the same IEEE operations in numpy.

The sums reproduce numpy's `add.reduce` over LEAF contiguous float64: eight partial sums, element i
into partial i % 8, then ((0+1)+(2+3))+((4+5)+(6+7)). Left to itself numba makes scalar code of
that; written as vectors of eight it is two to three times as fast, whatever width the machine has.

Imported by other compiled modules alone: numba comes with it. Types end at this module's edge.
"""
# ruff: noqa: ANN401 -- values and types of LLVM and numba

from collections.abc import Callable, Iterable
from typing import Any, cast

import numba
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LEAF = 128  # elements: numpy sums no more in one go
_LANES = 8

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_FLOAT, _DOUBLE = ir.FloatType(), ir.DoubleType()

_Emit = Callable[[Any, list[Any]], Any]  # an IR builder and the arguments to the result
_utils: Any = cast("Any", cgutils)
_UNDEFINED: Any = cast("Any", ir).Undefined
carray: Any = cast("Any", numba).carray  # an array over a pointer
_declare: Callable[..., Callable[..., Any]] = cast("Any", intrinsic)


def _inline(result: Any, arguments: tuple[Any, ...], emit: _Emit) -> Any:
    """Return a function for compiled code of these numba types."""

    def generate(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return emit(builder, list(values))

    def one(_typing: Any, _a: Any) -> Any:
        return result(*arguments), generate

    def two(_typing: Any, _a: Any, _b: Any) -> Any:
        return result(*arguments), generate

    def four(_typing: Any, _a: Any, _b: Any, _c: Any, _d: Any) -> Any:
        return result(*arguments), generate

    def five(_typing: Any, _a: Any, _b: Any, _c: Any, _d: Any, _e: Any) -> Any:
        return result(*arguments), generate

    return _declare({1: one, 2: two, 4: four, 5: five}[len(arguments)])


def _pointer_to(element: Any, made: Any) -> Any:
    return _inline(
        types.CPointer(element),
        (types.uint64,),
        lambda builder, values: builder.inttoptr(values[0], made.as_pointer()),
    )


f64_at = _pointer_to(types.float64, _DOUBLE)  # an address to a pointer
f32_at = _pointer_to(types.float32, _FLOAT)
u64_at = _pointer_to(types.uint64, _I64)
i32_at = _pointer_to(types.int32, _I32)
u16_at = _pointer_to(types.uint16, ir.IntType(16))
i8_at = _pointer_to(types.int8, _I8)
u8_at = _pointer_to(types.uint8, _I8)


def _loaded_f32(builder: Any, values: list[Any]) -> Any:
    loaded = builder.load(builder.inttoptr(values[0], _FLOAT.as_pointer()))
    loaded.align = 1
    return loaded


f32_anywhere = _inline(types.float32, (types.uint64,), _loaded_f32)  # whatever the address


def _bf16_bits(builder: Any, values: list[Any]) -> Any:
    return builder.shl(builder.zext(values[0], _I32), _I32(16))


def _f16_bits(builder: Any, values: list[Any]) -> Any:
    """Widen binary16 to the bits of binary32, without the instruction that not all CPUs have.

    Shifted into place the number is 2**-112 times itself, subnormal or not; multiplying is exact.
    """
    wide = builder.zext(values[0], _I32)
    sign = builder.shl(builder.and_(wide, _I32(0x8000)), _I32(16))
    moved = builder.shl(builder.and_(wide, _I32(0x7FFF)), _I32(13))
    scaled = builder.fmul(builder.bitcast(moved, _FLOAT), ir.Constant(_FLOAT, 2.0**112))
    special = builder.icmp_unsigned(">=", moved, _I32(0x7C00 << 13))  # infinity or NaN
    finite = builder.bitcast(scaled, _I32)
    return builder.or_(sign, builder.select(special, builder.or_(moved, _I32(0x7F800000)), finite))


def _to_double(bits: _Emit) -> _Emit:
    return lambda b, values: b.fpext(b.bitcast(bits(b, values), _FLOAT), _DOUBLE)


bf16_bits = _inline(types.int32, (types.uint16,), _bf16_bits)  # those of the same float32
f16_bits = _inline(types.int32, (types.uint16,), _f16_bits)
bf16_value = _inline(types.float64, (types.uint16,), _to_double(_bf16_bits))
f16_value = _inline(types.float64, (types.uint16,), _to_double(_f16_bits))
f32_value = _inline(types.float64, (types.int32,), _to_double(lambda _, values: values[0]))


def _to_bf16(builder: Any, values: list[Any]) -> Any:
    """Round binary64 once, by way of binary32 rounded to odd: dtypes.f64_to_bf16, step by step."""
    exact = values[0]
    nearest = builder.fptrunc(exact, _FLOAT)
    again = builder.fpext(nearest, _DOUBLE)
    lost = builder.fcmp_ordered("!=", again, exact)
    magnitude = _I64(2**63 - 1)
    sizes = [builder.and_(builder.bitcast(it, _I64), magnitude) for it in (again, exact)]
    away = builder.and_(lost, builder.icmp_signed(">", *sizes))
    odd = builder.sub(builder.bitcast(nearest, _I32), builder.zext(away, _I32))
    odd = builder.or_(odd, builder.zext(lost, _I32))
    even = builder.and_(builder.lshr(odd, _I32(16)), _I32(1))
    rounded = builder.lshr(builder.add(odd, builder.add(even, _I32(0x7FFF))), _I32(16))
    quiet = builder.or_(builder.lshr(odd, _I32(16)), _I32(0x40))
    is_nan = builder.fcmp_unordered("uno", exact, exact)
    return builder.trunc(builder.select(is_nan, quiet, rounded), ir.IntType(16))


to_bf16 = _inline(types.uint16, (types.float64,), _to_bf16)


def _ordered(builder: Any, values: list[Any]) -> Any:
    """Make integers of a float's bits that compare as the floats do; applied twice, nothing."""
    below = builder.ashr(values[0], _I32(31))
    return builder.xor(values[0], builder.and_(below, _I32(2**31 - 1)))


ordered32 = _inline(types.int32, (types.int32,), _ordered)


def _is_nan(builder: Any, values: list[Any]) -> Any:
    size = builder.and_(values[0], _I32(2**31 - 1))
    return builder.zext(builder.icmp_signed(">", size, _I32(0x7F800000)), _I32)


is_nan32 = _inline(types.int32, (types.int32,), _is_nan)


# Sums of rows

SIDE_BY_SIDE = 64  # elements that `add_rows` adds up
_AHEAD = 512  # elements: far enough for the memory, and soon used
_LINE = 64  # bytes of the cache


def _add_rows(builder: Any, values: list[Any]) -> Any:
    """Add factor * element of float32 rows to float64 sums, which stay in registers meanwhile.

    The next piece of each row is asked for: the processor foresees a piece at a time of many rows
    badly by itself.
    """
    places, factors, count, shift, out = values
    wide, narrow = ir.VectorType(_DOUBLE, _LANES), ir.VectorType(_FLOAT, _LANES)
    steps = range(SIDE_BY_SIDE // _LANES)
    stored = [_place(builder, out, 8 * _LANES * step, wide) for step in steps]
    sums = [_utils.alloca_once_value(builder, builder.load(it, align=8)) for it in stored]
    place_of, factor_of = (
        builder.inttoptr(it, kind.as_pointer()) for it, kind in ((places, _I64), (factors, _DOUBLE))
    )
    with _utils.for_range(builder, count) as loop:
        row = builder.add(builder.load(builder.gep(place_of, [loop.index])), shift)
        factor = _all_lanes(builder, builder.load(builder.gep(factor_of, [loop.index])), wide)
        for line in range(0, 4 * SIDE_BY_SIDE, _LINE):
            _prefetch(builder, _place(builder, row, 4 * _AHEAD + line, _I8))
        for step, total in zip(steps, sums, strict=True):
            place = _place(builder, row, 4 * _LANES * step, narrow)
            value = builder.fpext(builder.load(place, align=4), wide)
            added = builder.fadd(builder.load(total), builder.fmul(value, factor))
            builder.store(added, total)
    for total, place in zip(sums, stored, strict=True):
        builder.store(builder.load(total), place, align=8)
    return _I64(0)


_ROWS = (types.uint64, types.uint64, types.int64, types.uint64, types.uint64)
# Where the rows' addresses and their factors are, how many, by how many bytes to move on; the sums.
add_rows = _inline(types.int64, _ROWS, _add_rows)


def _place(builder: Any, address: Any, offset: int, made: Any) -> Any:
    return builder.inttoptr(builder.add(address, _I64(offset)), made.as_pointer())


def _all_lanes(builder: Any, value: Any, vector: Any) -> Any:
    one = builder.insert_element(ir.Constant(vector, _UNDEFINED), value, _I32(0))
    return builder.shuffle_vector(one, one, _indexes([0] * _LANES))


def _prefetch(builder: Any, place: Any) -> None:
    arguments = [_I8.as_pointer(), _I32, _I32, _I32]
    kind = ir.FunctionType(ir.VoidType(), arguments)
    function = builder.module.declare_intrinsic("llvm.prefetch", arguments[:1], kind)
    builder.call(function, [place, _I32(0), _I32(3), _I32(1)])  # to read, to all caches, data


# Sums of a leaf


def _lanes(builder: Any, address: Any, step: int) -> Any:
    vector = ir.VectorType(_DOUBLE, _LANES)
    place = builder.add(address, _I64(8 * _LANES * step))
    loaded = builder.load(builder.inttoptr(place, vector.as_pointer()))
    loaded.align = 8
    return loaded


def _square_apart(builder: Any, one: Any, other: Any) -> Any:
    apart = builder.fsub(one, other)
    return builder.fmul(apart, apart)


def _product(builder: Any, one: Any, other: Any) -> Any:
    return builder.fmul(one, other)


def _leaf_lanes(builder: Any, ones: list[Any], others: list[Any], term: Any) -> list[Any]:
    """Return the eight partial sums over one leaf of each of `ones` with each of `others`."""
    totals: list[Any] = []
    for step in range(LEAF // _LANES):
        left = [_lanes(builder, address, step) for address in ones]
        right = [_lanes(builder, address, step) for address in others]
        terms = [term(builder, one, other) for one in left for other in right]
        if step:
            terms = [builder.fadd(was, now) for was, now in zip(totals, terms, strict=True)]
        totals = terms
    return totals


def _tree(builder: Any, lanes: Any) -> Any:
    """Add eight partial sums in numpy's order."""
    sums = [builder.extract_element(lanes, _I32(lane)) for lane in range(_LANES)]
    while len(sums) > 1:
        sums = [builder.fadd(*sums[at : at + 2]) for at in range(0, len(sums), 2)]
    return sums[0]


def _trees(builder: Any, vectors: list[Any]) -> Any:
    """Add the partial sums of eight vectors, each in numpy's order, to one vector of eight sums."""
    even, odd = (_indexes(range(first, 2 * _LANES, 2)) for first in (0, 1))
    while len(vectors) > 1:
        pairs = [vectors[at : at + 2] for at in range(0, len(vectors), 2)]
        vectors = [
            builder.fadd(
                builder.shuffle_vector(one, other, even), builder.shuffle_vector(one, other, odd)
            )
            for one, other in pairs
        ]
    return vectors[0]


def _indexes(lanes: Iterable[int]) -> Any:
    chosen = list(lanes)
    return ir.Constant(ir.VectorType(_I32, len(chosen)), chosen)


def _one_pair(term: Any) -> _Emit:
    return lambda b, v: _tree(b, _leaf_lanes(b, [v[0]], [v[1]], term)[0])


def _two_by_four(builder: Any, values: list[Any]) -> Any:
    """Store the sums of two rows with four, one row a line; rows lie one leaf after another."""
    first, second, line, next_line = values
    row = LEAF * 8
    left = [builder.add(first, _I64(row * k)) for k in range(2)]
    right = [builder.add(second, _I64(row * k)) for k in range(4)]
    sums = _trees(builder, _leaf_lanes(builder, left, right, _square_apart))
    half = ir.VectorType(_DOUBLE, 4)
    for place, lanes in ((line, range(4)), (next_line, range(4, 8))):
        four = builder.shuffle_vector(sums, sums, _indexes(lanes))
        builder.store(four, builder.inttoptr(place, half.as_pointer())).align = 8
    return _I64(0)


_TWO = (types.uint64, types.uint64)
_FOUR = (types.uint64, types.uint64, types.uint64, types.uint64)
squares_apart = _inline(types.float64, _TWO, _one_pair(_square_apart))  # two addresses
products = _inline(types.float64, _TWO, _one_pair(_product))
squares_apart_2x4 = _inline(types.int64, _FOUR, _two_by_four)  # two rows, two places for sums
