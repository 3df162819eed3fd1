"""What every error of ours says: one sentence, of bearable length."""

from flows.errors import InputError


def test_of_an_endless_sentence_the_middle_is_left_out() -> None:
    """A value of a file may be as long as the file; what to do stands at the end."""
    said = str(InputError(f"a.yml: text was required, however {'x' * 100_000} came; shorten it"))

    assert len(said) < 4_000
    assert said.startswith("a.yml: text was required, however xxx")
    assert said.endswith("xxx came; shorten it")
