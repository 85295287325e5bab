"""`python -m modelport.runtime`: serve one model."""

import sys

from modelport.runtime.host import main

if __name__ == "__main__":
    sys.exit(main())
