"""Fair comparisons of configs: the same data, order, augmentation and start, several seeds, intervals, one report.

* `plan`: which runs there are, whether the configs may be compared, what is finished;
* `draws`: every image, augmentation and random number of a step decided by seed and step alone;
* `worker`: one run, from start weights to its record;
* `records`: what is kept of a finished run, a JSON file of some tens of kilobytes;
* `report`: mean, spread, paired differences and cost, from records alone.
"""
