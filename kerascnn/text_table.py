"""Rows of text in columns, as the command line, a layer table and a check of data print them."""


def text_table(header, rows, align="", width=None):
    """Columns under their names and a line, as text without an end of line.

    Args:
        header: the columns' names.
        rows: tuples of text.
        align: "l" or "r" for each column; those that it does not reach are "l".
        width: characters of a line; longer cells are folded; None: as wide as they are.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name, side in zip(header, align.ljust(len(header), "l"), strict=True):
        table.add_column(name, justify="left" if side == "l" else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, highlight=False, color_system=None, width=width or 10_000)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())
