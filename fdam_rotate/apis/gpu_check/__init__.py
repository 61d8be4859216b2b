"""Everything that only a GPU can show, checked in one call of bounded time; ``supervise`` is the way in."""
