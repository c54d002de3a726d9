class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_output({"name": "z", "data_type": "TYPE_FP32", "dims": [4]})
        return config

    def execute(self, requests):
        return [None for _ in requests]
