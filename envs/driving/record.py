"""Records in kernels: a pointer, however many arrays a record has.

Numba passes a named tuple field by field and an array as seven numbers. The records of a batch would be more than a
thousand arguments of each call, and most of the time of a compilation.
"""

import hashlib
from typing import Any, TypeVar, get_args, get_type_hints

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.core.typing.templates import AttributeTemplate
from numba.extending import (
    NativeValue,
    infer_getattr,
    lower_getattr_generic,
    models,
    register_model,
    typeof_impl,
    unbox,
)

Class = TypeVar("Class", bound=type)
Fields = TypeVar("Fields")


class RecordType(numba.types.Type):
    """Numba's type of a record, whose arrays have the types `arrays`, by field."""

    def __init__(self, name: str, arrays: dict[str, numba.types.Array]):
        self.arrays = arrays
        super().__init__(f"{name}({hashlib.sha256(repr(arrays).encode()).hexdigest()[:16]})")


register_model(RecordType)(models.OpaqueModel)


def record(class_: Class) -> Class:
    """A named tuple of arrays that kernels read fields of, and whose arrays they write into.

    A kernel makes no record, and returns no array of one.
    """

    @typeof_impl.register(class_)
    def _(value: Any, context: Any) -> RecordType:
        return RecordType(class_.__name__, {name: numba.typeof(array) for name, array in value._asdict().items()})

    return class_


def empty_record(class_: type[Fields], **sizes: int) -> Fields:
    """A record of zeros, whose fields are declared like `Annotated[np.ndarray, "float32 [B, V, 4]"]`.

    `sizes`: what the letters stand for.
    """
    arrays = {}
    for name, hint in get_type_hints(class_, include_extras=True).items():
        kind, axes = get_args(hint)[1].rstrip("]").split(" [")
        shape = [int(axis) if axis.isdigit() else sizes[axis] for axis in axes.split(", ")]
        arrays[name] = np.zeros(shape, kind)
    return class_(**arrays)


@infer_getattr
class _FieldTypes(AttributeTemplate):
    key = RecordType

    def generic_resolve(self, record: RecordType, name: str) -> numba.types.Array | None:
        return record.arrays.get(name)


def _struct(context: Any, record: RecordType) -> ir.LiteralStructType:
    return ir.LiteralStructType([context.get_value_type(array) for array in record.arrays.values()])


@unbox(RecordType)
def _unbox(record: RecordType, value: Any, c: Any) -> NativeValue:
    """Write what describes each array to the stack; the tuple, which the caller holds, keeps the arrays alive."""
    struct = cgutils.alloca_once(c.builder, _struct(c.context, record))
    function = ir.FunctionType(ir.IntType(32), [c.pyapi.pyobj, c.pyapi.voidptr])
    describe = cgutils.get_or_insert_function(c.builder.module, function, "numba_adapt_ndarray")
    for index in range(len(record.arrays)):
        place = c.builder.bitcast(cgutils.gep_inbounds(c.builder, struct, 0, index), c.pyapi.voidptr)
        c.builder.call(describe, [c.pyapi.tuple_getitem(value, index), place])
    return NativeValue(c.builder.bitcast(struct, c.pyapi.voidptr))


@lower_getattr_generic(RecordType)
def _field(context: Any, builder: Any, record: RecordType, value: Any, name: str) -> Any:
    """An array that counts no references. No call changes where it lies, so loops may read that once."""
    struct = builder.bitcast(value, _struct(context, record).as_pointer())
    place = cgutils.gep_inbounds(builder, struct, 0, list(record.arrays).index(name))
    array = record.arrays[name]
    members = context.data_model_manager[array]._fields
    result = cgutils.get_null_value(context.get_value_type(array))
    for member in ("nitems", "itemsize", "data", "shape", "strides"):
        k = members.index(member)
        axes = range(array.ndim) if member in ("shape", "strides") else [None]
        for axis in axes:
            indices = (k,) if axis is None else (k, axis)
            number = builder.load(cgutils.gep_inbounds(builder, place, 0, *indices))
            number.set_metadata("invariant.load", builder.module.add_metadata([]))
            result = builder.insert_value(result, number, indices)
    return result
