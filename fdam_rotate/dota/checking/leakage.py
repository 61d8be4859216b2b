"""Whether scored images were trained on under another name: equal or nearly equal pictures in two folders.

Names tell nothing where images were renamed, stored again with loss, or cut anew. So pictures are compared by what they
show, as :mod:`fdam_rotate.dota.checking.likeness` does: whole images with whole images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fdam_rotate.dota.checking.likeness import describe, near_pairs, same_picture
from fdam_rotate.dota.errors import ImageReadError
from fdam_rotate.dota.layout import SourceImage, image_problem
from fdam_rotate.dota.problems import Problem
from fdam_rotate.dota.progress import progress_over
from fdam_rotate.dota.rasters.images import open_pixels

__all__ = ["Copy", "find_copies"]


@dataclass(frozen=True)
class Copy:
    """A scored image that shows the same picture as one that was trained on; ``exact``: pixel by pixel."""

    image_id: str
    trained: Path
    exact: bool


def find_copies(
    scored: Sequence[SourceImage],
    trained: Sequence[SourceImage],
    problems: list[Problem],
    *,
    progress: bool = False,
) -> list[Copy]:
    """The scored images that show the same picture as a trained one, in the order of ``scored``.

    Args:
        scored: images that were scored.
        trained: images that the model was trained on.
        problems: where images that cannot be read are collected.
        progress: show a progress bar where someone can see it.
    """
    facts: dict[Path, tuple[str, bytes]] = {}
    paths = list(dict.fromkeys(source.path for source in [*scored, *trained]))
    for path in progress_over(paths, "looking for copies", "image", shown=progress):
        try:
            with open_pixels(path) as image:
                facts[path] = describe(image)
        except (ImageReadError, OSError) as error:
            problems.append(image_problem(path, error))
    digests = {facts[source.path][0]: source.path for source in reversed(trained) if source.path in facts}
    marked = [source.path for source in trained if source.path in facts and facts[source.path][1]]
    marks = [facts[path][1] for path in marked]
    copies = []
    for source in scored:
        digest, mark = facts.get(source.path, ("", b""))
        if digest in digests:
            copies.append(Copy(source.image_id, digests[digest], True))
            continue
        near = (marked[j] for _, j in near_pairs([mark] if mark else [], marks))
        found = next((path for path in near if same_picture(path, source.path)), None)
        if found is not None:
            copies.append(Copy(source.image_id, found, False))
    return copies
