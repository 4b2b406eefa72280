from specmeasure.brief.names import listed, plain, shortened


def test_control_characters_never_reach_a_terminal():
    """Escape sequences, bidi overrides and line breaks lose their power."""
    assert "a [31m b c" == plain("a\x1b[31m\n\u202eb\tc")


def test_scripts_keep_their_letters():
    """Other scripts and their joiners are names like any other."""
    name = "翻訳 न\u200dम"

    assert name == plain(name)


def test_long_names_keep_both_ends():
    """The end of a path says most, its start where it is."""
    assert "draft:/srv…-name k=4" == shortened("draft:/srv/models/long-name k=4", at_most=20)


def test_short_names_stay():
    """What fits is not touched."""
    assert "code" == shortened("code")


def test_listed():
    """One, two, many and too many."""
    assert "a" == listed(["a"])
    assert "a and b" == listed(["a", "b"])
    assert "a, b and c" == listed(["a", "b", "c"])
    assert "a and 2 more" == listed(["a", "b", "c"], at_most=1)
