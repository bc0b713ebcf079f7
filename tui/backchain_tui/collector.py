"""Python's garbage collector, kept out of the way of the screen, and of short commands.

What the program imports (Textual, numpy, networkx: more than 100,000 objects) lives until its end. A full collection
looks at all of it and finds nothing, in 50 to 75 ms here; it came six times within the first 16 seconds: twice amid the
imports, when the user waits for the first paint, and then every three seconds while a job runs, as every frame makes
thousands of small objects. So nothing is collected until all is imported, and then what is there is put aside; what
comes later is collected as ever, in a moment. A command that reads is over by then: it collects nothing at all, which
was a tenth of the time of `graph`.

Only the program itself does this, as the collector belongs to the whole process.
"""

from __future__ import annotations

import gc


def hold() -> None:
    """Collect nothing until `resume`."""
    gc.disable()


def resume() -> None:
    """Put aside what there is now and collect what comes from now on; of no effect unless `hold` came before."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
