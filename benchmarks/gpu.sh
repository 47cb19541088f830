#!/usr/bin/env bash
# Exactness and speed of sampling on a GPU.
#
#   benchmarks/gpu.sh prepare      where there is a network: put what the GPU machine may lack into $GPU_SITE
#   benchmarks/gpu.sh [options]    where the GPU is: run gpu.py (its options; see there), results in $OUT
#   benchmarks/gpu.sh test         where the GPU is: the tests that need one (needs pytest there)
#
# The GPU machine needs torch (with CUDA) and numpy, no network. nflows and pydantic may come in $GPU_SITE, a
# folder that is copied there along with the repository; packages that are installed there win over it.
# Without a GPU one line says so, and the exit status is 0.
#
#   PYTHON    interpreter, default python3
#   GPU_SITE  default build/gpu_site (ignored by git, about 25 MB)
#   OUT       default build/gpu
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-python3}
export GPU_SITE=${GPU_SITE:-build/gpu_site} OUT=${OUT:-build/gpu}

prepare() {
    rm -rf "$GPU_SITE"
    mkdir -p "$GPU_SITE"
    "$PYTHON" -m pip install --quiet --no-deps --target "$GPU_SITE" nflows
    # The compiled part of pydantic for every Python that the GPU machine may have, side by side.
    for version in 3.11 3.12 3.13 3.14; do
        "$PYTHON" -m pip install --quiet --upgrade --target "$GPU_SITE/$version" --python-version "$version" \
            --platform manylinux2014_x86_64 --only-binary :all: 'pydantic>=2.10,<3'
        cp -R "$GPU_SITE/$version/." "$GPU_SITE"
        rm -r "${GPU_SITE:?}/$version"
    done
    # nflows imports matplotlib for a plot that nothing here draws.
    mkdir -p "$GPU_SITE/matplotlib"
    touch "$GPU_SITE/matplotlib/__init__.py" "$GPU_SITE/matplotlib/pyplot.py"
    find "$GPU_SITE" -name __pycache__ -type d -prune -exec rm -rf {} +
    du -sh "$GPU_SITE"
}

case ${1:-} in
prepare) prepare ;;
test)
    shift
    PYTHONPATH=$PWD:$PWD/$GPU_SITE exec "$PYTHON" -m pytest --confcutdir=tests/flows -p no:cacheprovider \
        tests/flows/test_cuda_graph.py tests/flows/test_triton_spline.py "$@"
    ;;
*) exec "$PYTHON" benchmarks/gpu.py --out "$OUT" "$@" ;;
esac
