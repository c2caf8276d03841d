"""What is said to the user."""

from stmulnet.console import counted


def test_numbers_and_nouns_agree() -> None:
    assert [counted(number, "video") for number in (0, 1, 2)] == ["0 videos", "1 video", "2 videos"]
    assert [counted(number, "class", "classes") for number in (1, 3)] == ["1 class", "3 classes"]
