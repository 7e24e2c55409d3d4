"""`python -m datanas`."""

import sys

from datanas.cli import main

sys.exit(main())
