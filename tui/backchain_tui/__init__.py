"""backchain on a terminal: the command line and the screen, on top of the library `backchain`."""
