"""A hyperparameter search and experiment-tracking platform for GPTs."""

import os

# numpy's matrices are small here, and its threads, which spin while they wait, would take the trials' cores
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
