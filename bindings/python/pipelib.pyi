"""Small data-manipulation steps ("pipes"), composed at run time into one machine-code loop."""

from collections.abc import Buffer
from typing import final

class PipeError(ValueError):
    """What was asked for cannot be done, and why."""

class TextError(PipeError):
    """Something is wrong in a text in the pipe language."""

class MismatchError(PipeError):
    """A field of a frame holds something else than it should."""

    window: int
    """Number of the window, from 0."""
    offset: int
    """Where the field begins in the source, or, of bytes, the first that differs."""
    expected: int
    found: int
    good: int
    """Bytes of the stream in the windows before this one, all of them as they should be."""

@final
class Run:
    """The results of a run by their names, "instance.name": `dict(run)` has them all."""

    @property
    def read(self) -> int:
        """Bytes of the stream that were read."""
    @property
    def written(self) -> int:
        """Bytes that were written."""
    def __getitem__(self, name: str) -> int | list[int] | bytes | list[bytes]:
        """A number, or, of a stage with a window (`per N`), a list of them. KeyError."""
    def __len__(self) -> int: ...
    def keys(self) -> list[str]: ...
    def register(self, name: str) -> int:
        """The final value of a register. Imported into a later run, it goes on where this one stopped."""

@final
class Stream:
    """A stream under way: `push` its chunks, then `finish`."""

    def push(self, chunk: Buffer) -> bytes:
        """Puts the next chunk in; what it gives out, which need not be as many bytes."""
    def digest(self, chunk: Buffer) -> None:
        """Puts the next chunk of a stream in whose output nobody wants."""
    def finish(self) -> tuple[bytes, Run]:
        """Ends the stream: the last bytes, held back until now, and the results."""

@final
class Engine:
    """A pipeline ready to run; threads may share one.

    Over `bytes` other threads of Python run meanwhile; over what could change they wait. `imports` is a
    dictionary from registers' names to numbers; long streams are cut over `threads`.
    """

    @property
    def backend(self) -> str: ...
    @property
    def exports(self) -> list[str]: ...
    @property
    def registers(self) -> list[str]: ...
    def out_len(self, length: int) -> int:
        """Bytes of output that a source of `length` bytes gives."""
    def run(
        self, source: Buffer, *, imports: dict[str, int] | None = None, threads: int = 1
    ) -> tuple[bytes, Run]:
        """Copies `source` through the pipeline: what came out, and the results."""
    def run_into(
        self, source: Buffer, destination: Buffer, *, imports: dict[str, int] | None = None, threads: int = 1
    ) -> Run:
        """Copies `source` through the pipeline to the start of `destination`, which does not overlap it."""
    def run_in_place(
        self, buffer: Buffer, *, imports: dict[str, int] | None = None, threads: int = 1
    ) -> Run: ...
    def digest(self, source: Buffer, *, imports: dict[str, int] | None = None, threads: int = 1) -> Run:
        """The results alone: nothing is written."""
    def stream(self, *, imports: dict[str, int] | None = None, hold_back: bool = False) -> Stream:
        """A stream that comes in chunks."""

class Library:
    """The standard pipes and layouts, the catalogue's CRCs, and what is loaded beside."""

    def __init__(self) -> None: ...
    def load(self, text: str, name: str = "<text>") -> None:
        """Adds the items of a text in the pipe language."""
    def pipes(self) -> list[str]: ...
    def compile(
        self,
        pipeline: str,
        *,
        backend: str = "auto",
        features: str | None = None,
        separate_passes: bool = False,
        serial: bool = False,
    ) -> Engine: ...

def compile(
    pipeline: str,
    *,
    backend: str = "auto",
    features: str | None = None,
    separate_passes: bool = False,
    serial: bool = False,
) -> Engine:
    """`Library().compile(...)`."""
