"""UnitySpatial: rooms in which three objects are moved about, pictures of them, and words for what stands where."""
