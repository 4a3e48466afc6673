"""One module per chat format; each ends in the same threads (see `jaegpt.exports.reader`)."""
