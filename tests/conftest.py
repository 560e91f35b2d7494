pytest_plugins = ["tests.support.stores", "tests.support.tally", "tests.support.evidence", "tests.support.seed"]
