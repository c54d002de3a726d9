import triton_python_backend_utils as pb_utils


def answer(request):
    value = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
    return pb_utils.InferenceResponse([pb_utils.Tensor("Y", value)])


class TritonPythonModel:
    def execute(self, requests):
        return [answer(request) for request in requests]
