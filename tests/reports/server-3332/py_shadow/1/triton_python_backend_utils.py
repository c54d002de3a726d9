import numpy as np


def get_input_tensor_by_name(request, name):
    return np.zeros(1)
