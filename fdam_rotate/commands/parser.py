"""The parser of a command: usage errors of one line, former names of flags, files to read looked for beforehand."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fdam_rotate.commands.values import (
    config_file,
    existing_file,
    existing_folder,
    existing_path,
    shipped_configs,
)
from fdam_rotate.dota.errors import DotaError
from fdam_rotate.dota.names import did_you_mean

__all__ = ["FORMER_NAMES_END", "CommandParser", "command_parser", "usage_errors"]

#: The version from which the former names of flags are gone.
FORMER_NAMES_END = "0.3.0"


class CommandParser(argparse.ArgumentParser):
    """The parser of one command.

    A usage error is one line. Former names of flags work, with one line on stderr, and are not in ``--help``. Files and
    folders to read (types `existing_file`, `existing_folder`, `existing_path`, `config_file`) are looked for once all
    words are understood; one that is missing is a `FileNotFoundError`, as it is in the library.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._former: dict[str, tuple[str, Callable[[list[str]], list[str]] | None, bool]] = {}
        self._former_out: str | None = None
        #: What is asked of several options together: it calls ``parser.error``.
        self.check: Callable[[CommandParser, argparse.Namespace], None] | None = None

    def add_former(
        self, old: str, new: str, rewrite: Callable[[list[str]], list[str]] | None = None, *, many: bool = False
    ) -> None:
        """Take the flag ``old`` for ``new``.

        Args:
            old: the former name; the present one where only its values were written in another way.
            new: the present name.
            rewrite: makes the values of ``new`` of those of ``old``; None: they are the same.
            many: whether ``rewrite`` gets all words up to the next flag, in place of one.
        """
        self._former[old] = (new, rewrite, many)

    def add_former_out(self, metavar: str) -> None:
        """Take the last word that has no flag for the value of ``--out`` where that is not given."""
        self._former_out = metavar

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse does; then options are checked together, then the files and folders to read are looked for."""
        found = super().parse_args(args, namespace)
        if self.check is not None:
            self.check(self, found)
        for action in self._actions:
            value = getattr(found, action.dest, None)
            for path in value if isinstance(value, (list, tuple)) else [value]:
                if path is not None:
                    _check_input(action, path)
        return found

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse does, former names of flags included."""
        words = self._respelled(list(sys.argv[1:] if args is None else args))
        out = self._option_string_actions.get("--out")
        if out is None or self._former_out is None:
            return super().parse_known_args(words, namespace)
        needed = out.required
        out.required = needed and bool({"-h", "--help"} & set(words))  # only its help says that it is needed
        try:
            found, rest = super().parse_known_args(words, namespace)
        finally:
            out.required = needed
        if found.out is None:
            place = _last_word(found, rest)
            if place is not None:
                self._note(f"{self._former_out} is now --out {out.metavar}")
                found.out = Path(place)
            elif needed:
                self.error("the following arguments are required: --out")
        return found, rest

    def error(self, message: str) -> Any:
        """End the program with exit code 2 and one line."""
        self.exit(2, f"error: {message}; see {self.prog} --help\n")

    def _respelled(self, words: list[str]) -> list[str]:
        """The words with today's names of flags."""
        done: list[str] = []
        while words:
            word = words.pop(0)
            if word == "--":
                return [*done, word, *words]
            flag, equals, value = word.partition("=")
            if flag not in self._former:
                done.append(word)
                continue
            new, rewrite, many = self._former[flag]
            values = [value] if equals else []
            while rewrite and not equals and words and not words[0].startswith("-") and (many or not values):
                values.append(words.pop(0))
            changed = rewrite(values) if rewrite and values else values
            if new != flag or changed != values:
                self._note(f"{' '.join([flag, *values])} is now {' '.join([new, *changed])}")
            done += [f"{new}={value}"] if equals and not rewrite else [new, *changed]
        return done

    def _note(self, what: str) -> None:
        print(f"note: {self.prog}: {what}; the former spelling ends with version {FORMER_NAMES_END}", file=sys.stderr)


def _last_word(found: argparse.Namespace, rest: list[str]) -> str | None:
    """The last word without a flag, taken from what argparse left over or else from the detections."""
    free = [word for word in rest if not word.startswith("-")]
    if free:
        rest.remove(free[-1])
        return free[-1]
    detections = getattr(found, "detections", None)
    return str(detections.pop()) if isinstance(detections, list) and len(detections) > 1 else None


def _check_input(action: argparse.Action, path: Any) -> None:
    """Look for a file or folder to read, if the type of the argument says that it is one.

    Raises:
        OSError: it is missing, or of the other kind.
    """
    name = "/".join(action.option_strings) or (action.metavar if isinstance(action.metavar, str) else action.dest)
    kinds = {existing_file: "file", config_file: "file", existing_folder: "folder", existing_path: "file or folder"}
    kind = kinds.get(action.type)
    if kind is None:
        return
    if not path.exists():
        hint = did_you_mean(path.stem, shipped_configs()) if action.type is config_file else ""
        raise FileNotFoundError(f"{name}: no such {kind}: {path}{hint}")
    if kind == "file" and path.is_dir():
        raise IsADirectoryError(f"{name}: {path} is a folder; a file is expected")
    if kind == "folder" and not path.is_dir():
        raise NotADirectoryError(f"{name}: {path} is a file; a folder is expected")


def command_parser(
    name: str,
    description: str | None,
    script: str,
    check: Callable[[CommandParser, argparse.Namespace], None] | None = None,
) -> CommandParser:
    """The parser of one command; its usage lines name ``fdam-rotate``, whichever way it was started.

    Args:
        name: of the command.
        description: the docstring of its module.
        script: the same command in a checkout.
        check: what is asked of several options together; it calls ``parser.error``.
    """
    parser = CommandParser(
        prog=f"fdam-rotate {name}",
        description=description,
        epilog=f"The same in a checkout: python {script}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.check = check
    return parser


@contextmanager
def usage_errors(parser: argparse.ArgumentParser) -> Iterator[None]:
    """Turn what the library says of several options together into a usage error."""
    try:
        yield
    except DotaError as error:
        parser.error(str(error))
