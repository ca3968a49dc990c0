"""Experiments that answer one question each, as a plot and a table on the real images.

Every one trains small networks on a part of the training images and judges them on 10,000 held-out ones: the
default sizes take minutes on two cores, and the test set is never read.

    catalogue.py   their names, questions and default sizes
    lab.py         what a study works with: images, trainings, several seeds
    run.py         the study command: one study into its folder, with its table
    and a file for each study, which draws it
"""
