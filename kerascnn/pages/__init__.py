"""Pages made from run folders: one HTML file each, which loads nothing from anywhere."""
