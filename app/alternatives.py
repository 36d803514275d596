"""The plain types that a field's type is made of."""

from msgspec import inspect

#: What JSON writes as an object with known members.
RECORDS = (inspect.StructType, inspect.DataclassType, inspect.TypedDictType)
#: What JSON writes as an array of any length.
SEQUENCES = (inspect.ListType, inspect.SetType, inspect.FrozenSetType, inspect.VarTupleType)
#: Types that say nothing about what they take.
OPEN = (inspect.AnyType, inspect.RawType, inspect.CustomType, inspect.ExtType)


def alternatives(wanted: inspect.Type) -> list[inspect.Type]:
    """The members of a union, of anything else itself; without what annotations say about it."""
    if isinstance(wanted, inspect.Metadata):
        return alternatives(wanted.type)
    if isinstance(wanted, inspect.UnionType):
        return [member for part in wanted.types for member in alternatives(part)]
    return [wanted]


def takes_null(wanted: inspect.Type) -> bool:
    """Whether null may be one of its values."""
    return any(_is_null(member) for member in alternatives(wanted))


def _is_null(member: inspect.Type) -> bool:
    if isinstance(member, inspect.LiteralType):
        return None in member.values
    return isinstance(member, (inspect.NoneType, *OPEN))
