"""Fair comparisons of configs: the same data, order, augmentation and start, several seeds, intervals, one report.

* `plan`: which runs there are, whether the configs may be compared, what is finished;
* `steps`: what is noted of each step;
* `worker`: one run, from start weights to its record; `execute`: all that are missing;
* `records`: what is kept of a finished run, a JSON file of some tens of kilobytes;
* `report`: mean, spread, paired differences and cost, from records alone.
"""
