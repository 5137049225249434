"""`mlagents_envs` 0.28.0, the newest that installs on Python 3.11 and later, on the protobuf of today.

Its message classes were generated for a protobuf before 4, and refuse to be imported with a newer one. What they are
made from is in them still, as bytes: a loader reads these out of each file's syntax tree, without running it, and has
protobuf build the classes anew. `distutils`, which Python 3.12 left out, is stood in for while the package is imported.
"""

import ast
import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from mentorgym.extras import import_extra

MESSAGES = "mlagents_envs.communicator_objects"


def import_mlagents(module: str) -> ModuleType:
    """Import `module` of `mlagents_envs`, whatever the protobuf; what is imported already stays as it is.

    Raises:
        ImportError: the package is missing; the message says what to install.
    """
    with _standing_in():
        import_extra("mlagents_envs", "unity", "the link to Unity")
        return importlib.import_module(module)


@contextlib.contextmanager
def _standing_in() -> Iterator[None]:
    """The finder and the stand-ins, in place while the block runs."""
    finder = _Finder()
    # Where distutils is left, in Python 3.11 and in setuptools, its classes of versions warn that they will go.
    package, version = ModuleType("distutils"), ModuleType("distutils.version")
    setattr(version, "StrictVersion", StrictVersion)  # noqa: B010  mypy knows no attributes of a bare module
    stand_ins = {"distutils": package, "distutils.version": version}
    hidden = {name: sys.modules.get(name) for name in stand_ins}
    sys.meta_path.insert(0, finder)
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name, module in hidden.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class StrictVersion:
    """A version's numbers: all that `mlagents_envs` asks of the class of this name. ValueError for any other text."""

    def __init__(self, text: str):
        self.version = tuple(int(part) for part in text.split("."))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the generated modules that today's protobuf would refuse, and no other."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        if package != MESSAGES or not name.endswith("_pb2"):
            return None
        for folder in path or ():
            file = Path(folder, f"{name}.py")
            if file.is_file():
                tree = ast.parse(file.read_text("utf-8"))
                serialized = serialized_descriptor(tree)
                if serialized is None:
                    return None
                return importlib.util.spec_from_loader(fullname, _Loader(tree, serialized), origin=str(file))
        return None


class _Loader(importlib.abc.Loader):
    """Makes a module of messages from its serialized description."""

    def __init__(self, tree: ast.Module, serialized: bytes):
        self.tree, self.serialized = tree, serialized

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        pool = importlib.import_module("google.protobuf.descriptor_pool").Default()
        builder = importlib.import_module("google.protobuf.internal.builder")
        for node in self.tree.body:
            # The pool takes a file only after those that it imports.
            if isinstance(node, ast.ImportFrom) and node.module == MESSAGES:
                for alias in node.names:
                    importlib.import_module(f"{MESSAGES}.{alias.name}")
        descriptor = pool.AddSerializedFile(self.serialized)
        vars(module)["DESCRIPTOR"] = descriptor
        builder.BuildMessageAndEnumDescriptors(descriptor, vars(module))
        builder.BuildTopDescriptorsAndMessages(descriptor, module.__name__, vars(module))


def serialized_descriptor(tree: ast.Module) -> bytes | None:
    """The description of its messages in a module generated before protobuf 3.20; None in one that is younger."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("FileDescriptor"):
            for keyword in node.keywords:
                if keyword.arg == "serialized_pb":
                    # Either b"..." or _b("..."), which encodes text as latin1.
                    value = keyword.value.args[0] if isinstance(keyword.value, ast.Call) else keyword.value
                    if isinstance(value, ast.Constant):
                        text = value.value
                        return text.encode("latin1") if isinstance(text, str) else bytes(text)  # type: ignore[arg-type]
    return None
