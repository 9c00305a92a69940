"""Which encoder to use on which kind of game, with what certainty: suites, results that only grow, aggregates, reports."""
