#!/bin/sh
exec tritonserver --model-repository . \
  --model-control-mode explicit
