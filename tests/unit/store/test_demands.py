from broker.store.demands import shared_out


def test_a_share_that_others_do_not_want_goes_to_those_that_want_more() -> None:
    assert shared_out([900, 1], 1_000) == [900, 1]
    assert shared_out([900, 1, 900], 1_000) == [499, 1, 500]
    assert shared_out([0, 5], 4) == [0, 4]
    assert shared_out([], 4) == []
