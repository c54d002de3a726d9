def get_input_tensor_by_name(inference_request, name):
    return None
