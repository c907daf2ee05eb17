"""The program language: terms as data, one row per operator, and the meanings derived from the rows."""
