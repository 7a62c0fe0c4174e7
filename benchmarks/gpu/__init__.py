"""What a training and the detector do on a GPU, in the minutes for which one was lent.

`python -m benchmarks gpu` is `command.main`. Nothing here needs a package of the project before a part that uses it is
measured: `parts` says which.
"""
