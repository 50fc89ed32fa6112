"""`python -m chemscale`, the command line."""

import sys

from chemscale.cli import main

sys.exit(main())
