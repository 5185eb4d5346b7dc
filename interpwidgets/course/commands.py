"""The course's commands: learn, check, grade, export, progress, doctor."""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from interpwidgets.errors import InputError

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add the course's commands to those of `interpwidgets`; each leaves in `run` what does it."""
    learn = commands.add_parser("learn", help="copy the lessons into a folder and open the next one in JupyterLab")
    learn.add_argument("lesson", nargs="?", help="number or name (where you were)")
    learn.add_argument("--list", action="store_true", help="say what there is, and how far you are")
    learn.add_argument("--folder", type=Path, default=Path("interp-course"), help="where lessons go (%(default)s)")
    learn.add_argument("--fresh", action="store_true", help="where a lesson has changed, put the new one beside yours")
    learn.add_argument("--no-lab", action="store_true", help="copy only")
    learn.set_defaults(run=_learn)
    check = commands.add_parser("check", help="check what you wrote, in a terminal")
    check.add_argument("lesson", help="number or name")
    check.add_argument("--watch", action="store_true", help="again at every save: h hint, s solution, n next, q quit")
    check.add_argument("--file", type=Path, help="your notebook or script (the latest in interp-course)")
    check.set_defaults(run=_check)
    grade = commands.add_parser("grade", help="grade a notebook on fresh inputs, in a process of its own")
    grade.add_argument("notebook", type=Path)
    grade.add_argument("--json", type=Path, help="write the report for a machine, too")
    grade.add_argument("--salt", default="", help="draws the same inputs again")
    grade.add_argument("--seconds", type=float, default=60, help="for a cell or an exercise (%(default)g)")
    grade.add_argument("--memory", type=int, default=2048, help="megabytes (%(default)s)")
    grade.set_defaults(run=_grade)
    export = commands.add_parser("export", help="write the lessons as a course for a gradebook")
    export.add_argument("lesson", nargs="*", help="number or name (all)")
    export.add_argument("--nbgrader", type=Path, required=True, metavar="FOLDER", help="the folder of the course")
    export.set_defaults(run=_export)
    progress = commands.add_parser("progress", help="take your progress to another machine")
    progress.add_argument("--export", type=Path, help="write it to a file")
    progress.add_argument("--merge", type=Path, help="add what such a file holds")
    progress.set_defaults(run=_progress)
    doctor = commands.add_parser("doctor", help="say what is wrong with this machine")
    doctor.set_defaults(run=_doctor)


def _learn(given: Namespace) -> int:
    from interpwidgets.course.learning import copy_lessons, lab_environment, next_lesson, overview
    from interpwidgets.course.library import lesson

    if given.list:
        print(overview())
        return 0
    only = lesson(given.lesson) if given.lesson else None
    try:
        copied = copy_lessons(given.folder, only, fresh=given.fresh)
    except OSError as error:
        raise InputError(f"Lessons cannot be written into {given.folder}: {error.strerror or error}.") from None
    for each in copied:
        if each.state == "old":
            print(f"{each.path} is of an earlier edition; yours is kept. The new one: interpwidgets learn --fresh")
    following = only or next_lesson()
    shown = next((each.path for each in copied if following and each.path.stem.startswith(following.folder.name)), None)
    print(f"{len(copied)} lessons in {given.folder.resolve()}; next: {shown or given.folder}")
    if given.no_lab:
        return 0
    if find_spec("jupyterlab") is None:
        raise ImportError('Notebooks open in JupyterLab: pip install "interpwidgets[lab]"')
    lab = [sys.executable, "-m", "jupyterlab", str(shown or given.folder)]
    return subprocess.run(lab, env=lab_environment(), check=False).returncode  # noqa: S603  our own command


def _check(given: Namespace) -> int:
    from interpwidgets.course.learning import FOLDER, script
    from interpwidgets.course.library import lesson
    from interpwidgets.course.watching import Watch

    which = lesson(given.lesson)
    there = [path for suffix in ("py", "ipynb") if (path := FOLDER / f"{which.folder.name}.{suffix}").exists()]
    try:
        path = given.file or max(there, key=lambda path: path.stat().st_mtime, default=None) or script(FOLDER, which)
    except OSError as error:
        raise InputError(f"The lesson cannot be written into {FOLDER}: {error.strerror or error}.") from None
    watch = Watch(which, path)
    try:
        done = watch.run() if given.watch else watch.check()
    except KeyboardInterrupt:
        return 0
    return 0 if done or given.watch else 1


def _grade(given: Namespace) -> int:
    from interpwidgets.course.grading import grade

    report = grade(given.notebook, salt=given.salt, seconds=given.seconds, memory=given.memory)
    print(report)
    if given.json:
        try:
            given.json.write_text(report.to_json() + "\n", "utf-8")
        except OSError as error:
            raise InputError(f"The report was not written: {error.strerror or error} ({given.json}).") from None
    return 0


def _export(given: Namespace) -> int:
    from interpwidgets.course.exporting import CONFIG, export_nbgrader
    from interpwidgets.course.library import lesson, lessons

    which = [lesson(name) for name in given.lesson] or lessons()
    try:
        written, kept = export_nbgrader(given.nbgrader, which)
    except OSError as error:
        raise InputError(f"The course cannot be written into {given.nbgrader}: {error.strerror or error}.") from None
    for path in kept:
        print(f"{path} is kept as it is there; for the course's, move it away first.")
    if any(path.suffix == ".py" and CONFIG not in path.read_text("utf-8") for path in kept):
        print(f"Its points are our checks' once it ends with these lines:\n{CONFIG}")
    print(f"{len(written)} files written. Next:")
    print(f"  cd {given.nbgrader} && nbgrader generate_assignment {which[0].folder.name}")
    return 0


def _progress(given: Namespace) -> int:
    from interpwidgets.course.learning import overview
    from interpwidgets.course.progress import export, home, merge

    try:
        if given.merge:
            print(f"{merge(given.merge)} events are new.")
        if given.export:
            print(f"{export(given.export)} events in {given.export}.")
    except OSError as error:
        raise InputError(f"Progress was not written: {error.strerror or error} ({error.filename or home()}).") from None
    if not (given.merge or given.export):
        print(f"{overview()}\nKept in {home()}.")
    return 0


def _doctor(_: Namespace) -> int:
    from interpwidgets.course.doctor import examine

    good = True
    for found in examine():
        good &= found.good
        print(f"{'✓' if found.good else '✗'} {found.what}: {found.said}", flush=True)
    print("All is well." if good else "What is marked ✗ needs you.")
    return 0 if good else 1
