"""``stmulnet`` and ``python -m stmulnet``."""

import signal
import sys

# Until `main` answers Ctrl-C, it just ends the process, without a traceback of imports. Who ignores it still does.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from stmulnet.cli import main

if __name__ == "__main__":
    sys.exit(main())
