"""Run the command line: python -m toonport."""

from toonport.cli import main

raise SystemExit(main())
