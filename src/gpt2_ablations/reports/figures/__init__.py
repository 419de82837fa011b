# More rows would make pictures that nobody can read and some programs cannot open, and take a second each.
MOST_ROWS = 60
