"""``python -m stmulnet``."""

import sys

from stmulnet.cli import main

sys.exit(main())
