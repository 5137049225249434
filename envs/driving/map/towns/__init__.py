"""Towns of our own as OpenDRIVE 1.4 files, ``<town>.xodr``: declared in `plans`, written by `write_towns`."""
