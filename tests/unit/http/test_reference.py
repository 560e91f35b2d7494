from docs.generate import outdated


def test_the_generated_pages_say_what_the_code_says() -> None:
    assert outdated() == [], "run `python -m docs.generate`"
