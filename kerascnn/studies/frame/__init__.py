"""What every study shares: its values, the runner, the arithmetic of verdicts, and the page."""
