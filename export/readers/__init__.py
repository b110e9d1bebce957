"""Scripts that read an exported file at the other side; each stands alone and travels with the file."""
