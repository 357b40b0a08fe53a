"""The commands, by topic; `kerascnn.cli` puts them together. Keras is imported only by those that compute."""
