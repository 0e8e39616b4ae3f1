"""What the opcodes of a pickle share beside the stack: bytes, memo, names, budgets."""

from __future__ import annotations

from portackpt.errors import RefusedError
from portackpt_torch.pickled import Call, Global, Persistent, Raw

MAX_RARE_KEYS = 10_000
"""Keys of dictionaries whose hashes can be made to collide: tuples, large and complex numbers."""
MAX_KEY = 1000
"""Parts of one key."""


class State:
    """What the opcodes share beside the stack. `at` is the byte at which the machine stands."""

    __slots__ = ("at", "data", "memo", "names", "rare_keys")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.memo: dict[int, Raw] = {}
        self.names: dict[tuple[str, str], Global] = {}
        self.rare_keys = 0

    def take(self, at: int, count: int) -> bytes:
        if count < 0 or at + count > len(self.data):
            raise ValueError(f"{count} bytes are announced, {len(self.data) - at} are left")
        return self.data[at : at + count]

    def line(self, at: int) -> tuple[bytes, int]:
        end = self.data.index(b"\n", at)
        return self.data[at:end], end + 1

    def name(self, module: Raw, name: Raw) -> Global:
        if type(module) is not str or type(name) is not str:
            raise ValueError("a name must be text")
        found = self.names.get((module, name))
        if found is None:
            spelled = _PYTHON2.get((module, name)) or (_MODULES.get(module, module), name)
            found = self.names[(module, name)] = Global(*spelled)
        return found

    def set_item(self, target: Raw, key: Raw, value: Raw) -> None:
        if type(key) is not str:
            self._check_key(key)
        if type(target) is dict:
            target[key] = value
        elif type(target) is Call:
            if target.entries is None:
                target.entries = {}
            target.entries[key] = value
        else:
            raise ValueError(f"an entry is set in a {type(target).__name__}")

    def _check_key(self, key: Raw) -> None:
        """Hashing a key must neither go deep nor meet many others of the same hash."""
        if isinstance(key, int):
            if -(1 << 60) < key < 1 << 60:
                return
        elif key is None or isinstance(key, (float, bytes, Global, Call, Persistent)):
            return
        self.rare_keys += 1
        if self.rare_keys > MAX_RARE_KEYS:
            raise RefusedError(f"more than {MAX_RARE_KEYS} unusual dictionary keys")
        parts = [key]
        for part in parts:
            if type(part) is tuple:
                parts.extend(part)
            if len(parts) > MAX_KEY:
                raise RefusedError(f"a dictionary key of more than {MAX_KEY} parts")


_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_PYTHON2 = {
    ("__builtin__", "xrange"): ("builtins", "range"),
    ("__builtin__", "unicode"): ("builtins", "str"),
    ("__builtin__", "long"): ("builtins", "int"),
}
