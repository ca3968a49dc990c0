"""What the course material prints, beside what this code gives.

material.py    the printed figures
outcome.py     what a row gets to work with, and the table that it gives
networks.py    the rows that train a network of a recipe
blackboard.py  the rows that NumPy alone answers
run.py         the command: each row's table on the console and on a page
"""
