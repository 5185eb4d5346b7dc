"""`python -m interpwidgets` is the command `interpwidgets`."""

from __future__ import annotations

import sys

from interpwidgets.cli import main

sys.exit(main())
