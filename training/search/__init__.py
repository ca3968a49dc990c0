"""Hyperparameter search on the validation split, with Optuna's storage; the test set is never read.

A search is a plan: the whole grid, or so many random draws, written into an Optuna study before the first
trial. Every process that is started with the same command takes trials off the plan until none is left, so
that any number of processes or machines can work on one search, and a killed one is simply started again.

    space.py     the words of --grid and --random become fields with choices or ranges, and those a plan
    study.py     the Optuna study: planned once, shared, worked off, revived after a kill
    trial.py     one trial: a recipe trained, its figures put into the study
    results.py   what came of it: tables, the plot of the trials, the best recipe
"""
