"""backchain: see a disk's backing chain, know what an operation would do to it, and watch it happen.

The library without a screen. Data goes one way: files -> ImageInfo -> ChainGraph -> (Operation) -> Plan ->
Engine.run -> Job; when a job has ended the graph is read anew.
"""

__version__ = "0.1.0"
