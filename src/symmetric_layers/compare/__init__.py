"""`symmetric-layers compare`: a plain network and its mirrored twins, trained on real data and measured."""
