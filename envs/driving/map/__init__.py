"""What does not move: OpenDRIVE text to the tables and the raster of a town."""
