"""Times training steps in this process, started for that: `RunConfig` as JSON in, what was found as JSON out."""

import json
import sys
from dataclasses import asdict

import ms_models  # noqa: F401  # prepares the environment before any framework is imported
from convert.errors import InputError
from toonport.train.config import RunConfig
from toonport.train.sizing import part_sizes, time_steps


def main() -> int:
    """Print what was found as the last line; 2 with one line of why where the configuration cannot be used."""
    request = json.load(sys.stdin)
    try:
        engine, found = time_steps(RunConfig(**request["config"]), request["steps"])
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps({"time": asdict(found), "parts": part_sizes(engine)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
