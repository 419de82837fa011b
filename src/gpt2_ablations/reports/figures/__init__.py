# The most rows in a figure. With more, figures are unreadable, and each row takes about a second to draw.
MOST_ROWS = 60
