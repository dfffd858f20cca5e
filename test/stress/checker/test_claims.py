"""Plays about what probes find."""

from checker.play import CheckerTest


class Claims(CheckerTest):
    """Something is looked at."""

    def test_as_promised(self) -> None:
        self.one.call("claim", "calm", {"what": "bodies"},
                      result={"found": None})
        results = self.clean()
        self.assertEqual(results["found_as_promised"].checked, 1)

    def test_otherwise(self) -> None:
        self.one.call("claim", "calm", {"what": "bodies"},
                      result={"found": "something else"})
        self.violates("found_as_promised")
