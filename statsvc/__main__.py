import sys

from statsvc.cli import main

sys.exit(main())
