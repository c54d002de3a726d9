# not --model-control-mode=explicit
tritonserver --model-control-mode=none
