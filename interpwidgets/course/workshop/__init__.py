"""A workshop: who is stuck where, on one live board, for those who choose to show it.

    interpwidgets workshop serve                            # the teacher; prints an address with a join code
    interpwidgets workshop join http://192.0.2.7:8765/KM3TPA   # a learner, in a terminal

    from interpwidgets.course import workshop
    workshop.join("http://192.0.2.7:8765/KM3TPA")           # or in a notebook

For teachers: docs/workshop.md.
"""

from interpwidgets.course.workshop.client import join, leave, nudge, rename, status

__all__ = ["join", "leave", "nudge", "rename", "status"]
