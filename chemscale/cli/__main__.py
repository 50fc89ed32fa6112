"""`python -m chemscale.cli`."""

import sys

from chemscale.cli import main

sys.exit(main())
