"""`python -m rung3`: the command `rung3`, where its folder is not on the path."""

from rung3.cli.commands import app

if __name__ == "__main__":
    app(prog_name="python -m rung3")
