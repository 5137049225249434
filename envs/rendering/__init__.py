"""Pictures without a graphics card: meshes, rays through embree, and shading in NumPy."""
