"""The page of a search: its tables and figures, from data frames alone."""
