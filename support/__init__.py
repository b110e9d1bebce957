"""What every room needs once: safe reading and writing, near names, whole numbers, versions."""
