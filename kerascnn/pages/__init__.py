"""Pages made from run folders: one HTML file each, which loads no other files."""
