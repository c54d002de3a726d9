class TritonPythonModel:
    def __init__(self, args):
        pass

    def execute(self, requests):
        return []
