"""How predictions combine: votes, calibration, class mixes, decoders and scores; no torch, no files."""
