"""Records a real run of the demo as docs/images/demo.svg: `python docs/images/record.py`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI

from datastore_dumper.demo.data import FLIGHTS
from datastore_dumper.demo.scenario import Measured, run_demo
from datastore_dumper.demo.show import Show

# Fonts are the reader's: a picture in a README may not load any.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace("Fira Code", "monospace")


def main() -> None:
    console = Console(record=True, force_terminal=True, color_system="truecolor", width=100, file=sys.stderr)
    measured = Measured()
    run_demo(Show(console), measured, rows=FLIGHTS, keep=False)
    console.print(f"\n{measured.to_json(ok=True)}\n", highlight=False, markup=False)
    target = Path(__file__).with_name("demo.svg")
    console.save_svg(str(target), title="make demo", theme=MONOKAI, code_format=FORMAT)


if __name__ == "__main__":
    main()
