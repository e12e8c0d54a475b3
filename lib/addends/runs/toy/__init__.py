"""Made-up languages: parallel sentences by seed, for tests and for runs that need no corpus, and the suite on them."""
