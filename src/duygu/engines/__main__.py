"""``python -m duygu.engines NAME``: one JSON object that says what an engine finds on this machine.

A process of its own, so that whoever asks stays free of both frameworks.
"""

import json
import sys
from dataclasses import asdict

from duygu.engines import open_engine

if __name__ == "__main__":
    print(json.dumps(asdict(open_engine(sys.argv[1]).probe())))
