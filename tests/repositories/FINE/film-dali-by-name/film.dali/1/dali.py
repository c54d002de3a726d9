import nvidia.dali as dali
from nvidia.dali.plugin.triton import autoserialize


@autoserialize
@dali.pipeline_def(batch_size=1, num_threads=1, device_id=0)
def film():
    return dali.fn.experimental.inputs.video(name="FILM", sequence_length=4, device="mixed")
