"""What a command says where the user, not the program, is to act."""

from __future__ import annotations

import pytest

from attn_mm.errors import UserError, reports_user_errors, resumable


def test_mistakes_and_interruptions_are_one_line_each(capsys):
    @reports_user_errors
    def main(error):
        raise error

    @reports_user_errors
    def main_that_goes_on():
        with resumable():
            raise KeyboardInterrupt

    goes_on = "interrupted: repeat the command to continue where it stopped"
    for run, status, line in (
        (lambda: main(UserError("no such file")), 2, "error: no such file"),
        (lambda: main(KeyboardInterrupt()), 130, "interrupted"),
        (main_that_goes_on, 130, goes_on),
    ):
        with pytest.raises(SystemExit) as end:
            run()
        assert end.value.code == status
        assert capsys.readouterr().err == line + "\n"
    with pytest.raises(ZeroDivisionError):
        main(ZeroDivisionError())
