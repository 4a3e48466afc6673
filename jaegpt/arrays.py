"""The types of NumPy's arrays, by what they hold."""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Ints32 = npt.NDArray[np.int32]  # token ids and lengths as the tables hold them
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Words = npt.NDArray[np.uint64]  # 64 bits each: hashes, and what is drawn from them
Strings = npt.NDArray[np.str_]
