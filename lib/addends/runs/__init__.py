"""From sentences to tables: corpora, made-up languages, training, quality, measurements, published results."""
