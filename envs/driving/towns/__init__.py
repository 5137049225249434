"""Towns of our own as OpenDRIVE 1.4 files, ``<town>.xodr``; ``write_towns`` is the program that writes them."""
