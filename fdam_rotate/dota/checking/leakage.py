"""Whether scored images were trained on under another name: equal or nearly equal pictures in two folders.

Names say nothing where images were renamed, stored again with loss, or cut anew. So pictures are compared by what they
show, as :mod:`fdam_rotate.dota.checking.likeness` does: whole images with whole images.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from fdam_rotate.dota.checking.likeness import describe, near_pairs, same_picture
from fdam_rotate.dota.errors import ImageReadError
from fdam_rotate.dota.layout import SourceImage, image_problem, list_sources
from fdam_rotate.dota.problems import Problem
from fdam_rotate.dota.progress import progress_over
from fdam_rotate.dota.rasters.images import open_pixels

__all__ = ["Copy", "copy_note", "find_copies"]

# So many copies are named in a sentence.
_SHOWN = 5


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


def copy_note(img_dir: Path, train_img_dir: Path, image_ids: Collection[str], problems: list[Problem]) -> str:
    """A sentence on how many scored images show the same picture as one trained on; 'warning: ' first if any does.

    Args:
        img_dir: folder of the scored images.
        train_img_dir: folder of the images trained on.
        image_ids: the scored images; others in the folder do not count.
        problems: where images that cannot be read are collected.
    """
    scored = [source for source in list_sources([img_dir], [None], problems) if source.image_id in set(image_ids)]
    copies = find_copies(scored, list_sources([train_img_dir], [None], problems), problems, progress=True)
    if not copies:
        return f"none of {len(scored)} scored images shows the same picture as one in {train_img_dir}"
    shown = ", ".join(f"{one.image_id} = {one.trained.name}" for one in copies[:_SHOWN])
    more = f" and {len(copies) - _SHOWN} more" if len(copies) > _SHOWN else ""
    return f"warning: {len(copies)} of {len(scored)} scored images show a picture that was trained on ({shown}{more})"
