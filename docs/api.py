"""The Python interface as web pages, from its docstrings: ``python docs/api.py FOLDER``, then FOLDER/index.html."""

import sys
from pathlib import Path

import pdoc

import negspike

for name in negspike.__all__:  # found when they are asked for; pdoc looks at what is there
    setattr(negspike, name, getattr(negspike, name))
pdoc.render.configure(docformat="google", show_source=False)
pdoc.pdoc("negspike", output_directory=Path(sys.argv[1]))
