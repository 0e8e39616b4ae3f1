"""What the files of a format can hold without loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from portackpt.dtypes import BY_NAME
from portackpt.renaming import Renames
from portackpt.tree import PLAIN, Node, Object

EVERY_DTYPE = frozenset(BY_NAME)


def no_objects(node: Object) -> bool:
    return False


def no_attributes(name: str) -> bool:
    return False


def no_renames(tree: Node) -> Renames:
    return {}


def no_parts(key: Node, part: Node) -> Vocabulary | None:
    return None


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What one format can hold.

    `dtypes` by neutral name. `scalars`: plain types that are leaves as they are (others become 0-d
    tensors). `containers`: of `dict`, `list`, `tuple` (`dict` always). `keys`: types of dictionary
    keys. `objects` says whether an `Object` is written as such (else its plain data is), and
    `attributes` whether a tensor attribute is kept. `shared`: tensors over one byte source share
    storage in the file, too. `empty`: containers with nothing in them survive. `any_root`: the root
    may be something other than a dict. `large_integers`: integers outside int64 are scalars, too.
    `remarks`: for a dtype that is kept bit for bit, but that the format's usual reader gives out
    under another type, what the target's program does about it. `renames` finds, in a tree that
    fits otherwise, names that cannot stand beside the others, and other names for them. `parts`
    gives the vocabulary of what stands under a key of the root, where that is another format's.
    """

    dtypes: frozenset[str] = EVERY_DTYPE
    scalars: frozenset[type] = frozenset(PLAIN)
    containers: frozenset[type] = frozenset((dict, list, tuple))
    keys: frozenset[type] = frozenset((str,))
    objects: Callable[[Object], bool] = no_objects
    attributes: Callable[[str], bool] = no_attributes
    shared: bool = False
    empty: bool = True
    any_root: bool = True
    large_integers: bool = True
    remarks: Mapping[str, str] = field(default_factory=dict)
    renames: Callable[[Node], Renames] = no_renames
    parts: Callable[[Node, Node], Vocabulary | None] = no_parts
