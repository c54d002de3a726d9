import nvidia.dali
