class TritonPythonModel:
    def __init__(self, more=1):
        pass

    def initialize(self, *args):
        pass

    def execute(self, requests):
        return []
